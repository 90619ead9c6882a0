"""What lands at the second source is scored once, by one version, and all of it is on record; so is what is named by hand."""

import subprocess
import sys
from pathlib import Path

import httpx
import polars as pl
import pytest

from flows import pipelines
from flows.scoring import batch_scoring
from flows.streams import stream, streams
from infra.parts import Stack
from tasks import score
from tasks.errors import UserError
from tasks.scorings import Batch
from tasks.stores import ledger
from tests import scoring
from tests.championed import champion
from tests.landing import arrival, toy_rows

pytestmark = pytest.mark.slow
STREAM = "toy:scoring"


@pytest.fixture
def own(cycle_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a toy that is scored as rows land, and its champion."""
    (tmp_path / "own").mkdir()
    scoring.write(tmp_path / "own", "toy")
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
    champion(tmp_path)
    return tmp_path


@pytest.fixture
def inbox(own: Path, cycle_home: Path) -> Path:
    """The second source's directory."""
    return Path(stream(pipelines.get("toy"), "scoring").uri)


def land(inbox: Path, name: str, rows: pl.DataFrame) -> None:
    rows.drop("label", "after").write_csv(inbox / name, datetime_format="%Y-%m-%dT%H:%M:%S")


def outcomes(made: Batch) -> list[tuple[str, str]]:
    return [(file.name, file.outcome) for file in made.files]


def states() -> dict[str, tuple[str, bool, int, int]]:
    return {part.name: (part.state, part.superseded, part.accepted, part.rejected) for part in ledger.history(STREAM)}


def scored(home: Path) -> pl.DataFrame:
    return pl.read_parquet(home / "scored" / "toy" / "predictions" / "*.parquet").sort("_file", "_row")


def test_what_has_landed_is_scored_once_and_broken_files_delay_no_other(inbox: Path, cycle_home: Path) -> None:
    land(inbox, "a.csv", toy_rows(40))
    (inbox / "b.csv").write_text("")
    land(inbox, "c.csv", toy_rows(10, first=40).with_columns(x=pl.when(pl.col("id") == 41).then(99.0).otherwise("x")))
    land(inbox, "d.csv", toy_rows(40))
    (inbox / "e.txt").write_text("")
    made = batch_scoring("toy")
    assert outcomes(made) == [("a.csv", "scored"), ("b.csv", "refused"), ("c.csv", "scored")]
    assert states() == {
        "a.csv": ("ingested", False, 40, 0),
        "b.csv": ("quarantined", False, 0, 0),
        "c.csv": ("ingested", False, 9, 1),
        "d.csv": ("duplicate", False, 0, 0),
    }
    assert (made.rows, made.rejected, made.version, made.output) == (50, 1, 1, str(cycle_home / "scored" / "toy"))
    wanted = score.load("models:/toy@champion", pipelines.get("toy")).predict(toy_rows(40))
    assert scored(cycle_home).head(40)["p_1"].to_list() == wanted["p_1"].to_list()
    assert outcomes(batch_scoring("toy")) == []
    assert ledger.outstanding(STREAM) == ()
    assert ledger.history("toy") == ()  # nothing of it is taken for rows to train on
    land(inbox, "a.csv", toy_rows(41))
    assert outcomes(batch_scoring("toy")) == [("a.csv", "scored"), ("d.csv", "known")]  # the copy speaks for itself again
    assert scored(cycle_home).height == 90


def test_the_run_tells_what_was_scored_where(inbox: Path, servers: Stack) -> None:
    land(inbox, "odd_*name*.csv", toy_rows(12))
    made = batch_scoring("toy", form="csv", trigger="test")
    assert made.as_dict()["predicted"] == 12
    cycle = ledger.last_cycle(STREAM)
    assert cycle is not None
    assert (cycle.state, cycle.trigger) == ("done", "test")
    with httpx.Client(base_url=f"{servers.prefect_api_url}/", timeout=30) as api:
        run = api.get(f"flow_runs/{cycle.flow_run}").json()
        wanted = {"artifacts": {"flow_run_id": {"any_": [cycle.flow_run]}}}
        (artifact,) = api.post("artifacts/filter", json=wanted).json()
        tasks = api.post("task_runs/filter", json={"flow_runs": {"id": {"any_": [cycle.flow_run]}}}).json()
    assert run["name"].startswith("toy · scoring · test · ")
    assert {"toy", "scoring", "test"} <= set(run["tags"])
    assert (artifact["key"], artifact["description"]) == ("toy-scored", made.sentence)
    assert "| odd\\_\\*name\\*.csv | scored | 1 | 12 | 0 |" in artifact["data"]
    assert "score odd_*name*.csv" in {task["name"] for task in tasks}


def test_what_is_named_by_hand_is_scored_wherever_it_lies_and_is_no_arrival(own: Path, cycle_home: Path) -> None:
    (own / "in").mkdir()
    land(own / "in", "a.csv", toy_rows(5))
    made = batch_scoring("toy", input=str(own / "in"), output=str(own / "out"))
    assert (outcomes(made), made.files[0].outputs[0].startswith(str(own / "out"))) == ([("a.csv", "scored")], True)
    assert outcomes(batch_scoring("toy", input=str(own / "in" / "a.csv"), output=str(own / "out"))) == [("a.csv", "known")]
    assert ledger.history(STREAM) == ledger.history("toy") == ()


def test_a_pipeline_without_a_second_source_says_so(cycle_home: Path) -> None:
    with pytest.raises(UserError, match="has no source 'scoring'"):
        batch_scoring("toy")
    assert [part.name for part in streams(pipelines.get("toy"))] == ["toy"]


def test_a_file_that_is_gone_before_its_turn_is_settled_so(inbox: Path) -> None:
    from tasks.observe import survey

    land(inbox, "a.csv", toy_rows(5))
    survey(STREAM, str(inbox))
    (inbox / "a.csv").unlink()
    assert outcomes(batch_scoring("toy")) == [("a.csv", "missed")]
    assert arrival("a.csv", STREAM).reason == ledger.GONE


BEGUN = "from tasks.stores import ledger; import os; ledger.begin('toy:scoring', trigger='test', definition='', flow_run=None); os._exit(9)"


def test_the_next_run_takes_over_from_one_that_is_gone(inbox: Path) -> None:
    land(inbox, "a.csv", toy_rows(5))
    subprocess.run([sys.executable, "-c", BEGUN], check=False, timeout=60)
    assert outcomes(batch_scoring("toy")) == [("a.csv", "scored")]
    assert [cycle.state for cycle in ledger.list_cycles(STREAM)] == ["done", "failed"]


def test_an_output_that_cannot_be_written_fails_the_run_and_leaves_the_arrivals_to_the_next(inbox: Path, own: Path) -> None:
    land(inbox, "a.csv", toy_rows(5))
    (own / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        batch_scoring("toy", output=str(own / "out"))
    assert [part.name for part in ledger.outstanding(STREAM)] == ["a.csv"]
    assert outcomes(batch_scoring("toy")) == [("a.csv", "scored")]
