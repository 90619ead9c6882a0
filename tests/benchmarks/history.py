"""What the intake of one new file costs, with few and with many arrivals of history: observe, stage, commit, settle, join small files."""

import os
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tasks import settings
from tests.benchmarks import standing
from tests.benchmarks.measure import Cost, block, console, median, tell

PERIOD = 49  # intakes from one joining of small files to the next


def history(sizes: Sequence[int], runs: int) -> None:
    """Fill a home for each size of history, one intake a file, then measure the next intakes of all of them in turn."""
    with ExitStack() as room:
        homes = {size: room.enter_context(standing.home(RATCHET_SETTLE="0")) for size in sizes}
        grown = {size: [next_intake(homes[size], number) for number in range(size)] for size in sizes}
        costs: dict[int, list[Cost]] = {size: [] for size in sizes}
        for run in range(runs):
            for size in sizes:
                costs[size].append(next_intake(homes[size], size + run))
    first = median(costs[sizes[0]])
    for size in sizes[1:]:
        now = median(costs[size])
        tell(f"intake of a file with {size:,} arrivals of history, CPU", runs, now.cpu, first.cpu, 1.5, "CPU s")
        tell("  the same, wall", runs, now.wall, first.wall, 1.5, "s")
        period = grown[size][-PERIOD:]
        joined = statistics.mean(cost.cpu for cost in period)
        console.print(
            f"  mean of the {len(period)} before, with the joining of small files: {joined:.3f} CPU s, the dearest {dearest(period):.3f}"
        )


def dearest(costs: Sequence[Cost]) -> float:
    return max(cost.cpu for cost in costs)


def next_intake(home: Path, number: int) -> Cost:
    """Land a file in a home and give what its intake takes."""
    os.environ["RATCHET_HOME"] = str(home)
    path = standing.ready(number)
    standing.land(path)
    return block(lambda: intake(path.name))


def intake(name: str) -> None:
    """Take in the one file that is new, as a cycle does."""
    from flows import pipelines
    from tasks.clean import commit, compact, recover
    from tasks.ingest import stage
    from tasks.observe import survey
    from tasks.stores import ledger

    spec, place = pipelines.get("toy"), settings.read()
    survey(spec.name, str(place.inbox / "toy"))
    lease = ledger.begin(spec.name, trigger="bench", definition="", flow_run=None)
    recover(spec.name, lease)
    ledger.sort_out(lease)
    staged = stage(spec, ledger.outstanding(spec.name), place.work / "staged")
    done = commit(spec, lease, staged)
    compact(spec.name, lease)
    ledger.end(lease)
    ledger.release(lease)
    if [(part.name, part.state) for part in done.arrivals] != [(name, "ingested")]:
        raise RuntimeError(f"{name} was landed, {done.arrivals} was taken in")
