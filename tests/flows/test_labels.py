"""Labels that come later are taken in once each, whatever is wrong with a file and whenever a run is stopped."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from flows import pipelines, streams
from flows.labels import Taken, take_labels
from tasks import labels
from tasks.clean import commit, recover
from tasks.errors import UserError
from tasks.ingest import stage
from tasks.observe import survey
from tasks.records import Cleaned
from tasks.spec import Pipeline, Source
from tasks.stores import lake, ledger
from tasks.triggers import stream_of
from tests.landing import toy_rows


@pytest.fixture
def source(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "labels").mkdir()
    return tmp_path / "labels"


def labelled(source: Path) -> Pipeline:
    return replace(pipelines.get("toy"), labels=Source(uri=str(source)))


def take(source: Path) -> Cleaned:
    """Take labels in as the flow does, without servers."""
    spec = labels.reading(labelled(source))
    survey(stream_of("toy", "labels"), str(source))
    lease = ledger.begin(stream_of("toy", "labels"), trigger="test", definition="", flow_run=None)
    try:
        recover("toy", lease, labels.TABLES)
        ledger.sort_out(lease)
        done = commit(spec, lease, stage(spec, ledger.outstanding(lease.pipeline), source.parent / "staged"), labels.TABLES)
        ledger.end(lease)
        return done
    finally:
        ledger.release(lease)


def land(source: Path, name: str, text: str) -> None:
    (source / name).write_text(text)


def known() -> list[tuple[int, str]]:
    return sorted(lake.scan("toy", "labels").select("id", "label").collect().rows())


def test_labels_need_only_the_key_and_the_target_and_are_taken_in_once(source: Path) -> None:
    land(source, "a.csv", "id,label\n1,yes\n2,no\n")
    assert take(source).accepted == 2
    land(source, "b.csv", "id,label\n3,no\n")
    land(source, "copy.csv", "id,label\n1,yes\n2,no\n")
    take(source)
    take(source)
    assert known() == [(1, "yes"), (2, "no"), (3, "no")]
    assert ledger.tally("toy:labels") == {"ingested": 2, "duplicate": 1}
    assert ledger.tally("toy") == {}
    assert not lake.exists("toy")


def test_a_whole_row_will_do_and_its_other_columns_are_left_out(source: Path) -> None:
    toy_rows(5).write_csv(source / "a.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    assert take(source).accepted == 5
    assert set(lake.scan("toy", "labels").collect_schema()) == {"id", "label", "_arrival", "_file", "_seq", "_row"}


def test_bad_rows_and_bad_files_are_told_with_the_reason_and_delay_no_other(source: Path) -> None:
    land(source, "a.csv", "id,label\n1,yes\n2,perhaps\nx,no\n")
    land(source, "b.csv", "number,label\n1,yes\n")
    land(source, "c.csv", "id,label\n4,no\n")
    take(source)
    found = {arrival.name: arrival for arrival in ledger.history("toy:labels")}
    assert (found["a.csv"].accepted, found["a.csv"].rejected) == (1, 2)
    assert "isin(['yes', 'no']) in label (1)" in (found["a.csv"].reason or "")
    assert (found["b.csv"].state, found["c.csv"].state) == ("quarantined", "ingested")
    assert "Columns ['id'] are missing" in (found["b.csv"].reason or "")
    entries = lake.scan("toy", "labels_quarantine").collect()
    assert sorted(entries.filter(pl.col("column").is_not_null()).select("column", "value").rows()) == [("id", "x"), ("label", "perhaps")]
    assert known() == [(1, "yes"), (4, "no")]


def test_new_content_of_a_file_takes_the_place_of_the_old(source: Path) -> None:
    land(source, "a.csv", "id,label\n1,yes\n2,no\n")
    take(source)
    land(source, "a.csv", "id,label\n1,no\n")
    take(source)
    assert known() == [(1, "no")]


def test_a_run_that_was_killed_after_its_commit_is_settled_by_the_next(source: Path) -> None:
    land(source, "a.csv", "id,label\n1,yes\n2,no\n")
    body = f"from pathlib import Path; from tests.flows.test_labels import take; take(Path({str(source)!r}))"
    for point in ("clean.quarantined", "clean.committed"):
        environment = {"RATCHET_CRASH_AT": f"{point}:SIGKILL"}
        done = subprocess.run([sys.executable, "-c", body], env={**os.environ, **environment}, timeout=60, check=False)
        assert done.returncode == -9
        assert [arrival.state for arrival in ledger.outstanding("toy:labels")] == ["pending"]
    take(source)
    assert known() == [(1, "yes"), (2, "no")]
    assert ledger.tally("toy:labels") == {"ingested": 1}


def test_without_a_key_labels_are_found_by_time_and_without_either_they_cannot_be(home: Path) -> None:
    amounts = replace(pipelines.get("amounts"), labels=Source())
    assert labels.columns_of(amounts) == ("day",)
    assert list(labels.reading(amounts).contract.to_schema().columns) == ["day", "amount"]
    assert streams.stream(amounts, "labels").uri == str(home / "inbox" / "amounts.labels")
    with pytest.raises(UserError, match="neither key nor time"):
        labels.columns_of(pipelines.get("sorts"))


def test_a_pipeline_without_a_source_of_labels_says_what_to_do(home: Path) -> None:
    with pytest.raises(UserError, match="declares no source of labels"):
        labels.reading(pipelines.get("toy"))


@pytest.mark.slow
def test_the_flow_takes_in_what_landed_and_says_what_became_of_it(
    cycle_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "own"
    place.mkdir()
    text = pipelines.path("toy").read_text().replace("import Candidate,", "import Source, Candidate,")
    (place / "toy.py").write_text(text.replace('    kind="binary",', '    kind="binary",\n    labels=Source(),'))
    monkeypatch.setenv("RATCHET_PIPELINES", str(place))
    source = Path(streams.stream(pipelines.get("toy"), "labels").uri)
    land(source, "a.csv", "id,label\n1,yes\n2,perhaps\n")
    assert take_labels("toy") == Taken(
        "toy", 1, 1, 1, 0, ("a.csv has rows in quarantine: Rows break the contract: isin(['yes', 'no']) in label (1).",)
    )
    assert take_labels("toy") == Taken("toy")
    assert known() == [(1, "yes")]
    assert ledger.lease_holder("toy:labels") is None
    assert not list((cycle_home / "work" / "toy").glob("labels-*"))
