"""Due: decide whether a cycle is to begin now, from what is outstanding and what the pipeline's `Retrain` asks for.

`due` is pure, `situation` reads what it needs from the ledger. The rules are looked at in one order and the first that holds the
cycle back gives the receipt. Where a clock was set back, negative times count as "long ago": too early a cycle costs a little work,
none at all would be a silence.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from zoneinfo import ZoneInfo

from tasks.spec import Retrain
from tasks.stores import ledger
from tasks.triggers import Receipt, Situation

FIRST_WAIT, LONGEST_WAIT = 5.0, 600.0
_LOOK_AGAIN = 1.0  # seconds until a look whether a cycle that somebody else started has ended
_REMEMBERED = 20  # cycles that are looked at


@dataclass(frozen=True)
class Due:
    """Whether a cycle is due, the receipt, and after how many seconds to look again if nothing happens (None: when something does)."""

    now: bool
    receipt: Receipt | None
    again: float | None = None


def backoff(failures: int) -> float:
    """Give the seconds to wait after so many cycles failed in a row: 5, 10, 20, ... up to ten minutes.

    >>> [backoff(failures) for failures in (0, 1, 2, 3, 20)]
    [0.0, 5.0, 10.0, 20.0, 600.0]
    """
    return 0.0 if failures == 0 else min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(failures - 1, 20))


def due(retrain: Retrain, found: Situation) -> Due:
    """Decide whether a cycle is due.

    >>> due(Retrain(min_arrivals=3), Situation(outstanding=2)).receipt.why
    '2 arrivals are outstanding, 3 are asked for (min_arrivals)'
    """
    if not found.outstanding and found.unfinished is None:
        return Due(False, None)
    if found.running is not None:
        return _waited("running", f"cycle {found.running} is running; the next one takes what it does not", found, _LOOK_AGAIN)
    if left := _left(backoff(found.failures), found.since_end):
        what = f"the last {found.failures} cycles failed" if found.failures > 1 else "the last cycle failed"
        return _waited("backoff", f"{what}; the next try is {backoff(found.failures):g} s after it", found, left)
    if found.unfinished is not None:  # what was begun is finished first, whatever the policy says of new data
        return _asked(found.unfinished, found, "recovery")
    return _by_policy(retrain, found)


def _by_policy(retrain: Retrain, found: Situation) -> Due:
    if not retrain.on_arrival:
        for_what = f"the schedule {retrain.schedule!r}" if retrain.schedule else "someone to start a cycle"
        return _waited("on_arrival", f"arrivals start no cycle here (on_arrival is off); waiting for {for_what}", found)
    if found.outstanding < retrain.min_arrivals:
        what = "1 arrival is" if found.outstanding == 1 else f"{found.outstanding} arrivals are"
        return _waited("min_arrivals", f"{what} outstanding, {retrain.min_arrivals} are asked for (min_arrivals)", found)
    if left := min(_left(retrain.debounce, found.quiet), _left(retrain.debounce_limit, found.waiting)):
        return _waited("debounce", f"waiting until nothing has landed for {retrain.debounce:g} s (debounce)", found, left)
    if left := _left(retrain.min_interval, found.since_start):
        return _waited("min_interval", f"the last cycle began less than {retrain.min_interval:g} s ago (min_interval)", found, left)
    if retrain.max_per_day is not None and found.today >= retrain.max_per_day:
        return _waited("max_per_day", f"{found.today} cycles were started by arrivals today, as many as allowed (max_per_day)", found, 60.0)
    return _asked(
        f"{found.outstanding} arrivals are outstanding" if found.outstanding > 1 else "1 arrival is outstanding", found, "arrival"
    )


def _left(wanted: float, passed: float | None) -> float:
    """Give the seconds that are left of a wait, 0 when it is over or when the clock was set back."""
    return 0.0 if passed is None or passed < 0 else max(0.0, wanted - passed)


def _waited(rule: str, why: str, found: Situation, again: float | None = None) -> Due:
    return Due(False, Receipt("waited", rule, why, outstanding=found.outstanding), again)


def _asked(why: str, found: Situation, trigger: str) -> Due:
    return Due(True, Receipt("asked", trigger, why, trigger=trigger, outstanding=found.outstanding))


def situation(pipeline: str, definition: str, timezone: str) -> Situation:
    """Read from the ledger what decides whether a cycle of the pipeline is due; `definition` is its file's SHA-256 now."""
    now = datetime.now(UTC)
    count, first, last = ledger.count_outstanding(pipeline)
    cycles = ledger.list_cycles(pipeline, limit=_REMEMBERED)
    newest = cycles[0] if cycles else None
    running = newest.id if newest and ledger.lease_holder(pipeline) else None  # also while it reports a decision that is made
    return Situation(
        outstanding=count,
        quiet=_since(last, now) or 0.0,
        waiting=_since(first, now) or 0.0,
        since_start=_since(next((cycle.started_at for cycle in cycles if cycle.trigger == "arrival"), None), now),
        since_end=_since((newest.ended_at or newest.started_at) if newest else None, now),
        today=ledger.begun_by_arrivals(pipeline, _midnight(now, timezone)),
        running=running,
        unfinished=_unfinished(newest) if running is None else None,
        failures=len(list(takewhile(lambda cycle: cycle.state != "done" and cycle.definition == definition, cycles))),
    )


def _unfinished(newest: ledger.Cycle | None) -> str | None:
    if newest is None or newest.state == "done":
        return None
    if newest.state == "running":
        return f"cycle {newest.id} ended without a decision: its process is gone, or was silent for longer than its lease"
    return f"cycle {newest.id} failed: {(newest.error or '').partition('. ')[0][:200]}"


def _since(then: str | None, now: datetime) -> float | None:
    return None if then is None else (now - datetime.fromisoformat(then)).total_seconds()


def _midnight(now: datetime, timezone: str) -> datetime:
    """Give the moment at which the day began in a time zone, in UTC.

    >>> _midnight(datetime(2026, 7, 1, 23, 0, tzinfo=UTC), "Europe/Berlin").isoformat()
    '2026-07-01T22:00:00+00:00'
    """
    return now.astimezone(ZoneInfo(timezone)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)
