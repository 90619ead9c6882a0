"""`make bench`: every figure as a ratio to a floor measured in the same run. Not a test: it always ends with 0, and says MISSED where it is."""

import argparse
import os

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("RATCHET_SETTLE", "0")

from tests.benchmarks import cycle, registering, rows  # noqa: E402


def main() -> None:
    """Run the figures asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["electricity", "big", "ingest", "arrival", "checks", "register"])
    parser.add_argument("--runs", type=int, default=5, help="how often each is measured, in turn with its floor")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, one run")
    given = parser.parse_args()
    runs, files, size = (1, 10, 50_000) if given.quick else (given.runs, 50, 100_000)
    figures = {
        "electricity": lambda: cycle.electricity(runs),
        "arrival": lambda: rows.one_arrival(min(runs, 3), 2_000 if given.quick else 20_000),
        "checks": lambda: rows.checks(runs, files * size // 5),
        "ingest": lambda: rows.ingest(min(runs, 3), files, size),
        "register": lambda: registering.register(runs),
        "big": lambda: cycle.big(min(runs, 2), files, size),
    }
    with cycle.servers():
        for name, figure in figures.items():
            if given.only in (None, name):
                figure()


if __name__ == "__main__":
    main()
