"""Processes that outlive their starter: started with a log, known by number and start time, stopped with their group."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

LOG_LIMIT = 10 << 20
LOG_KEPT = 1 << 20


def start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    """Start a process of its own session, its output appended to `log`, and give its number.

    A log that has grown over 10 MB is cut to its last 1 MB first.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT:
        log.write_bytes(log.read_bytes()[-LOG_KEPT:])
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command), env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    _STARTED[child.pid] = child
    return child.pid


# Children of this very process, kept so that one that died is reaped and not taken for alive.
_STARTED: dict[int, "subprocess.Popen[bytes]"] = {}


def started(pid: int) -> str | None:
    """Tell when a process started, in the kernel's own count, so that a recycled number is not taken for it; None if it is gone."""
    child = _STARTED.get(pid)
    if child is not None and child.poll() is not None:
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return _portable(pid)
    return None if fields[0] == "Z" else fields[19]


def _portable(pid: int) -> str | None:
    """Ask `ps` where there is no /proc (macOS)."""
    if Path("/proc/self").exists():
        return None
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607
    return found.stdout.strip() or None


def stop(pid: int, since: str, *, patience: float = 10) -> bool:
    """Stop a process and its group, asking first and then forcing it; tell whether it was there."""
    if started(pid) != since:
        return False
    _signal_group(pid, signal.SIGTERM)
    limit = time.monotonic() + patience
    while started(pid) == since and time.monotonic() < limit:
        time.sleep(0.05)
    if started(pid) == since:
        _signal_group(pid, signal.SIGKILL)
        while started(pid) == since:
            time.sleep(0.05)
    return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return
    except PermissionError:
        os.kill(pid, number)


def tail(log: Path, lines: int = 15) -> str:
    """Give the last lines of a log."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
