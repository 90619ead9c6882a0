"""Files that change, are copied and are overwritten with garbage: the lake holds what the files hold, once."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tasks.observe import survey
from tasks.stores import lake, ledger
from tests.landing import arrival, take_in, toy_rows


@pytest.fixture
def source(home: Path, new_ledger: Callable[[], str], tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def put(source: Path, name: str, first: int, count: int) -> None:
    toy_rows(100).slice(first, count).write_csv(source / name, datetime_format="%Y-%m-%dT%H:%M:%S")


def cycle(source: Path) -> list[int]:
    """Take in until nothing is outstanding, and give the ids in the lake."""
    take_in(source)
    for _ in range(5):
        if ledger.outstanding("toy"):
            take_in(source)
    assert ledger.outstanding("toy") == ()
    return sorted(lake.scan("toy").collect()["id"].to_list())


@pytest.mark.parametrize("garbage", [b"", b"<html>503</html>"])
def test_the_same_garbage_over_two_files_takes_no_rows_away(source: Path, garbage: bytes) -> None:
    put(source, "a.csv", 0, 3)
    put(source, "b.csv", 10, 3)
    cycle(source)
    for name in ("a.csv", "b.csv"):
        (source / name).write_bytes(garbage)
    assert cycle(source) == [0, 1, 2, 10, 11, 12]
    assert {arrival("a.csv").state, arrival("b.csv").state} == {"quarantined"}


def test_a_duplicate_that_is_revived_brings_its_rows(source: Path) -> None:
    put(source, "a.csv", 0, 3)
    put(source, "b.csv", 10, 3)
    cycle(source)
    put(source, "a.csv", 10, 3)
    assert cycle(source) == [10, 11, 12]
    put(source, "b.csv", 20, 3)
    assert cycle(source) == [10, 11, 12, 20, 21, 22]


def test_a_copy_that_becomes_a_copy_of_another_file_is_none_of_the_first_any_more(source: Path) -> None:
    put(source, "a.csv", 0, 3)
    put(source, "b.csv", 10, 3)
    put(source, "c.csv", 0, 3)
    cycle(source)
    put(source, "c.csv", 10, 3)
    assert cycle(source) == [0, 1, 2, 10, 11, 12]
    versions = [(part.state, part.superseded) for part in reversed(ledger.named("toy", "c.csv"))]
    assert versions == [("duplicate", True), ("duplicate", False)]
    put(source, "a.csv", 20, 3)
    assert cycle(source) == [10, 11, 12, 20, 21, 22]
    put(source, "b.csv", 30, 3)
    assert cycle(source) == [10, 11, 12, 20, 21, 22, 30, 31, 32]


def test_a_copy_that_cannot_be_read_any_more_is_not_told_of_as_if_its_rows_were_there(source: Path) -> None:
    put(source, "a.csv", 0, 3)
    put(source, "b.csv", 0, 3)
    cycle(source)
    (source / "b.csv").write_bytes(b"garbage")
    assert cycle(source) == [0, 1, 2]
    put(source, "a.csv", 20, 3)
    assert cycle(source) == [20, 21, 22]
    first = ledger.named("toy", "b.csv")[-1]
    assert (first.state, first.superseded) == ("duplicate", True)
    assert "went with the file that it was a copy of" in (first.reason or "")


def test_a_refused_version_hides_none_of_the_rows_that_stay(source: Path) -> None:
    put(source, "a.csv", 0, 5)
    cycle(source)
    (source / "a.csv").write_bytes(b"garbage")
    put(source, "b.csv", 0, 6)
    assert cycle(source) == [0, 1, 2, 3, 4, 5]


def test_a_copy_that_is_gone_when_its_turn_comes_is_not_waited_for(source: Path) -> None:
    put(source, "a.csv", 0, 3)
    cycle(source)
    put(source, "b.csv", 0, 3)
    cycle(source)
    (source / "b.csv").unlink()
    put(source, "a.csv", 20, 3)
    assert cycle(source) == [20, 21, 22]
    assert arrival("b.csv").reason == "It is gone from the source and was never read."


@pytest.mark.parametrize("odd", [[[1.0], [2.0]], [{"u": 1.0}, {"u": 2.0}], [b"\xff", b"\xfe"]], ids=["list", "struct", "binary"])
def test_a_column_of_a_type_that_no_contract_has_quarantines_that_file_alone(source: Path, odd: list[object]) -> None:
    toy_rows(2).with_columns(x=pl.Series(odd)).write_parquet(source / "a.parquet")
    put(source, "b.csv", 10, 3)
    assert cycle(source) == [10, 11, 12]
    assert arrival("a.parquet").state == "quarantined"


def test_a_date_whose_order_would_have_to_be_guessed_is_refused(source: Path) -> None:
    text = toy_rows(2).write_csv(datetime_format="%d/%m/%Y")
    (source / "a.csv").write_text(text)
    take_in(source)
    assert "dtype(datetime) in at (2)" in (arrival("a.csv").reason or "")


def test_a_copy_takes_the_place_of_a_file_that_is_gone_before_it_was_read(source: Path) -> None:
    put(source, "a.csv", 0, 3)
    put(source, "b.csv", 0, 3)
    survey("toy", str(source))
    (source / "a.csv").unlink()
    assert cycle(source) == [0, 1, 2]
    assert (arrival("a.csv").state, arrival("b.csv").state) == ("quarantined", "ingested")


def test_a_file_that_was_gone_before_it_was_read_and_comes_back_is_taken_in(source: Path) -> None:
    put(source, "a.csv", 0, 3)
    survey("toy", str(source))
    (source / "a.csv").unlink()
    assert take_in(source).accepted == 0
    put(source, "a.csv", 0, 3)
    assert cycle(source) == [0, 1, 2]
