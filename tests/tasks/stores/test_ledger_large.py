"""A ledger with many arrivals: its answers stay right, and what is asked for every file or every few seconds costs what it costs in a small one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tasks import settings
from tasks.records import Look
from tasks.stores import ledger
from tasks.stores.ledger import access
from tests.filled import fill

FEW, MANY = 500, 20_000


def see(pipeline: str, name: str) -> int:
    """Record a new file, and give how many arrivals that made."""
    return len(ledger.observe(pipeline, [(Look(name, f"/in/{name}", 1, f"{name}-stamp"), f"content of {name}", True)]))


@pytest.mark.usefixtures("new_ledger")
def test_among_many_arrivals_the_new_one_is_found_counted_and_settled(home: Path) -> None:
    fill("p", MANY)
    fill("other", FEW)
    assert (see("p", "new.csv"), see("p", "new.csv")) == (1, 0)
    assert [arrival.name for arrival in ledger.outstanding("p")] == ["new.csv"]
    assert (ledger.count_outstanding("p")[0], ledger.count_outstanding("other")[0]) == (1, 0)
    assert [arrival.name for arrival in ledger.history("p", limit=3)] == ["new.csv", f"{MANY - 1}.csv", f"{MANY - 2}.csv"]
    assert ledger.recorded("p", ["/in/7.csv", "/in/new.csv", "/in/none.csv"]) == {
        "/in/7.csv": ("s7", True),
        "/in/new.csv": ("new.csv-stamp", True),
    }
    lease = ledger.begin("p", trigger="test", definition="d", flow_run=None)
    ledger.sort_out(lease)
    ledger.give_up(lease, [(ledger.outstanding("p")[0], "It is of no use.")])
    assert ledger.tally("p") == {
        "ingested": MANY * 9 // 10,
        "replaced": MANY * 9 // 100,
        "replaced before it was read": MANY // 100,
        "quarantined": 1,
    }


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count what SQLite does in the block, in hundreds of steps of its virtual machine; unlike time, that is the same each time."""
    steps: list[int] = [0]

    def step() -> int:
        steps[0] += 1
        return 0

    def watch(connection: Any, *_: object) -> None:
        connection.set_progress_handler(step, 100)

    engine = access._open(settings.read().ledger_url)
    sa.event.listen(engine, "checkout", watch)
    try:
        yield steps
    finally:
        sa.event.remove(engine, "checkout", watch)


def cycle(pipeline: str) -> None:
    """Claim, sort out, settle and end a cycle."""
    lease = ledger.begin(pipeline, trigger="test", definition="d", flow_run=None)
    ledger.sort_out(lease)
    ledger.settle(lease, ledger.outstanding(pipeline))
    ledger.end(lease)
    ledger.release(lease)


PAGE = [f"/in/{number}.csv" for number in range(FEW)]
QUESTIONS: dict[str, Callable[[str], object]] = {
    "observe": lambda pipeline: see(pipeline, "new.csv"),
    "outstanding": ledger.outstanding,
    "count_outstanding": ledger.count_outstanding,
    "recorded": lambda pipeline: ledger.recorded(pipeline, PAGE),
    "history": lambda pipeline: ledger.history(pipeline, limit=20),
    "history of a cycle": lambda pipeline: ledger.history(pipeline, cycle=10_000),
    "a cycle": cycle,
}


@pytest.mark.parametrize("what", QUESTIONS)
def test_a_question_is_as_much_work_in_a_large_ledger_as_in_a_small_one(home: Path, what: str) -> None:
    fill("large", MANY)
    fill("small", FEW)
    work = {}
    for pipeline in ("small", "large"):
        see(pipeline, "outstanding.csv")
        with counted() as steps:
            QUESTIONS[what](pipeline)
        work[pipeline] = steps[0]
    assert work["large"] <= 2 * work["small"] + 5, work


def test_the_tally_of_many_arrivals_reads_an_index_and_not_the_arrivals(home: Path) -> None:
    fill("p", MANY)
    with counted() as steps:
        ledger.tally("p")
    assert steps[0] * 100 <= 15 * MANY
