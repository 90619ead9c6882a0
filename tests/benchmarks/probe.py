"""The serving probe: what it takes as a whole, against a bare process that loads the same model, and whether its latencies can be relied on."""

import os
import statistics
import sys
import tempfile
from pathlib import Path

import polars as pl

from tests.benchmarks import data, deciding
from tests.benchmarks.cycle import fresh_home
from tests.benchmarks.measure import command, console, median, spread, tell

UNSEEN = 1344  # four weeks of half-hours
BARE = """
import sys, polars, pandera.polars, skops.io
types = skops.io.get_untrusted_types(file=sys.argv[1])
skops.io.load(sys.argv[1], trusted=types)
"""


def probe(runs: int) -> None:
    """Probe the same stored model again and again."""
    from flows import pipelines
    from tasks import contract
    from tasks.probe import examine, standby
    from tasks.stores import kept
    from tests.stored import store

    if not data.ELEC2.exists():
        console.print(f"Elec2 is not at {data.ELEC2}: set RATCHET_BENCH_ELEC2 to its file. The figures on it are left out.")
        return
    raw = pl.read_csv(data.ELEC2, infer_schema=False).tail(12_000).with_row_index("_row")
    rows, _ = contract.parse(raw, pipelines.get("electricity").contract)
    with fresh_home(), tempfile.TemporaryDirectory() as place:
        stored = store("electricity", rows.drop("_row"), Path(place), unseen=UNSEEN)
        model = kept.place(stored.candidate.sha256) / "model.skops"
        found, floors = [], []
        for number in range(runs):
            floors.append(command([sys.executable, "-c", BARE, model], {"OMP_NUM_THREADS": "1"}))
            with standby(Path(place) / str(number)) as process:
                found.append(examine(stored.pipeline, stored.candidate, stored.fitted, stored.prepared, process))
    broken = sorted({rule.sentence for one in found for rule in one.rules if not rule.passed})
    if broken:
        console.print(f"[bold red]The probe did not pass[/]: {broken}")
    used, floor = statistics.median(one.seconds for one in found), median(floors)
    spread("serving probe of Elec2's boosting, wall", [one.seconds for one in found], p50=2.0, note=f"load {os.getloadavg()[0]:.1f}")
    tell("  the same against a bare process that loads the model, wall", runs, used, floor.wall, 2.0, "s")
    _repeats("p50", [one.p50_ms for one in found])
    _repeats("p99", [one.p99_ms for one in found])
    _repeats("memory", [one.memory_mb for one in found])
    deciding.deciding(runs)


def _repeats(name: str, figures: list[float | None]) -> None:
    """Print a figure's median over the runs, and by how much the farthest run is off it."""
    given = [figure for figure in figures if figure is not None]
    middle = statistics.median(given)
    off = max(abs(figure - middle) / middle for figure in given)
    verdict = "[green]ok[/]" if off < 0.2 and len(given) == len(figures) else "[bold red]MISSED[/]"
    console.print(f"  {name:60} n={len(given):<3} median {middle:8.3f}  farthest {off:6.1%}  target < 20 % {verdict}", highlight=False)
