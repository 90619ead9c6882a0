"""When a cycle is due: every rule of `Retrain` by example, what holds whatever the situation is, and what the ledger says of it."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tasks.due import LONGEST_WAIT, Due, _midnight, backoff, due, situation
from tasks.records import Look
from tasks.spec import Retrain
from tasks.stores import ledger
from tasks.triggers import Situation

HELD = {"on_arrival", "min_arrivals", "max_per_day"}
NEW = Situation(outstanding=1, quiet=0.0, waiting=0.0)


def rule(retrain: Retrain, found: Situation) -> str:
    """Name what holds the cycle back or starts it."""
    decided = due(retrain, found)
    assert decided.receipt is not None
    return decided.receipt.rule


def test_data_that_landed_starts_a_cycle_at_once_unless_the_pipeline_asks_for_something_else() -> None:
    decided = due(Retrain(), NEW)
    assert decided.now
    assert decided.receipt is not None
    assert (decided.receipt.outcome, decided.receipt.trigger, decided.receipt.why) == ("asked", "arrival", "1 arrival is outstanding")


def test_with_nothing_outstanding_and_nothing_unfinished_there_is_nothing_to_say() -> None:
    assert due(Retrain(), Situation(since_end=5.0, today=3)) == Due(now=False, receipt=None, again=None)


def test_where_arrivals_start_no_cycle_the_receipt_names_what_is_waited_for() -> None:
    by_hand, nightly = due(Retrain(on_arrival=False), NEW), due(Retrain(on_arrival=False, schedule="0 3 * * *"), NEW)
    assert by_hand.receipt is not None
    assert nightly.receipt is not None
    assert "someone to start a cycle" in by_hand.receipt.why
    assert "'0 3 * * *'" in nightly.receipt.why
    assert (by_hand.now, by_hand.again) == (False, None)


def test_a_cycle_waits_for_the_fewest_arrivals_and_for_no_more() -> None:
    retrain = Retrain(min_arrivals=3)
    assert [due(retrain, replace(NEW, outstanding=count)).now for count in (1, 2, 3, 4)] == [False, False, True, True]
    assert rule(retrain, NEW) == "min_arrivals"


def test_debounce_waits_until_it_is_quiet_and_says_for_how_long() -> None:
    retrain = Retrain(debounce=10)
    waited = due(retrain, replace(NEW, quiet=4.0, waiting=30.0))
    assert (waited.now, waited.again, rule(retrain, NEW)) == (False, 6.0, "debounce")
    assert due(retrain, replace(NEW, quiet=10.0, waiting=30.0)).now


def test_a_stream_that_never_pauses_is_taken_up_at_the_limit_of_the_debounce() -> None:
    retrain = Retrain(debounce=10, debounce_limit=60)
    assert due(retrain, replace(NEW, quiet=0.5, waiting=55.0)).again == 5.0
    assert due(retrain, replace(NEW, quiet=0.5, waiting=60.0)).now


def test_two_cycles_that_arrivals_start_keep_their_distance() -> None:
    retrain = Retrain(min_interval=100)
    waited = due(retrain, replace(NEW, since_start=40.0))
    assert (waited.now, waited.again, rule(retrain, replace(NEW, since_start=40.0))) == (False, 60.0, "min_interval")
    assert due(retrain, replace(NEW, since_start=100.0)).now
    assert due(retrain, NEW).now  # there was none before


def test_no_more_cycles_in_a_day_than_allowed() -> None:
    retrain = Retrain(max_per_day=2)
    assert due(retrain, replace(NEW, today=1)).now
    assert rule(retrain, replace(NEW, today=2)) == "max_per_day"
    again = due(retrain, replace(NEW, today=2)).again
    assert again is not None  # a new day begins without anything landing


def test_a_running_cycle_is_waited_for_and_looked_at_again() -> None:
    waited = due(Retrain(), replace(NEW, running=7))
    assert waited.receipt is not None
    assert (waited.now, waited.receipt.rule) == (False, "running")
    assert "cycle 7 is running" in waited.receipt.why
    assert waited.again is not None


def test_after_failures_the_next_try_waits_longer_each_time_but_never_longer_than_ten_minutes() -> None:
    failing = replace(NEW, unfinished="cycle 3 failed", since_end=1.0)
    assert [due(Retrain(), replace(failing, failures=count)).again for count in (1, 2, 3)] == [4.0, 9.0, 19.0]
    assert due(Retrain(), replace(failing, failures=10**6)).again == LONGEST_WAIT - 1
    assert due(Retrain(), replace(failing, failures=3, since_end=20.0)).now


def test_what_was_begun_is_finished_before_any_rule_about_new_data_is_asked() -> None:
    strict = Retrain(on_arrival=False, min_arrivals=50, debounce=60, min_interval=3600, max_per_day=1)
    left = Situation(unfinished="cycle 3 ended without a decision", since_start=1.0, today=9)
    decided = due(strict, left)
    assert decided.receipt is not None
    assert (decided.now, decided.receipt.trigger, decided.receipt.why) == (True, "recovery", left.unfinished)


def test_a_failed_file_that_was_edited_is_tried_at_once() -> None:
    assert due(Retrain(), replace(NEW, unfinished="cycle 3 failed", since_end=0.0, failures=0)).now


TIMES = st.floats(-1e5, 1e5, allow_nan=False)
RETRAINS = st.builds(
    Retrain,
    on_arrival=st.booleans(),
    min_arrivals=st.integers(1, 5),
    debounce=st.floats(0, 600),
    debounce_limit=st.floats(600, 5000),
    min_interval=st.floats(0, 5000),
    max_per_day=st.none() | st.integers(1, 5),
    schedule=st.none() | st.just("0 3 * * *"),
)
SITUATIONS = st.builds(
    Situation,
    outstanding=st.integers(0, 8),
    quiet=TIMES,
    waiting=TIMES,
    since_start=st.none() | TIMES,
    since_end=st.none() | TIMES,
    today=st.integers(0, 8),
    running=st.none() | st.integers(1, 9),
    unfinished=st.none() | st.just("cycle 1 failed"),
    failures=st.integers(0, 60),
)


@given(RETRAINS, SITUATIONS)
def test_whatever_the_situation_there_is_a_receipt_or_nothing_to_do(retrain: Retrain, found: Situation) -> None:
    decided = due(retrain, found)
    to_do = found.outstanding > 0 or found.unfinished is not None
    assert (decided.receipt is not None) == to_do
    if decided.receipt is not None:
        assert decided.receipt.outcome == ("asked" if decided.now else "waited")
        assert decided.receipt.why
        assert decided.receipt.outstanding == found.outstanding
    assert to_do or not decided.now


@given(RETRAINS, SITUATIONS)
def test_a_wait_ends_by_itself_in_a_time_that_is_above_zero_and_bounded_or_by_something_that_happens(
    retrain: Retrain, found: Situation
) -> None:
    decided = due(retrain, found)
    longest = max(LONGEST_WAIT, retrain.debounce, retrain.min_interval)
    assert decided.again is None or 0 < decided.again <= longest
    if decided.receipt is not None and not decided.now and decided.again is None:
        assert decided.receipt.rule in {"on_arrival", "min_arrivals"}


@given(RETRAINS, SITUATIONS)
def test_a_running_cycle_is_never_joined_by_another(retrain: Retrain, found: Situation) -> None:
    assert not due(retrain, replace(found, running=1)).now


def later(found: Situation, seconds: float) -> Situation:
    """Let time pass in which nothing happens."""
    moved = {name: value + seconds for name in ("since_start", "since_end") if (value := getattr(found, name)) is not None}
    return replace(found, quiet=found.quiet + seconds, waiting=found.waiting + seconds, **moved)


@given(RETRAINS, SITUATIONS)
def test_as_time_passes_a_cycle_is_reached_within_the_waits_that_were_asked_for_unless_a_rule_holds_it_for_good(
    retrain: Retrain, found: Situation
) -> None:
    found = replace(found, outstanding=max(1, found.outstanding), running=None)
    passed, decided = 0.0, due(retrain, found)
    for _ in range(20):
        if decided.now or decided.again is None or decided.receipt is None or decided.receipt.rule in HELD:
            break
        passed += math.nextafter(decided.again, math.inf) + 1e-6
        decided = due(retrain, later(found, passed))
    assert decided.receipt is not None
    assert decided.now or decided.receipt.rule in HELD
    assert passed <= backoff(found.failures) + retrain.debounce + retrain.min_interval + 1


@given(RETRAINS, SITUATIONS)
def test_a_clock_that_was_set_back_never_delays(retrain: Retrain, found: Situation) -> None:
    back = replace(found, quiet=-1e6, waiting=-1e6, since_start=-1e6, since_end=-1e6)
    decided = due(retrain, back)
    assert decided.receipt is None or decided.receipt.rule not in {"debounce", "min_interval", "backoff"}


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/Havana", "2026-03-08", 23),  # midnight itself is left out
        ("America/Havana", "2026-11-01", 25),  # midnight comes twice
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("UTC", "2026-03-29", 24),
    ],
)
def test_a_day_begins_once_and_lasts_as_long_as_it_does_in_its_time_zone(zone: str, day: str, hours: float) -> None:
    begins = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    ends = begins + timedelta(hours=hours)
    moments = [begins + timedelta(minutes=minute) for minute in range(0, int(hours * 60), 10)]
    assert {_midnight(moment, zone) for moment in moments} == {begins}
    assert _midnight(begins - timedelta(seconds=1), zone) < begins
    assert _midnight(ends, zone) == ends


def land(name: str) -> None:
    ledger.observe("p", [(Look(name, f"/{name}", 1, "stamp"), name, True)])


def cycle(trigger: str = "arrival", error: str | None = None, definition: str = "d") -> None:
    lease = ledger.begin("p", trigger=trigger, definition=definition, flow_run=None)
    ledger.end(lease, error=error)
    ledger.release(lease)


def look(definition: str = "d", zone: str = "UTC") -> Situation:
    return situation("p", definition, zone)


def test_the_ledger_says_how_much_is_outstanding_and_for_how_long(home: Path) -> None:
    assert look() == Situation()
    land("a")
    land("b")
    found = look()
    assert found.outstanding == 2
    assert 0 <= found.quiet <= found.waiting < 60
    assert (found.since_start, found.since_end, found.running, found.unfinished) == (None, None, None, None)


def test_only_cycles_that_arrivals_started_count_for_the_distance_and_for_the_day(home: Path) -> None:
    cycle(trigger="schedule")
    found = look()
    assert (found.today, found.since_start) == (0, None)
    assert found.since_end is not None
    cycle()
    cycle(trigger="ui")
    found = look()
    assert found.today == 1
    assert found.since_start is not None


def test_a_cycle_of_yesterday_does_not_count_today_and_yesterday_ends_where_the_time_zone_says(home: Path) -> None:
    cycle()
    midnight = _midnight(datetime.now(UTC), "Asia/Kathmandu")
    for moved, counted in ((timedelta(microseconds=-1), 0), (timedelta(), 1)):
        with ledger.transaction() as connection:
            began = (midnight + moved).isoformat(timespec="microseconds")
            connection.execute(sa.text("UPDATE cycles SET started_at = :began"), {"began": began})
        assert look(zone="Asia/Kathmandu").today == counted


def test_a_cycle_runs_while_its_process_holds_the_lease_and_is_unfinished_once_that_is_gone(home: Path) -> None:
    lease = ledger.begin("p", trigger="arrival", definition="d", flow_run=None)
    assert (look().running, look().unfinished) == (lease.cycle, None)
    with ledger.transaction() as connection:
        connection.execute(sa.text("UPDATE leases SET expires_at = '2000'"))
    assert look().running is None
    assert "cycle 1 ended without a decision" in (look().unfinished or "")


def test_a_cycle_that_has_decided_runs_until_it_gives_its_lease_back_or_lets_it_run_out(home: Path) -> None:
    lease = ledger.begin("p", trigger="arrival", definition="d", flow_run=None)
    ledger.end(lease)
    land("a")
    assert (look().running, due(Retrain(), look()).now) == (lease.cycle, False)
    with ledger.transaction() as connection:
        connection.execute(sa.text("UPDATE leases SET expires_at = '2000'"))
    assert (look().running, due(Retrain(), look()).now) == (None, True)


def test_failures_are_counted_from_the_last_cycle_that_ended_well_and_of_this_definition_only(home: Path) -> None:
    cycle(error="Breakdown: one. More of it")
    assert (look().failures, look().unfinished) == (1, "cycle 1 failed: Breakdown: one")
    cycle(error="two")
    assert (look().failures, look("edited").failures) == (2, 0)
    assert look("edited").unfinished is not None
    cycle()
    assert (look().failures, look().unfinished) == (0, None)
    cycle(error="three")
    assert look().failures == 1


def test_times_of_a_clock_that_was_ahead_hold_nothing_back(home: Path) -> None:
    land("a")
    cycle(error="failed")
    with ledger.transaction() as connection:
        connection.execute(sa.text("UPDATE arrivals SET seen_at = '2100-01-01T00:00:00.000000+00:00'"))
        connection.execute(sa.text("UPDATE cycles SET ended_at = '2100-01-01T00:00:00.000000+00:00'"))
    assert due(Retrain(debounce=60, min_interval=60), look()).now
