"""The ledger, on SQLite and on PostgreSQL: arrivals by content, one cycle at a time, decisions and champions in one transaction."""

import multiprocessing
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given
from hypothesis import settings as budget
from hypothesis import strategies as st

from tasks import settings
from tasks.errors import CycleInProgress, LeaseLost, LedgerError
from tasks.records import Arrival, Champion, Decision, Look
from tasks.stores import ledger
from tasks.stores.ledger import Lease

pytestmark = pytest.mark.usefixtures("new_ledger")


def see(uri: str, content: str, *, pipeline: str = "p") -> tuple[Arrival, ...]:
    look = Look(name=uri.strip("/"), uri=uri, size=1, stamp=f"{content}-stamp")
    return ledger.observe(pipeline, [(look, content, True)])


def begin(pipeline: str = "p") -> Lease:
    return ledger.begin(pipeline, trigger="test", definition="d", flow_run=None)


def ingested(lease: Lease, arrival: Arrival) -> None:
    ledger.settle(lease, [replace(arrival, state="duplicate" if arrival.duplicate_of else "ingested", accepted=3)])


def states() -> list[tuple[str, str, bool]]:
    return [(part.name, part.state, part.superseded) for part in reversed(ledger.history("p"))]


def promoted(cycle: int, version: int) -> Champion:
    return Champion("p", version, f"models:/m-{version}", "sha", cycle, "c", {}, None, 1, ledger.now())


def test_a_new_file_is_one_pending_arrival_however_often_it_is_seen(home: Path) -> None:
    assert len(see("/a", "one")) == 1
    assert see("/a", "one") == ()
    assert states() == [("a", "pending", False)]


def test_the_same_content_under_another_name_is_a_duplicate(home: Path) -> None:
    see("/a", "one")
    see("/b", "one")
    ledger.sort_out(begin())
    copy = ledger.history("p")[0]
    assert copy.state == "duplicate"
    assert copy.reason == "It has the same content as a."


def test_new_content_supersedes_the_old_only_once_its_rows_are_in(home: Path) -> None:
    lease = begin()
    ingested(lease, see("/a", "one")[0])
    (second,) = see("/a", "two")
    assert states() == [("a", "ingested", False), ("a", "pending", False)]
    ingested(lease, second)
    assert states() == [("a", "ingested", True), ("a", "ingested", False)]


def test_unusable_new_content_leaves_the_old_rows_in_place(home: Path) -> None:
    lease = begin()
    ingested(lease, see("/a", "one")[0])
    (second,) = see("/a", "garbage")
    ledger.settle(lease, [replace(second, state="quarantined", reason="no")])
    assert states()[0] == ("a", "ingested", False)


def test_content_that_was_replaced_before_it_was_read_is_not_waited_for(home: Path) -> None:
    see("/a", "one")
    see("/a", "two")
    ledger.sort_out(begin())
    assert [part.sha256 for part in ledger.outstanding("p")] == ["two"]


def test_going_back_to_earlier_content_is_a_new_arrival(home: Path) -> None:
    lease = begin()
    for content in ("one", "two", "one"):
        (arrival,) = see("/a", content)
        ingested(lease, arrival)
    assert [part.superseded for part in reversed(ledger.history("p"))] == [True, True, False]


def test_a_duplicate_comes_back_when_the_file_it_copied_changes(home: Path) -> None:
    lease = begin()
    ingested(lease, see("/a", "one")[0])
    see("/b", "one")
    ledger.sort_out(lease)
    assert ("b", "duplicate", False) in states()
    ingested(lease, see("/a", "two")[0])
    assert ("b", "pending", False) in states()


def take_in(lease: Lease) -> None:
    """What a cycle does with what is outstanding, as far as the ledger sees it."""
    while ledger.outstanding(lease.pipeline):
        ledger.sort_out(lease)
        for arrival in ledger.outstanding(lease.pipeline):
            if arrival.sha256 == "garbage":
                ledger.settle(lease, [replace(arrival, state="quarantined")])
            else:
                ingested(lease, arrival)


def land(pipeline: str, steps: list[tuple[str, str, bool]]) -> tuple[dict[str, str], list[str]]:
    """Give what each file holds in the end, and the contents that are live in the lake."""
    lease = begin(pipeline)
    now: dict[str, str] = {}
    for name, content, cycle_runs in steps:
        see(f"/{name}", content, pipeline=pipeline)
        now[name] = content
        if cycle_runs:
            take_in(lease)
    take_in(lease)
    return now, [part.sha256 for part in ledger.history(pipeline) if part.state == "ingested" and not part.superseded]


def landings(*contents: str) -> st.SearchStrategy[list[tuple[str, str, bool]]]:
    return st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(contents), st.booleans()), max_size=12)


@budget(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=landings("one", "two", "three"))
def test_each_content_that_the_files_have_now_is_live_exactly_once(home: Path, steps: list[tuple[str, str, bool]]) -> None:
    now, live = land(uuid.uuid4().hex, steps)
    assert sorted(live) == sorted(set(now.values()))


@budget(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=landings("one", "two", "garbage"))
def test_garbage_among_the_versions_loses_no_other_content(home: Path, steps: list[tuple[str, str, bool]]) -> None:
    now, live = land(uuid.uuid4().hex, steps)
    assert set(now.values()) - {"garbage"} <= set(live)


def test_a_second_cycle_is_refused_while_the_first_runs(home: Path) -> None:
    lease = begin()
    with pytest.raises(CycleInProgress, match="Wait for it"):
        begin()
    ledger.release(lease)
    assert begin().token == lease.token + 1


def _race(barrier: Barrier, won: "Queue[tuple[int, int]]", rounds: int) -> None:
    for number in range(rounds):
        barrier.wait()
        try:
            lease = begin()
        except CycleInProgress:
            lease = None
        barrier.wait()  # whoever has it keeps it until all have tried
        if lease is not None:
            won.put((number, lease.token))
            ledger.release(lease)


def test_of_processes_that_race_for_the_lease_one_wins_each_time_also_on_a_ledger_that_is_not_made_yet(home: Path) -> None:
    spawning, rounds = multiprocessing.get_context("spawn"), 20
    barrier, won = spawning.Barrier(3), spawning.Queue()
    racers = [spawning.Process(target=_race, args=(barrier, won, rounds), daemon=True) for _ in range(3)]
    for racer in racers:
        racer.start()
    assert [won.get(timeout=60) for _ in range(rounds)] == [(number, number + 1) for number in range(rounds)]
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert won.empty()


def _claim_and_die() -> None:
    begin()


def test_the_lease_of_a_dead_process_is_taken_over_and_its_cycle_marked_failed(home: Path) -> None:
    dying = multiprocessing.get_context("spawn").Process(target=_claim_and_die)
    dying.start()
    dying.join()
    assert dying.exitcode == 0
    assert begin().token == 2
    failed = ledger.list_cycles("p")[1]
    assert failed.state == "failed"
    assert "took over" in (failed.error or "")


def test_a_cycle_that_takes_longer_than_its_lease_keeps_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_LEASE", "1")
    lease = begin()
    with ledger.kept(lease):
        time.sleep(2)
        with pytest.raises(CycleInProgress):
            begin()
    time.sleep(1.1)
    assert begin().token == lease.token + 1


def test_a_cycle_that_lost_its_lease_can_commit_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_LEASE", "1")
    (arrival,) = see("/a", "one")
    stale = begin()
    with ledger.transaction() as connection:
        connection.execute(sa.text("UPDATE leases SET expires_at = '2000'"))
    begin()
    decision = Decision("p", stale.cycle, "promote", "x")
    with pytest.raises(LeaseLost):
        ledger.settle(stale, [replace(arrival, state="ingested")])
    with pytest.raises(LeaseLost):
        ledger.decide(stale, decision, trained_rows=1, candidate=promoted(stale.cycle, 1))
    with pytest.raises(LeaseLost):
        ledger.renew(stale)
    assert ledger.outstanding("p") == (arrival,)
    assert ledger.champion("p") is None


def test_decision_and_champion_are_one_transaction_against_the_expected_champion(home: Path) -> None:
    lease = begin()
    ledger.decide(lease, Decision("p", lease.cycle, "promote", "first"), trained_rows=5, candidate=promoted(lease.cycle, 1))
    ledger.release(lease)
    lease = begin()
    with pytest.raises(LedgerError, match="run the cycle again"):
        ledger.decide(lease, Decision("p", lease.cycle, "promote", "x", previous=None), trained_rows=5, candidate=promoted(lease.cycle, 2))
    assert ledger.decision("p", lease.cycle) is None
    ledger.decide(lease, Decision("p", lease.cycle, "promote", "x", previous=1), trained_rows=5, candidate=promoted(lease.cycle, 2))
    assert [champion.version for champion in ledger.champions("p")] == [2, 1]
    assert ledger.champions("p")[1].until is not None
    assert [effect.payload["version"] for effect in ledger.unfinished("p") if effect.effect == "alias"] == [1, 2]
    for effect in ledger.unfinished("p"):
        ledger.finish(effect)
    assert ledger.unfinished("p") == ()


def test_rows_are_counted_since_the_last_cycle_that_trained(home: Path) -> None:
    lease = begin()
    ingested(lease, see("/a", "one")[0])
    assert ledger.rows_since_training("p") == 3
    ledger.decide(lease, Decision("p", lease.cycle, "keep", "x"), trained_rows=3)
    assert ledger.rows_since_training("p") == 0


def test_what_a_killed_cycle_sent_to_quarantine_counts_in_the_decision_on_those_rows(home: Path) -> None:
    lease = begin()
    ledger.settle(lease, [replace(see("/a", "one")[0], state="ingested", accepted=3, rejected=5, repeated=2)])
    ledger.end(lease, error="killed")
    ledger.release(lease)
    lease = begin()
    ledger.settle(lease, [replace(see("/b", "two")[0], state="ingested", accepted=10)])
    assert ledger.rejected_since_training("p") == 0.25
    ledger.decide(lease, Decision("p", lease.cycle, "keep", "x"), trained_rows=3)
    assert ledger.rejected_since_training("p") == 0


def script(url: str, text: str) -> None:
    """Run statements on a ledger that Ratchet has not opened yet."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in text.replace("{serial}", "INTEGER" if engine.name == "sqlite" else "SERIAL").split(";\n"):
            connection.exec_driver_sql(statement) if statement.strip() else None
    engine.dispose()


def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(new_ledger: Callable[[], str]) -> None:
    url = new_ledger()
    script(url, "CREATE TABLE meta (name VARCHAR PRIMARY KEY, value VARCHAR NOT NULL);\nINSERT INTO meta VALUES ('schema', '999');\n")
    with pytest.raises(LedgerError, match="schema version 999"):
        ledger.champion("p")
    with pytest.raises(LedgerError, match="schema version 999"):
        begin()
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == ["meta"]
    engine.dispose()


def tables_and_indexes(url: str) -> dict[str, tuple[set[str], set[str]]]:
    """Give every table's columns and indexes."""
    engine = sa.create_engine(url)
    found = sa.inspect(engine)
    shape = {
        table: ({column["name"] for column in found.get_columns(table)}, {str(index["name"]) for index in found.get_indexes(table)})
        for table in found.get_table_names()
    }
    engine.dispose()
    return shape


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_ledger_of_an_older_version_is_brought_forward_with_all_that_it_holds(new_ledger: Callable[[], str], version: int) -> None:
    begin()
    made_new, old = settings.read().ledger_url, new_ledger()
    script(old, (Path(__file__).parent / f"ledger_v{version}.sql").read_text())
    assert states() == [("a", "ingested", False), ("b", "pending", False)]
    assert tables_and_indexes(old) == tables_and_indexes(made_new)
    champion = ledger.champion("p")
    assert champion is not None
    assert (champion.version, champion.candidate) == (7, "c")
    assert see("/a", "one") == ()
    lease = begin()
    assert (lease.cycle, lease.token, lease.taken_over) == (3, 3, True)
    ledger.settle(lease, [replace(ledger.outstanding("p")[0], state="ingested")])
    assert len(see("/c", "three")) == 1
    assert [receipt.outcome for receipt in ledger.receipts("p")] == ["ran"]
    assert (champion.how, champion.served, ledger.waiting("p"), ledger.spendings("p")) == ("promoted", "refit", None, ())
    assert (ledger.list_scorings("p"), ledger.pin("p", "s", version=7, output="/o", form="csv", file="/a").id) == ((), 1)
