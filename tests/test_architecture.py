"""Who may import whom, and how large things may grow: the house rules, read from the source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("flows", "tasks", "deployments", "infra")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BASE = {
    "tasks.addresses",
    "tasks.crash",
    "tasks.triggers",
    "tasks.spec",
    "tasks.gates",
    "tasks.services",
    "tasks.sources",
    "tasks.budget",
    "tasks.evidence",
    "tasks.records",
    "tasks.scorings",
    "tasks.errors",
    "tasks.settings",
}
PARTS = {
    "tasks.admission",
    "tasks.against",
    "tasks.answering",
    "tasks.card",
    "tasks.charts",
    "tasks.blocks",
    "tasks.boosting",
    "tasks.contract",
    "tasks.curves",
    "tasks.document",
    "tasks.drift",
    "tasks.effects",
    "tasks.estimates",
    "tasks.facts",
    "tasks.formats",
    "tasks.frames",
    "tasks.golden",
    "tasks.intervals",
    "tasks.labels",
    "tasks.metrics",
    "tasks.notices",
    "tasks.ordering",
    "tasks.page",
    "tasks.parts",
    "tasks.predicted",
    "tasks.plots",
    "tasks.provenance",
    "tasks.ranks",
    "tasks.resample",
    "tasks.sample",
    "tasks.served",
    "tasks.scored",
    "tasks.serving",
    "tasks.staging",
    "tasks.sums",
    "tasks.wording",
}
VERBS = {f"tasks.{path.stem}" for path in (ROOT / "tasks").glob("*.py")} - BASE - PARTS - {"tasks.__init__"}
OWNERS = {
    "boto3": {"tasks.stores.s3", "tasks.stores.sqs"},
    "botocore": {"tasks.stores.s3", "tasks.stores.sqs"},
    "mlflow": {"tasks.stores.models", "tasks.stores.tracking"},
    "skops": {"tasks.stores.kept"},
    "deltalake": {"tasks.stores.delta", "tasks.stores.journal", "tasks.stores.lake"},
    "sqlalchemy": {
        "tasks.stores.ledger.schema",
        "tasks.stores.ledger.access",
        "tasks.stores.ledger.arrivals",
        "tasks.stores.ledger.cycles",
        "tasks.stores.ledger.decisions",
        "tasks.stores.ledger.histories",
        "tasks.stores.ledger.leases",
        "tasks.stores.ledger.champions",
        "tasks.stores.ledger.outbox",
        "tasks.stores.ledger.proposals",
        "tasks.stores.ledger.receipts",
        "tasks.stores.ledger.servers",
        "tasks.stores.ledger.scorings",
    },
    "typer": {"deployments.command"},
}


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Name what a file imports, with `from a import b` as a.b where that is a module of ours, else as a."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (
                    inner
                    if (ROOT / inner.replace(".", "/")).with_suffix(".py").exists() or (ROOT / inner.replace(".", "/")).is_dir()
                    else node.module
                )


def allowed(name: str, target: str) -> bool:
    """Tell whether module `name` of ours may import module `target` of ours."""
    package = target.partition(".")[0]
    if name in BASE:
        return target in BASE
    if name in PARTS:
        return target in BASE | PARTS
    if name.startswith("tasks.stores"):
        return target in BASE or target.startswith("tasks.stores")
    if name in VERBS:
        return target in BASE | PARTS or target.startswith("tasks.stores")
    if name.startswith("flows.pipelines."):
        return target == "tasks.spec"
    if name.startswith("flows"):
        return package in ("tasks", "flows", "infra")
    if name.startswith("infra"):
        return target in ("tasks.settings", "tasks.errors") or package == "infra"
    return True


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_module_imports_only_what_its_place_in_the_house_allows(path: Path) -> None:
    ours = {target for target in imports(path) if target.partition(".")[0] in PACKAGES and target not in ("tasks", "flows")}
    forbidden = {target for target in ours if not allowed(module(path), target)}
    assert not forbidden, f"{module(path)} imports {sorted(forbidden)}"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_an_outside_system_has_one_importer(path: Path) -> None:
    used = {target.partition(".")[0] for target in imports(path)}
    foreign = {library for library in used & OWNERS.keys() if module(path) not in OWNERS[library]}
    assert not foreign, f"{module(path)} imports {sorted(foreign)}"


@pytest.mark.parametrize("path", sorted((ROOT / "flows" / "pipelines").glob("[!_]*.py")), ids=module)
def test_a_pipeline_needs_only_the_spec_pandas_scikit_learn_and_pandera(path: Path) -> None:
    roots = {target.partition(".")[0] for target in imports(path)}
    assert roots <= {"tasks", "pandas", "numpy", "sklearn", "pandera"} | set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    long = [f"{node.name}: {lines(node)}" for node in functions if lines(node) > 40]
    assert not long


def lines(function: ast.FunctionDef) -> int:
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_the_median_function_is_under_ten_lines_and_few_are_over_thirty() -> None:
    sizes = sorted(lines(node) for path in FILES for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
    assert sizes[len(sizes) // 2] < 10
    assert sum(size > 30 for size in sizes) <= 5


@pytest.mark.parametrize("path", FILES, ids=module)
def test_public_names_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    kinds = (ast.FunctionDef, ast.ClassDef)
    bare = [node.name for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_") and not ast.get_docstring(node)]
    assert not bare


def test_the_top_level_holds_nothing_else() -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    assert folders - {"__pycache__", "build", "dist"} == {"flows", "tasks", "deployments", "infra", "tests"}
    files = {path.name for path in ROOT.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert files == {"pyproject.toml", "README.md", "CHANGELOG.md", "Makefile", "requirements.lock"}


def test_delta_tables_are_never_read_in_the_way_that_can_abort_the_process() -> None:
    banned = ("to_pyarrow_table", "to_pyarrow_dataset")
    assert not [module(path) for path in FILES if any(name in path.read_text() for name in banned)]


def test_the_environment_is_read_in_one_place() -> None:
    readers = {module(path) for path in FILES if "os.environ" in path.read_text() or "os.getenv" in path.read_text()}
    # the others write to it: telemetry off before the libraries are imported, and servers for the block of a flow
    assert readers <= {"tasks.settings", "tasks", "flows", "flows.embedded", "deployments.command", "infra.process"}


def test_the_lock_has_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = [line for line in lock.splitlines() if "==" in line]
    assert len(pinned) > 50
    assert all(line.rstrip().endswith("\\") for line in pinned)
