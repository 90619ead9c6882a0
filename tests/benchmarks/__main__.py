"""`make bench`: every figure as a ratio to a floor measured in the same run. Not a test: it always ends with 0, and says MISSED where it is."""

import argparse
import os
from collections.abc import Callable

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RATCHET_SETTLE", "0")

from tests.benchmarks import (  # noqa: E402
    batch,
    burst,
    cycle,
    evaluation,
    history,
    ledger,
    logged,
    online,
    probe,
    registering,
    report,
    rows,
    stopping,
    sweep,
    takeover,
    trigger,
)

NAMES = [
    "electricity",
    "big",
    "ingest",
    "arrival",
    "checks",
    "evaluation",
    "register",
    "trigger",
    "sweep",
    "burst",
    "history",
    "ledger",
    "takeover",
    "stopping",
    "probe",
    "report",
    "online",
    "swaps",
    "starting",
    "batch",
    "logged",
]


def main() -> None:
    """Run the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=NAMES)
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured, in turn with its floor")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one run")
    given = parser.parse_args()
    runs, files, size, part = (1, 10, 50_000, 10) if given.quick else (given.runs, 50, 100_000, 1)
    alone = {  # these have a home and, where they need one, a stack of their own
        "trigger": lambda: trigger.trigger(50 // part, 10 // part),
        "sweep": lambda: sweep.sweep(min(runs, 3), 100_000 // part),
        "burst": lambda: burst.burst(10_000 // part),
        "history": lambda: history.history((1, 100, 1_000) if part == 1 else (1, 50, 100), 11 if runs > 1 else 3),
        "ledger": lambda: ledger.ledger((1_000, 1_000_000 // part), 21),
        "evaluation": lambda: evaluation.evaluation(min(runs, 3), 100_000 // part),
        "takeover": lambda: takeover.takeover(runs),
        "stopping": lambda: stopping.stopping(runs),
        "probe": lambda: probe.probe(runs),
        "report": lambda: report.told(runs),
        "online": lambda: online.online(3 * min(runs, 3)),
        "swaps": lambda: online.swaps(100 // part),
        "starting": lambda: online.starting(runs),
        "batch": lambda: batch.batch(min(runs, 3), (1_000_000 // part, 5_000_000 // part)),
        "logged": lambda: logged.logged(runs, 100_000 // part),
    }
    served = {
        "electricity": lambda: cycle.electricity(runs),
        "arrival": lambda: rows.one_arrival(min(runs, 3), 2_000 if given.quick else 20_000),
        "checks": lambda: rows.checks(runs, files * size // 5),
        "ingest": lambda: rows.ingest(min(runs, 3), files, size),
        "register": lambda: registering.register(runs),
        "big": lambda: cycle.big(min(runs, 2), files, size),
    }
    _run(alone, given.only)
    if given.only is None or given.only in served:
        with cycle.servers():
            _run(served, given.only)


def _run(figures: dict[str, Callable[[], None]], only: str | None) -> None:
    for name, figure in figures.items():
        if only in (None, name):
            figure()


if __name__ == "__main__":
    main()
