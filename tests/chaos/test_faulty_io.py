"""Faulty I/O: the first operation of an intake fails, then the second, and so on until one runs through; nothing is lost or doubled on the way."""

import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tasks.errors import CycleInProgress, RatchetError
from tasks.observe import survey
from tasks.stores import lake, ledger
from tests.chaos import faulty
from tests.chaos.faulty import Fault
from tests.landing import arrival, take_in, toy_rows

pytestmark = pytest.mark.slow
LIMIT = 400


@pytest.fixture
def place(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Give a fresh home with a source of three files, the second of which is being replaced."""

    def make(number: int) -> Path:
        monkeypatch.setenv("RATCHET_HOME", str(tmp_path / str(number) / "home"))
        monkeypatch.setenv("RATCHET_LEASE", "1")
        source = tmp_path / str(number) / "source"
        source.mkdir(parents=True)
        write(source / "a.csv", toy_rows(30))
        write(source / "b.csv", toy_rows(30, first=100))
        take_in(source)
        write(source / "b.csv", toy_rows(30, first=200).with_columns(x=pl.when(pl.int_range(30) < 2).then(99.0).otherwise("x")))
        write(source / "c.csv", toy_rows(30, first=300))
        return source

    return make


def test_a_file_that_cannot_be_read_is_tried_three_times_delays_no_other_and_is_taken_in_once_it_is_touched(
    place: Callable[[int], Path],
) -> None:
    source = place(0)
    time.sleep(2.1)  # so that its stamp is believed, and the next to open it is who reads its rows
    survey("toy", str(source))
    for tries in (1, 2, 3):
        with faulty.injected(Fault("EIO", 1, (str(source),), only="c.csv")) as counter:
            take_in(source)
        assert "c.csv" in (counter.hit or "")
        found = arrival("c.csv")
        assert found.state == ("quarantined" if tries == 3 else "pending")
        assert "Input/output error" in (found.reason or "")
    assert (found.reason or "").startswith("It could not be read 3 times.")
    assert arrival("b.csv").state == "ingested"
    (source / "c.csv").touch()
    take_in(source)
    assert state(source) == wanted(source)


def take_in_at_last(source: Path) -> None:
    """Take in without a fault; where the lease could not be given back, it has to run out first."""
    try:
        take_in(source)
    except CycleInProgress:
        time.sleep(1.1)
        take_in(source)


def write(path: Path, rows: pl.DataFrame) -> None:
    rows.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S")


@pytest.mark.parametrize("kind", ["ENOSPC", "EIO"])
def test_whichever_operation_fails_the_next_intake_makes_it_good(kind: str, place: Callable[[int], Path]) -> None:
    failed = []
    for number in range(1, LIMIT):
        source = place(number)
        with faulty.injected(Fault(kind, number, (str(source.parent),))) as counter:
            try:
                take_in(source)
            except (RatchetError, OSError) as error:
                failed.append(f"{counter.hit}: {error}")
        take_in_at_last(source)
        assert state(source) == wanted(source), (number, counter.hit, failed[-1:])
        if counter.hit is None:
            break
    else:
        pytest.fail(f"after {LIMIT} operations there are still more")
    assert len(failed) > 20


def wanted(source: Path) -> object:
    """What must be there in the end: the rows of a, of the new b without its two bad ones, and of c, each once."""
    ids = [*range(30), *range(202, 230), *range(300, 330)]
    return ids, {"a.csv": 30, "b.csv": 28, "c.csv": 30}, 2, 0


def state(source: Path) -> object:
    ids = sorted(lake.scan("toy").select("id").collect()["id"].to_list())
    live = {part.name: part.accepted for part in ledger.history("toy") if part.state == "ingested" and not part.superseded}
    return ids, live, lake.scan("toy", "quarantine").collect().height, len(ledger.outstanding("toy"))
