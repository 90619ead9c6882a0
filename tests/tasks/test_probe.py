"""The serving probe: what passes every other rule and does not serve is found out in a process of its own, whatever it does there."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tasks import probe, rehearsal, settings
from tasks.evidence import Probe, Rule
from tasks.stores import kept
from tests.landing import toy_rows
from tests.stored import Stored, amounts_rows, sorts_rows, store
from tests.waiting import until

MINE = '''
"""A regression with an estimator of the file's own."""

import os
import signal

import numpy as np
import pandas as pd
import pandera.polars as pa
from sklearn.base import BaseEstimator, RegressorMixin

from tasks.spec import Candidate, Gate, Holdout, Pipeline


class Rows(pa.DataFrameModel):
    """One row."""

    x: float = pa.Field(nullable=True)
    word: str
    y: float


class Plain(RegressorMixin, BaseEstimator):
    """Twice the number, 1 where it is missing."""

    def fit(self, features, target):
        self.factor_ = 2.0
        return self

    def predict(self, features):
        return self.factor_ * features["x"].fillna(0.5).to_numpy()


class Relative(Plain):
    """Compares the rows of a batch with each other."""

    def predict(self, features):
        found = super().predict(features)
        return found - found.mean()


class Holes(Plain):
    """Has no answer where the number is missing."""

    def predict(self, features):
        return self.factor_ * features["x"].to_numpy()


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Give both."""
    return rows[["x", "word"]]


PIPELINE = Pipeline(
    name="mine", kind="regression", contract=Rows, target="y", features=features,
    candidates=[Candidate("plain", Plain())], holdout=Holdout(rows=50), gate=Gate(metric="mae"),
)
'''


def mine_rows(count: int = 200) -> pl.DataFrame:
    x = pl.Series("x", [place / 7 for place in range(count)])
    return pl.DataFrame({"x": x, "word": ["a", "b"] * (count // 2), "y": 2 * x})


@pytest.fixture
def mine(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stored]:
    """Store a model of the pipeline above; its candidate is an estimator of the name given, and `definition` is what travels with it."""

    def made(estimator: str = "Plain", definition: str = "", spoil: Callable[[Any], Any] = lambda model: model) -> Stored:
        monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
        (tmp_path / "own").mkdir(exist_ok=True)
        (tmp_path / "own" / "mine.py").write_text(MINE.replace('Candidate("plain", Plain())', f'Candidate("plain", {estimator}())'))
        return store("mine", mine_rows(), tmp_path / "stored", unseen=60, spoil=spoil, definition=definition)

    return made


def examined(stored: Stored, into: Path, **gate: Any) -> Probe:
    pipeline = replace(stored.pipeline, gate=replace(stored.pipeline.gate, **gate))
    with probe.standby(into) as process:
        return probe.examine(pipeline, stored.candidate, stored.fitted, stored.prepared, process)


def failed(found: Probe) -> dict[str, str]:
    return {rule.name: rule.sentence for rule in found.rules if not rule.passed}


def rule(found: Probe, name: str) -> Rule:
    return next(rule for rule in found.rules if rule.name == name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [("toy", toy_rows(400)), ("sorts", sorts_rows()), ("amounts", amounts_rows())])
def test_a_sound_model_of_each_kind_passes_and_is_measured(home: Path, tmp_path: Path, name: str, rows: pl.DataFrame) -> None:
    stored = store(name, rows, tmp_path)
    found = examined(stored, tmp_path / "probe", max_latency_ms=10_000, max_memory_mb=10_000, max_artifact_mb=10)
    assert failed(found) == {}
    assert [rule.name for rule in found.rules] == [
        "probe_loads",
        "probe_same_as_trained",
        "probe_one_by_one",
        "probe_any_order",
        "probe_finite",
        "probe_schema",
        "probe_edge_rows",
        "latency",
        "memory",
        "artifact_size",
    ]
    assert found.requests == 150
    assert found.p50_ms is not None
    assert found.p99_ms is not None
    assert 0 < found.p50_ms <= found.p99_ms
    assert found.memory_mb is not None
    assert 50 < found.memory_mb < 2_000
    assert found.load_seconds is not None
    assert kept.verified(stored.candidate.sha256), "loading has changed the copy"


@pytest.mark.slow
def test_rows_are_checked_at_the_edges_that_the_contract_lets_through_and_high_costs_fail(
    mine: Callable[..., Stored], tmp_path: Path
) -> None:
    found = examined(mine(), tmp_path / "probe", max_latency_ms=0.001, max_memory_mb=1, max_artifact_mb=0.0001)
    assert failed(found).keys() == {"latency", "memory", "artifact_size"}
    assert "more than the 0.001 allowed" in failed(found)["latency"]
    assert rule(found, "memory").figure == found.memory_mb
    assert "finite answers for 2 edge rows (x missing, word unseen)" in rule(found, "probe_edge_rows").sentence
    assert "lets nobody ask for word missing" in rule(found, "probe_edge_rows").sentence


@pytest.mark.slow
def test_a_model_whose_answer_depends_on_the_batch_is_named(mine: Callable[..., Stored], tmp_path: Path) -> None:
    found = examined(mine("Relative"), tmp_path / "probe")
    assert "25 rows asked for one by one do not get what they get in a batch" in failed(found)["probe_one_by_one"]


@pytest.mark.slow
def test_a_model_without_an_answer_to_a_missing_value_is_named(mine: Callable[..., Stored], tmp_path: Path) -> None:
    found = examined(mine("Holes"), tmp_path / "probe")
    assert failed(found).keys() == {"probe_edge_rows"}
    assert "x missing: an undefined or infinite prediction" in failed(found)["probe_edge_rows"]


@pytest.mark.slow
def test_another_model_under_its_own_digest_is_not_the_one_that_was_trained(mine: Callable[..., Stored], tmp_path: Path) -> None:
    def other(model: Any) -> Any:
        model.factor_ = 2.001
        return model

    found = examined(mine(spoil=other), tmp_path / "probe")
    assert failed(found).keys() == {"probe_same_as_trained"}
    assert "60 differ" in failed(found)["probe_same_as_trained"] or "59 differ" in failed(found)["probe_same_as_trained"]
    assert rule(found, "probe_same_as_trained").figure == pytest.approx(0.0005, rel=1e-6)


@pytest.mark.slow
def test_features_that_travel_and_are_others_than_those_of_the_training_are_found_out(mine: Callable[..., Stored], tmp_path: Path) -> None:
    definition = MINE.replace('rows[["x", "word"]]', 'rows[["x", "word"]].assign(x=rows["x"] + 1)')
    assert "probe_same_as_trained" in failed(examined(mine(definition=definition), tmp_path / "probe"))


@pytest.mark.slow
def test_bytes_that_are_not_those_of_the_digest_are_never_loaded(
    mine: Callable[..., Stored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = mine()
    place = kept.place(stored.candidate.sha256)
    monkeypatch.setattr("tasks.stores.models._fetch", lambda uri, wanted: place)  # as if it were changed between fetching and loading
    (place / "pipeline.py").write_text(MINE.replace("0.5", "0.6"))
    found = examined(stored, tmp_path / "probe", max_latency_ms=1_000, max_memory_mb=1_000)
    assert {rule.name for rule in found.rules if rule.passed} == set()
    assert "its files are not those of digest" in failed(found)["probe_loads"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("import signal\n", "import signal\nimport not_installed_here\n", "No module named 'not_installed_here'"),
        ("    return rows[[", "    os._exit(7)\n    return rows[[", "exit code 7"),
        ("    return rows[[", "    os.kill(os.getpid(), signal.SIGKILL)\n    return rows[[", "ended by SIGKILL"),
    ],
)
def test_a_definition_that_does_not_serve_fails_with_its_reason(
    mine: Callable[..., Stored], tmp_path: Path, old: str, new: str, says: str
) -> None:
    assert old in MINE
    found = examined(mine(definition=MINE.replace(old, new)), tmp_path / "probe", max_latency_ms=1_000)
    assert {"probe_same_as_trained", "probe_one_by_one", "probe_any_order", "probe_finite", "probe_edge_rows", "latency"} <= failed(
        found
    ).keys()
    assert says in failed(found)["probe_same_as_trained"]


@pytest.mark.slow
def test_one_that_hangs_is_killed_at_the_time_limit(mine: Callable[..., Stored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "TIME_LIMIT", 4)
    definition = MINE.replace("    return rows[[", "    import time; time.sleep(600)\n    return rows[[")
    found = examined(mine(definition=definition), tmp_path / "probe")
    assert "did not end within 4 seconds" in failed(found)["probe_same_as_trained"]


def test_the_trained_model_itself_may_fail_and_that_is_told(mine: Callable[..., Stored], tmp_path: Path) -> None:
    stored = mine()
    Path(stored.fitted.uri).write_bytes(b"nonsense")
    found = examined(stored, tmp_path / "probe")
    assert all(not rule.passed for rule in found.rules)
    assert "before it was asked" in failed(found)["probe_loads"]


@pytest.mark.parametrize(
    ("mode", "says"),
    [("hang", "did not end within 2 seconds"), ("die", "ended by SIGKILL"), ("give up", "exit code 1, last it wrote: I give up")],
)
def test_a_process_that_does_not_end_well_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, says: str) -> None:
    monkeypatch.setattr(probe, "_CHILD", "tests.misbehaving")
    (tmp_path / "mode").write_text(mode)
    with probe.standby(tmp_path, {}) as process:
        assert says in (probe.ask(process, 2) or "")


@pytest.mark.parametrize("mode", ["hang", "orphan"])
def test_nothing_that_the_process_started_outlives_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(probe, "_CHILD", "tests.misbehaving")
    (tmp_path / "mode").write_text(mode)
    with probe.standby(tmp_path, {}) as process:
        probe.ask(process, 2)
    child = int((tmp_path / "child").read_text())
    until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_one_that_dies_while_it_waits_fails_with_the_reason(mine: Callable[..., Stored], tmp_path: Path) -> None:
    stored = mine()
    with probe.standby(tmp_path / "probe") as process:
        os.kill(process.pid, signal.SIGKILL)
        found = probe.examine(stored.pipeline, stored.candidate, stored.fitted, stored.prepared, process)
    assert {rule.name for rule in found.rules if rule.passed} == set()
    assert "it was ended by SIGKILL" in failed(found)["probe_loads"]


def test_the_time_limit_begins_with_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_CHILD", "tests.misbehaving")
    (tmp_path / "mode").write_text("wait")
    with probe.standby(tmp_path, {}) as process:
        until((tmp_path / "child").exists)
        time.sleep(1.5)
        assert probe.ask(process, 1) is None


def test_a_process_that_is_not_needed_is_ended_with_the_block(tmp_path: Path) -> None:
    with probe.standby(tmp_path, {}) as process:
        assert _runs(process.pid)
    assert not _runs(process.pid)
    assert process.returncode == -signal.SIGKILL


def test_a_process_that_waits_ends_by_itself_when_the_one_who_would_have_asked_is_killed(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time\n"
        "waits = subprocess.Popen([sys.executable, '-m', 'tasks.rehearsal', sys.argv[1]], stdin=subprocess.PIPE, start_new_session=True)\n"
        "print(waits.pid, flush=True)\ntime.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, cwd=Path(probe.__file__).parents[1], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        waiting = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not _runs(waiting))
    assert "nobody was left to ask it" in (tmp_path / "answer.jsonl").read_text()


def test_it_ends_too_where_somebody_else_holds_the_pipe_open(monkeypatch: pytest.MonkeyPatch) -> None:
    parents = iter([7, 7, 1])
    reader, writer = os.pipe()
    monkeypatch.setattr("os.getppid", lambda: next(parents))
    monkeypatch.setattr(rehearsal, "LOOK", 0.01)
    with os.fdopen(reader) as stdin, os.fdopen(writer, "w"):
        monkeypatch.setattr("sys.stdin", stdin)
        assert not rehearsal.asked()


def test_the_process_gets_no_address_and_no_password(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_SECRET_ACCESS_KEY", "RATCHET_LEDGER_URL", "PYTHONPATH"):
        monkeypatch.setenv(name, "http://localhost:1")
    given = settings.serving_environment()
    assert {name for name in given if not name.startswith(("RATCHET_", "OMP", "OPENBLAS", "POLARS"))} <= {"PATH", "HOME", "LANG", "TZ"}
    assert "localhost" not in str(given)
    assert given["RATCHET_HOME"] == str(home)


def test_golden_requests_are_spread_and_few() -> None:
    places = probe.golden_places(100_000)
    assert (len(places), places[0], places[-1]) == (200, 0, 99_999)


def test_prefect_and_mlflow_are_not_needed_to_serve() -> None:
    code = "import sys, tasks.rehearsal; print(sorted({'mlflow', 'prefect', 'sqlalchemy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(probe.__file__).parents[1], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
