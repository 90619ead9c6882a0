"""What the ledger's questions cost with a thousand and with a million arrivals of history."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tasks.records import Look
from tasks.stores import ledger as book
from tests.benchmarks import standing
from tests.benchmarks.measure import console, spread, tell
from tests.filled import fill

PAGE = 500  # files that a sweep looks up together
COUNTS_ALL = ("tally", "named")  # these go through all arrivals


def observed(pipeline: str, number: int) -> None:
    """Record a file that is new."""
    name = f"new-{number}.csv"
    if len(book.observe(pipeline, [(Look(name, f"/in/{name}", 1, "s"), f"new-{number}", True)])) != 1:
        raise RuntimeError(f"{name} was known already")


def sorted_out(pipeline: str, number: int) -> None:
    """Take up a new file as a cycle does, without its rows."""
    observed(pipeline, number)
    lease = book.begin(pipeline, trigger="bench", definition="", flow_run=None)
    book.sort_out(lease)
    book.give_up(lease, [(arrival, "of no use") for arrival in book.outstanding(pipeline)])
    book.end(lease)
    book.release(lease)


def questions(pipeline: str) -> dict[str, Callable[[int], object]]:
    """Name what is asked of the ledger; each is given the number of the run."""
    page = [f"/in/{number}.csv" for number in range(PAGE)]
    return {
        "observe one new file": lambda number: observed(pipeline, number),
        "outstanding": lambda _: book.outstanding(pipeline),
        "count_outstanding": lambda _: book.count_outstanding(pipeline),
        "recorded, a page": lambda _: book.recorded(pipeline, page),
        "history, the newest 20": lambda _: book.history(pipeline, limit=20),
        "named": lambda _: book.named(pipeline, "17.csv"),
        "a cycle's claim, sorting out and end": lambda number: sorted_out(pipeline, 1_000_000 + number),
        "tally": lambda _: book.tally(pipeline),
    }


def took(question: Callable[[int], object], runs: int) -> list[float]:
    """Give the seconds of each of the runs, after one that counts for nothing."""
    seconds = []
    for number in range(runs + 1):
        began = time.perf_counter()
        question(number)
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def ledger(sizes: Sequence[int], runs: int) -> None:
    """Ask the same of a small and of a large ledger; another pipeline shares each of them, and its arrivals are newer."""
    measured: dict[int, dict[str, list[float]]] = {}
    for size in sizes:
        with ExitStack() as room:
            home: Path = room.enter_context(standing.home())
            began = time.perf_counter()
            fill("mine", size)
            fill("other", size)
            console.print(f"  2 x {size:,} arrivals in {time.perf_counter() - began:.1f} s, {_size(home) / 1e6:,.0f} MB")
            measured[size] = {name: took(question, runs) for name, question in questions("mine").items()}
    few, many = sizes
    for name in measured[few]:
        small, large = (1000 * statistics.median(measured[size][name]) for size in (few, many))
        if name in COUNTS_ALL:
            spread(f"{name}, {many:,} arrivals", measured[many][name], worst=1.0, note=f"{few:,}: {small:.2f} ms")
        else:
            tell(f"{name}, {many:,} arrivals against {few:,}", runs, large, small, 2.0, "ms")


def _size(home: Path) -> int:
    return sum(path.stat().st_size for path in home.glob("ledger.db*"))
