"""A cycle that is killed or stopped after its commit to the lake: seconds until the next one has begun, with the agent running."""

import os
import signal
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from infra import process
from tasks.stores import ledger
from tests.benchmarks import standing
from tests.benchmarks.measure import spread

LEASE = 5  # seconds; 60 by default, which would only make this slower
POINT = "clean.committed"


def takeover(runs: int) -> None:
    """Killed, the machine sees at once that the process is gone; stopped, its lease has to run out."""
    for word, what in (("SIGKILL", "killed"), ("SIGSTOP", "stopped for good")):
        with standing.standing(RATCHET_LEASE=str(LEASE), RATCHET_CRASH_AT=f"{POINT}:{word}"):
            waits = [once_struck(number) for number in range(runs)]
            states = [(cycle.id, cycle.state) for cycle in ledger.list_cycles("toy")][::-1]
        wanted = [(number + 1, "done" if number % 2 else "failed") for number in range(2 * runs)]
        note = f"lease {LEASE} s" if states == wanted else f"lease {LEASE} s, BUT THE CYCLES WERE {states}"
        spread(f"cycle {what} > the next one has begun", waits, worst=LEASE + 5.0, note=note)


def once_struck(number: int) -> float:
    """Land a file, wait until its cycle is struck and the next has made good what it left, and give the seconds between."""
    before = ledger.last_cycle("toy")
    path = standing.ready(number, rows=400)
    standing.land(path)
    holder = standing.once(lambda: ledger.lease_holder("toy"), 60, every=0.005)
    pid = int(holder.split("/")[1])
    standing.once(lambda: struck(pid), 60, every=0.005)
    moment = time.time()
    number_of_next = (before.id if before else 0) + 2
    following = standing.once(lambda: ledger.last_cycle("toy") if last() >= number_of_next else None, 120, every=0.02)
    standing.once(lambda: ledger.lease_holder("toy") is None and ledger.named("toy", path.name)[0].state == "ingested", 60)
    release(pid)
    return datetime.fromisoformat(following.started_at).timestamp() - moment


def last() -> int:
    cycle = ledger.last_cycle("toy")
    return cycle.id if cycle else 0


def struck(pid: int) -> bool:
    """Tell whether a process is dead or stopped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZX"
    except OSError:
        return True


def release(pid: int) -> None:
    """Let a stopped cycle see that its lease is lost, and end."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    standing.once(lambda: process.started(pid) is None, 60)
