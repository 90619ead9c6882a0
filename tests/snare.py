"""A pipeline's file that, while a snare is laid in the home, dies, sleeps or raises when it is imported: what a user's code can do."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from tests.waiting import until

TOY = Path(__file__).parent / "pipelines" / "toy.py"
SNARE = """

import ctypes, os, time
from pathlib import Path

SNARE = Path(os.environ["RATCHET_HOME"]) / "snare-{name}"
if SNARE.exists():
    kind = SNARE.read_text()
    SNARE.with_suffix(".caught").write_text(str(os.getpid()))
    if kind == "exit":
        os._exit(7)
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "sleep":
        time.sleep(600)
    if kind == "raise":
        raise KeyError("of the user")
    if kind == "freeze":  # the run's process is paused once its decision is in the ledger
        os.environ.update(RATCHET_CRASH_AT="decide.recorded:SIGSTOP", RATCHET_LEASE="2")
"""


def write(directory: Path, name: str, retrain: str = "Retrain()") -> Path:
    """Write a pipeline like the toy under another name."""
    text = TOY.read_text().replace('name="toy"', f'name="{name}"').replace("import Candidate, Gate,", "import Candidate, Gate, Retrain,")
    text = text.replace("    gate=Gate(", f"    retrain={retrain},\n    gate=Gate(")
    path = directory / f"{name}.py"
    path.with_suffix(".new").write_text(text + SNARE.format(name=name))
    return path.with_suffix(".new").rename(path)


@contextmanager
def laid(home: Path, name: str, kind: Literal["exit", "segfault", "sleep", "raise", "freeze"]) -> Iterator[None]:
    """Lay the snare for the block."""
    snare = home / f"snare-{name}"
    snare.with_suffix(".caught").unlink(missing_ok=True)
    snare.write_text(kind)
    try:
        yield
    finally:
        snare.unlink()


def caught(home: Path, name: str) -> int:
    """Wait for a process that is in the snare, and give its number."""
    path = home / f"snare-{name}.caught"
    return int(until(lambda: path.exists() and path.read_text(), "the process"))


def gone(pid: int) -> bool:
    """Tell whether a process is not there any more, or waits for nothing but to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def group(leader: int) -> set[int]:
    """Give the processes of a group that are alive."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
            if int(of) == leader and state != "Z":
                found.add(int(path.parent.name))
    return found


def end(leader: int) -> None:
    """Kill what is left of a group."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
