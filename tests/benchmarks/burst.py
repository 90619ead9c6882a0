"""Many small files at once: how many cycles take them in, how quickly, and in how much memory."""

import time
from pathlib import Path

from tasks import settings
from tasks.stores import ledger
from tests.benchmarks import standing
from tests.benchmarks.measure import console, peak, tell
from tests.landing import toy_rows

PATIENCE = 900.0


def burst(files: int, rows: int = 5) -> None:
    """Rename them all into the inbox of a standing stack, and follow what its agent makes of them."""
    with standing.standing() as found:
        ready = made(files, rows)
        inbox = settings.read().inbox / "toy"
        began = time.perf_counter()
        for path in ready:
            path.rename(inbox / path.name)
        landed = time.perf_counter() - began
        known, taken, peaks = followed(files, began)
        agent = peak(next(part.pid for part in found.parts if part.name == "agent") or 0)
        cycles = {arrival.cycle for arrival in ledger.history("toy")}
        states = {arrival.state for arrival in ledger.history("toy")}
    console.print(
        f"{files:,} files of {rows} rows, renamed in {landed:.1f} s: all known after {known:.1f} s, all settled after {taken:.1f} s"
    )
    tell(f"  cycles that took them in (all {'/'.join(sorted(states))})", 1, len(cycles), 1, 2.0, "cycles")
    tell("  files per s, from the first rename to the last settled", 1, files / taken, 1, 300, "files/s", at_least=True)
    tell("  peak memory of the cycle's process against 600 MB", 1, max(peaks.values()), 600, 1.0, "MB", note=f"agent {agent:.0f} MB")


def made(files: int, rows: int) -> list[Path]:
    """Lay the files into a directory beside the inbox."""
    ready = settings.read().home / "ready"
    ready.mkdir()
    frame = toy_rows(files * rows)
    for number in range(files):
        frame.slice(number * rows, rows).write_csv(ready / f"part-{number:05d}.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    return sorted(ready.iterdir())


def followed(files: int, began: float) -> tuple[float, float, dict[int, float]]:
    """Wait until all files are settled and the cycle that did it has ended; give when all were known, when all settled, and the peaks."""
    known = taken = 0.0
    peaks: dict[int, float] = {}
    limit = began + PATIENCE
    while time.perf_counter() < limit:
        passed, holder = time.perf_counter() - began, ledger.lease_holder("toy")
        if holder is not None:
            look_at(int(holder.split("/")[1]), peaks)
        if not known and newest() >= files:
            known = passed
        if known and not taken and ledger.count_outstanding("toy")[0] == 0:
            taken = passed
        if taken and holder is None:
            return known, taken, peaks
        time.sleep(0.1)
    raise TimeoutError(f"not all files were settled within {PATIENCE:.0f} s")


def newest() -> int:
    return max((arrival.seq for arrival in ledger.history("toy", limit=1)), default=0)


def look_at(pid: int, peaks: dict[int, float]) -> None:
    try:
        peaks[pid] = peak(pid)
    except (OSError, IndexError):  # it has just ended
        return
