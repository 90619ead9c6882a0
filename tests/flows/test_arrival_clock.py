"""Clocks that are set a day back and forth between cycles, and while one runs: nothing is lost or taken in twice, and nobody waits for ever."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks.due import due, situation
from tasks.errors import LeaseLost
from tasks.spec import Retrain
from tasks.stores import files, lake, ledger
from tests.landing import take_in, toy_rows
from tests.servers import clock
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(clock.absent(), reason="not installed: faketime; see .ci/packages"),
]
DAY = timedelta(days=1)
NOW = "from datetime import UTC, datetime; print(datetime.now(UTC).isoformat())"
TAKE_IN = "import sys; from pathlib import Path; from tests.landing import take_in; take_in(Path(sys.argv[1]))"
SEE = "import sys; from tasks.observe import survey; survey('toy', sys.argv[1])"
CYCLE = """
from tasks.stores import ledger
lease = ledger.begin("toy", trigger="arrival", definition="d", flow_run=None)
ledger.end(lease)
ledger.release(lease)
"""
HOLD = """
from tasks.errors import LeaseLost
from tasks.stores import ledger
lease = ledger.begin("toy", trigger="arrival", definition="d", flow_run=None)
def work():
    print(lease.token, flush=True)
    input()
    try:
        ledger.sort_out(lease)
        print("committed")
    except LeaseLost:
        print("lost")
"""
SILENT, RENEWED = f"{HOLD}\nwork()", f"{HOLD}\nwith ledger.kept(lease):\n    work()"


@pytest.fixture
def hand(tmp_path: Path) -> Path:
    """The file that sets the clock."""
    return tmp_path / "clock"


@pytest.fixture
def source(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def land(source: Path, name: str, first: int) -> None:
    text = toy_rows(3, first=first).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S")
    files.land(text.encode(), source, name)


def ids() -> list[int]:
    return sorted(lake.scan("toy").collect()["id"].to_list())


def said(process: "subprocess.Popen[str]") -> str:
    """Wait for a line of a process."""
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.readline().strip() or process.stderr.read()


def go_on(process: "subprocess.Popen[str]") -> str:
    """Let a holder of the lease try to commit, and give what came of it."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return said(process)


def test_a_process_goes_by_the_clock_that_is_set_for_it(hand: Path) -> None:
    for offset, moved in (("+0", 0 * DAY), ("-1d", -DAY), ("+1d", DAY)):
        clock.set_to(hand, offset)
        there = datetime.fromisoformat(clock.run(hand, NOW).strip())
        assert abs(there - datetime.now(UTC) - moved) < timedelta(minutes=2)


def test_files_that_land_while_the_clock_jumps_are_taken_in_once_and_the_newest_version_counts(source: Path, hand: Path) -> None:
    for number, offset in enumerate(["+1d", "-1d", "+1d"]):
        clock.set_to(hand, offset)
        land(source, f"{number}.csv", 10 * number)
        land(source, "same.csv", 1000 + 10 * number)
        clock.run(hand, TAKE_IN, source)
        newest = range(1000 + 10 * number, 1003 + 10 * number)
        assert ids() == sorted([*(10 * known + row for known in range(number + 1) for row in range(3)), *newest])
    take_in(source)
    assert ledger.outstanding("toy") == ()
    assert len(ledger.history("toy")) == 6
    assert ledger.tally("toy") == {"ingested": 4, "replaced": 2}


def test_a_file_that_was_written_in_place_settles_whatever_the_clock_says(
    source: Path, hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_SETTLE", "5")
    for number, offset in enumerate(["-1d", "+1d"]):
        clock.set_to(hand, offset)
        (source / f"{number}.csv").write_text(toy_rows(3, first=10 * number).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S"))
        clock.run(hand, TAKE_IN, source)
        assert len(ids()) == 3 * (number + 1)


def test_a_lease_of_a_clock_that_was_ahead_ends_in_its_time_for_who_only_waits_for_its_end(
    home: Path, hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_LEASE", "2")
    clock.set_to(hand, "+1d")
    with clock.running(hand, SILENT) as first:
        assert said(first) == "1"
        assert ledger.lease_holder("toy") is not None
        until(lambda: ledger.lease_holder("toy") is None, "the end of the lease", 10)
        assert situation("toy", "d", "UTC").running is None
        second = ledger.begin("toy", trigger="arrival", definition="d", flow_run=None)
        assert (second.token, second.taken_over) == (2, True)
        assert go_on(first) == "lost"
    ledger.sort_out(second)


def test_a_clock_that_jumps_ahead_ends_a_lease_at_once_and_still_only_one_can_commit(home: Path, hand: Path) -> None:
    clock.set_to(hand, "+1d")
    first = ledger.begin("toy", trigger="arrival", definition="d", flow_run=None)
    with clock.running(hand, SILENT) as second:
        assert said(second) == "2"
        with pytest.raises(LeaseLost):
            ledger.sort_out(first)
        assert go_on(second) == "committed"


def test_a_cycle_that_renews_its_lease_keeps_it_when_the_clock_is_set_back_under_it(
    home: Path, hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_LEASE", "3")
    clock.set_to(hand, "+1d")
    with clock.running(hand, RENEWED) as first:
        assert said(first) == "1"
        clock.set_to(hand, "+0")
        limit = datetime.now(UTC) + timedelta(seconds=6)  # twice as long as the lease
        while datetime.now(UTC) < limit:
            assert ledger.lease_holder("toy") is not None
        assert go_on(first) == "committed"


@pytest.mark.parametrize(
    "retrain", [Retrain(min_interval=3600), Retrain(max_per_day=1), Retrain(debounce=600)], ids=["min_interval", "max_per_day", "debounce"]
)
def test_a_cycle_of_a_clock_that_was_ahead_holds_back_none(source: Path, hand: Path, retrain: Retrain) -> None:
    clock.set_to(hand, "+2d")
    clock.run(hand, CYCLE)
    land(source, "a.csv", 0)
    clock.run(hand, SEE, source)
    decided = due(retrain, situation("toy", "d", "UTC"))
    assert decided.now, decided.receipt


def test_cycles_of_yesterdays_clock_do_not_count_today(source: Path, hand: Path) -> None:
    clock.set_to(hand, "-1d")
    clock.run(hand, CYCLE)
    land(source, "a.csv", 0)
    clock.run(hand, SEE, source)
    assert due(Retrain(min_interval=3600, max_per_day=1, debounce=600), situation("toy", "d", "UTC")).now
