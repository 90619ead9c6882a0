# Everything is set up inside .venv; a target that needs it sets it up first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
UV     := $(BIN)/uv

.DEFAULT_GOAL := help
.PHONY: help run test lint lock bench simulate chaos clean setup packages
SEEDS  ?= 20
FIRST  ?= 1
SIEGES ?= 2

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

setup: $(READY) ## make the virtual environment from requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Ratchet needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; call make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --requirement .ci/uv.lock
	$(UV) pip install --quiet --system-certs --python $(BIN)/python --require-hashes --compile-bytecode --requirement requirements.lock \
		|| $(BIN)/python -m pip install --quiet --require-hashes --no-deps --requirement requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(READY)

packages: ## install the Debian packages that some tests use, where that is possible
	@sh .ci/packages

run: $(READY) ## set up, then run the demo: a stream lands, is trained on, compared and decided on
	$(BIN)/ratchet demo

test: $(READY) packages ## set up, then run the linters and all tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

lock: $(READY) ## resolve pyproject.toml anew into requirements.lock (hashes, no index address)
	$(UV) pip compile --quiet --system-certs --universal --python-version 3.11 --upgrade --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--group dev pyproject.toml --output-file requirements.lock

bench: $(READY) ## measure against the floor, in one run, and print the ratios
	$(BIN)/python -m tests.benchmarks

simulate: $(READY) ## play thousands of streams of decisions on equal and on better models: how often wrong, how soon right
	$(BIN)/python -m tests.simulation

chaos: $(READY) packages ## play SEEDS=20 stories of faults from seed FIRST=1 and SIEGES=2 sieges, on SQLite and PostgreSQL, and check what is left
	$(BIN)/python -m tests.chaos --seeds $(SEEDS) --first $(FIRST) --sieges $(SIEGES)

clean: ## remove the environment, caches and the demo's home (stops the embedded servers first)
	-@test -x $(BIN)/ratchet && $(BIN)/ratchet down
	rm -rf $(VENV) .ratchet .pytest_cache .mypy_cache .ruff_cache .hypothesis .bench
