"""What people decide, on SQLite and on PostgreSQL: one answer to one proposal, against the champion it was held against, and the way back."""

import itertools
import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from tasks.budget import Spending
from tasks.errors import CycleInProgress, LeaseLost, LedgerError, UserError
from tasks.records import Champion, Decision, Snapshot
from tasks.stores import ledger
from tasks.stores.ledger import Lease

pytestmark = pytest.mark.usefixtures("new_ledger")


def begin() -> Lease:
    return ledger.begin("p", trigger="test", definition="d", flow_run=None)


def candidate(cycle: int, version: int) -> Champion:
    return Champion("p", version, f"models:/m-{version}", "sha", cycle, "c", {}, None, 1, ledger.now(), evidence_after="5")


def decided(verdict: Any, version: int, previous: int | None, last: str = "10") -> int:
    """Let a cycle end in that verdict on that version."""
    lease = begin()
    snapshot = Snapshot("uri", 1, 10, "0", last, "digest")
    made = Decision("p", lease.cycle, verdict, "It said so.", previous=previous, snapshot=snapshot)
    ledger.decide(
        lease, made, trained_rows=5, candidate=candidate(lease.cycle, version), spending=Spending(lease.cycle, "stream", 0.01, "2024-01-01")
    )
    ledger.release(lease)
    return lease.cycle


def serving() -> list[tuple[int, str, str | None]]:
    """Give the history of champions, newest first: version, how, and by whom."""
    return [(part.version, part.how, part.who) for part in ledger.champions("p")]


def test_a_version_that_is_held_serves_only_once_it_was_approved(home: Path) -> None:
    decided("promote", 1, None)
    cycle = decided("hold", 2, 1)
    assert [part.version for part in ledger.champions("p")] == [1]
    waiting = ledger.waiting("p")
    assert waiting is not None
    assert (waiting.cycle, waiting.expected, waiting.candidate.version) == (cycle, 1, 2)
    made = ledger.approve("p", who="ada", why="it is fine")
    assert (made.version, made.how, made.who, made.reason) == (2, "approved", "ada", "it is fine")
    assert serving() == [(2, "approved", "ada"), (1, "promoted", None)]
    assert ledger.waiting("p") is None
    assert {effect.effect for effect in ledger.unfinished("p") if effect.cycle == cycle} == {
        "question",
        "answered",
        "alias",
        "notice",
        "report",
    }


def test_a_version_that_was_rejected_never_serves(home: Path) -> None:
    decided("promote", 1, None)
    cycle = decided("hold", 2, 1)
    ledger.reject("p", who="ada", why="odd")
    found = ledger.proposal("p", cycle)
    assert found is not None
    assert (found.state, found.who, found.why) == ("rejected", "ada", "odd")
    with pytest.raises(UserError, match="No version of 'p' waits"):
        ledger.approve("p", who="ada", why="yet")
    assert serving() == [(1, "promoted", None)]


def test_the_first_model_can_be_held_too(home: Path) -> None:
    decided("hold", 1, None)
    assert ledger.champion("p") is None
    ledger.approve("p", who="ada", why="no leak")
    assert serving() == [(1, "approved", "ada")]


def test_a_newer_proposal_takes_the_place_of_one_that_waits(home: Path) -> None:
    decided("promote", 1, None)
    first, second = decided("hold", 2, 1), decided("hold", 3, 1)
    with pytest.raises(UserError, match=f"The version of cycle {first} waits no more; that of cycle {second} does"):
        ledger.approve("p", who="ada", why="x", cycle=first)
    old = ledger.proposal("p", first)
    assert old is not None
    assert (old.state, old.why) == ("lapsed", f"Cycle {second} has proposed version 3 instead.")
    assert ledger.approve("p", who="ada", why="x", cycle=second).version == 3


def test_a_promotion_ends_what_waits(home: Path) -> None:
    decided("promote", 1, None)
    decided("hold", 2, 1)
    decided("promote", 3, 1)
    assert ledger.waiting("p") is None
    with pytest.raises(UserError, match="No version"):
        ledger.approve("p", who="ada", why="x")


def test_a_rollback_brings_the_one_before_back_and_asks_for_newer_evidence(home: Path) -> None:
    decided("promote", 1, None, last="10")
    decided("promote", 2, 1, last="20")
    waiting = decided("hold", 3, 2, last="30")
    made = ledger.roll_back("p", who="ada", why="complaints")
    assert (made.version, made.how, made.evidence_after, made.until) == (1, "rolled back", "30", None)
    assert serving() == [(1, "rolled back", "ada"), (2, "promoted", None), (1, "promoted", None)]
    lapsed = ledger.proposal("p", waiting)
    assert lapsed is not None
    assert lapsed.state == "lapsed"
    again = ledger.roll_back("p", who="ada", why="no, it was fine", to=2)
    assert (again.version, again.evidence_after) == (2, "30")


@pytest.mark.parametrize(
    ("to", "says"), [(None, "has no earlier champion"), (1, "Version 1 is the champion of 'p' already"), (9, "Version 9 of 'p' never was")]
)
def test_a_rollback_to_what_never_served_is_refused(home: Path, to: int | None, says: str) -> None:
    decided("promote", 1, None)
    with pytest.raises(UserError, match=says):
        ledger.roll_back("p", who="ada", why="x", to=to)
    assert serving() == [(1, "promoted", None)]


def test_going_back_twice_leads_on_and_not_to_the_version_that_was_just_left(home: Path) -> None:
    for version, previous in ((1, None), (2, 1), (3, 2)):
        decided("promote", version, previous)
    assert [ledger.roll_back("p", who="ada", why="worse").version for _ in range(2)] == [2, 1]
    with pytest.raises(
        UserError, match=r"no earlier champion that was not rolled back itself; name it with --to; earlier champions: \[2, 3\]"
    ):
        ledger.roll_back("p", who="ada", why="worse still")
    assert ledger.roll_back("p", who="ada", why="it was the data", to=3).version == 3
    decided("promote", 4, 3)
    assert [ledger.roll_back("p", who="ada", why="worse").version for _ in range(2)] == [3, 1]


def test_a_cycle_that_compared_with_a_champion_that_was_rolled_back_promotes_nothing(home: Path) -> None:
    decided("promote", 1, None)
    decided("promote", 2, 1)
    ledger.roll_back("p", who="ada", why="complaints")
    for verdict in ("promote", "hold"):
        with pytest.raises(LedgerError, match="compared its challenger with champion 2, but the champion is 1 now"):
            decided(verdict, 3, 2)
        ledger.release(Lease("p", 0, 99))
        with ledger.transaction() as connection:
            connection.exec_driver_sql("UPDATE leases SET holder = NULL")
    assert serving()[0] == (1, "rolled back", "ada")


def test_what_comparisons_spent_is_kept_in_order(home: Path) -> None:
    decided("promote", 1, None)
    decided("hold", 2, 1)
    assert [(part.evidence, part.level) for part in ledger.spendings("p")] == [("stream", 0.01), ("stream", 0.01)]


def _tried(act: Callable[[], object]) -> bool:
    try:
        act()
    except (UserError, LedgerError, LeaseLost, CycleInProgress):
        return False
    return True


def test_whoever_races_there_is_one_champion_after_the_first_and_the_history_has_no_gap(home: Path) -> None:
    decided("promote", 1, None)
    done: Counter[str] = Counter()
    for turn in range(100):
        version = ledger.champion("p").version  # type: ignore[union-attr]
        decided("hold", 1000 + turn, version)
        acts: dict[str, Callable[[], object]] = {
            "approve": partial(ledger.approve, "p", who="ada", why="race"),
            "roll back": partial(ledger.roll_back, "p", who="bob", why="race"),
            "promote": partial(decided, "promote", 2000 + turn, version),
            "reject": partial(ledger.reject, "p", who="eve", why="race"),
        }
        with ThreadPoolExecutor(len(acts)) as racers:
            outcomes = dict(zip(acts, racers.map(_tried, acts.values()), strict=True))
        done.update(name for name, outcome in outcomes.items() if outcome)
        if not outcomes["promote"]:
            with ledger.transaction() as connection:
                connection.exec_driver_sql("UPDATE leases SET holder = NULL")
        served = ledger.champions("p")
        assert [part.until is None for part in served] == [True, *[False] * (len(served) - 1)]
        assert all(older.until == newer.since for newer, older in itertools.pairwise(served))
    assert sum(done.values()) >= 100  # in every turn somebody did


def _answer(start: Barrier, approve: bool, results: Any) -> None:
    start.wait()
    try:
        (ledger.approve if approve else ledger.reject)("p", who=str(approve), why="race")
        results.put(approve)
    except UserError:
        results.put(None)


def test_of_many_answers_at_once_one_counts(home: Path, new_ledger: Callable[[], str]) -> None:
    decided("promote", 1, None)
    for turn in range(2):
        decided("hold", 10 + turn, ledger.champion("p").version)  # type: ignore[union-attr]
        context = multiprocessing.get_context("spawn")
        start, results = context.Barrier(4), context.Queue()
        racers = [context.Process(target=_answer, args=(start, number % 2 == 0, results)) for number in range(4)]
        for racer in racers:
            racer.start()
        answers = [results.get(timeout=60) for _ in racers]
        for racer in racers:
            racer.join()
        (counted,) = [answer for answer in answers if answer is not None]
        assert (ledger.champion("p").version == 10 + turn) is counted  # type: ignore[union-attr]
        assert sum(part.until is None for part in ledger.champions("p")) == 1
