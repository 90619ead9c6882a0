"""SIGTERM to each part of the stack, the agent in the middle of a cycle: seconds until it and all that it started are gone."""

import os
import signal
import time
from pathlib import Path

from deployments import stack
from infra import process
from infra.parts import Part, Stack
from tasks.stores import ledger
from tests.benchmarks import standing
from tests.benchmarks.measure import spread

ORDER = ("keeper", "agent", "mlflow", "prefect")  # who would start the others again comes first


def stopping(runs: int) -> None:
    """Stop the whole stack, part by part, several times."""
    waits: dict[str, list[float]] = {name: [] for name in ORDER}
    with standing.standing() as found:
        for number in range(runs):
            standing.land(standing.ready(number, rows=400))
            standing.once(lambda: ledger.lease_holder("toy"), 60, every=0.01)
            for name in ORDER:
                waits[name].append(stopped(next(part for part in found.parts if part.name == name)))
            found = up_again()
    for name in ORDER:
        what = f"SIGTERM > {name} and all that it started gone"
        spread(what, waits[name], worst=5.0, note="in the middle of a cycle" if name == "agent" else "")


def up_again() -> Stack:
    """Start everything again, and wait until what was cut off has been made good."""
    found = stack.up()
    standing.watched(found)
    standing.once(lambda: not ledger.count_outstanding("toy")[0] and ledger.lease_holder("toy") is None, 120)
    return found


def stopped(part: Part) -> float:
    """Tell a part to end, and give the seconds until nothing of its session runs any more."""
    pid = part.pid or 0
    began = time.perf_counter()
    os.kill(pid, signal.SIGTERM)
    standing.once(lambda: process.started(pid) is None and not session(pid), 60, every=0.01)
    return time.perf_counter() - began


def session(pid: int) -> list[int]:
    """Give the processes of a session that are not dead."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == pid and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found
