"""Which servers belong to `ratchet up`, and what the status says of servers."""

import importlib
import sys
from pathlib import Path

import pytest

from deployments import service, serving
from flows import pipelines
from tasks.stores import ledger


@pytest.fixture
def own(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def write(own: Path, name: str, more: str) -> None:
    text = (Path(__file__).parents[1] / "pipelines" / "sorts.py").read_text()
    text = text.replace("import Candidate,", "import Serving, Candidate,").replace('name="sorts",', f'name="{name}",{more}')
    (own / f"{name}.py").write_text(text)


def test_a_pipeline_that_names_a_port_is_served_by_the_stack_and_others_are_not(own: Path) -> None:
    write(own, "first", "serving=Serving(port=8123),")
    write(own, "second", "serving=Serving(workers=2),")
    write(own, "third", "serving=Serving(port=70000),")
    (found,) = service.wanted()
    assert found.name == "serve-first"
    assert found.command == (sys.executable, "-m", "deployments.command", "serve", "first", "--port", "8123")


def test_a_server_of_another_port_is_another_version_of_it(own: Path) -> None:
    write(own, "first", "serving=Serving(port=8123),")
    (before,) = service.wanted()
    write(own, "first", "serving=Serving(port=8124),")
    assert "first" in pipelines.names()
    (after,) = service.wanted()
    assert before.version != after.version


def test_the_status_shows_servers_elsewhere_and_none_that_died_here(home: Path) -> None:
    state = {
        "ready": True,
        "version": 3,
        "refused": None,
        "trial": None,
        "ledger": "answers",
        "hung": 0,
        "log": {"written": 2, "dropped": 0},
    }
    ledger.beat("sorts", "elsewhere/12/34", "http://10.0.0.1:8000", state)
    ledger.beat("sorts", ledger.holder().rpartition("/")[0] + "/1", "http://127.0.0.1:8000", state)
    assert [(one["server"], one["quiet"], one["state"]["version"]) for one in serving.servers("sorts")] == [("elsewhere/12/34", False, 3)]
    ledger.beat("sorts", "elsewhere/12/34", "http://10.0.0.1:8000", {**state, "hung": 2, "refused": {"version": 4, "why": "other bytes"}})
    (one,) = serving.servers("sorts")
    assert serving.note(one) == "version 4 is refused: other bytes; 2 predictions hang"
    ledger.leave("sorts", "elsewhere/12/34")
    assert serving.servers("sorts") == []


def test_only_the_newest_steps_are_kept_but_what_was_withdrawn_stays_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("tasks.stores.ledger.servers"), "KEPT", 5)
    assert ledger.withdraw("sorts", 2, 2, "here", "it was slow")
    assert not ledger.withdraw("sorts", 2, 2, "there", "it was slow")
    for version in range(3, 12):
        ledger.note_step("served", "sorts", version, version, "here")
    assert [step.version for step in ledger.steps("sorts", 100)] == [11, 10, 9, 8, 7, 2]
    assert ledger.withdrawn("sorts", 2) == "it was slow"
    assert ledger.withdrawn("sorts", 3) is None
