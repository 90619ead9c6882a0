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
    silence = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    append = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    both = (os.POSIX_SPAWN_DUP2, 1, 2)
    pid = os.posix_spawn(command[0], list(command), {**os.environ, **environment}, file_actions=[silence, append, both], setsid=True)
    _STARTED.add(pid)
    return pid


# Children of this very process: one that died has to be reaped, or it would be taken for alive.
_STARTED: set[int] = set()


def _reap(pid: int) -> None:
    if pid in _STARTED and os.waitpid(pid, os.WNOHANG)[0] == pid:
        _STARTED.remove(pid)


def started(pid: int) -> str | None:
    """Tell when a process started, in the kernel's own count, so that a recycled number is not taken for it; None if it is gone."""
    _reap(pid)
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


def stop(pid: int, since: str, *, patience: float = 4) -> bool:
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
