"""Listing a source whose files are all known: how long it takes, and whether memory grows with their number."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import standing
from tests.benchmarks.measure import peak, spread, tell

LIST = "import sys; from tests.benchmarks.sweep import listed; listed(sys.argv[1])"


def listed(source: str) -> None:
    """List a source within this process: seconds, new files, and peak memory before and after."""
    from tasks.observe import survey
    from tasks.stores import ledger

    ledger.count_outstanding("toy")  # opens the ledger
    before, began = peak(), time.perf_counter()
    found = survey("toy", source)
    print(f"RESULT {time.perf_counter() - began} {len(found.recorded)} {before} {peak()} {found.files}")


def in_a_process(source: Path) -> list[float]:
    output = subprocess.run(
        [sys.executable, "-c", LIST, str(source)], check=True, capture_output=True, text=True, env=dict(os.environ)
    ).stdout
    return [float(word) for word in output.split("RESULT ")[1].split()]


def sweep(runs: int, files: int) -> None:
    """The same with a tenth of the files, for the memory."""
    seconds, peaks = {}, {}
    for count in (files // 10, files):
        with tempfile.TemporaryDirectory() as place, standing.home(RATCHET_SETTLE="0"):
            source = Path(place) / "in"
            source.mkdir()
            for number in range(count):
                (source / f"part-{number:06d}.csv").write_text(f"id\n{number}\n")
            time.sleep(3)  # until an equal stamp proves equal content
            first = in_a_process(source)
            again = [in_a_process(source) for _ in range(runs)]
        if [first[1], *(found[1] for found in again)] != [count] + runs * [0]:
            raise RuntimeError(f"of {count} files {first[1]} were recorded at first, {again} again")
        seconds[count] = [found[0] for found in again]
        peaks[count] = sorted(found[3] for found in again)[runs // 2]
        grown = sorted(found[3] - found[2] for found in again)[runs // 2]
        spread(
            f"sweep of {count:,} known files", seconds[count], worst=5.0, note=f"first time {first[0]:.1f} s; peak grew by {grown:.1f} MB"
        )
    few, many = peaks
    tell(f"  peak memory, {many:,} known files against {few:,}", runs, peaks[many], peaks[few], 1.1, "MB")
