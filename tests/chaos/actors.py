"""Cycles in processes of their own, forked from a warm one, with what is to go wrong in them: real signals to real processes."""

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.chaos import faulty
from tests.chaos.faulty import Fault

DONE, REFUSED, FAILED = 0, 3, 4
FORK = multiprocessing.get_context("forkserver")
FORK.set_forkserver_preload(["deployments.warm", "tests.chaos.actors"])
PATIENCE = 120.0


@dataclass
class Actor:
    """A cycle's process and where its output goes."""

    process: ForkServerProcess
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def ended(self, patience: float = PATIENCE) -> int:
        """Wait for the end and give the exit code: a negative one is a signal's."""
        self.process.join(patience)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the cycle did not end within {patience:.0f} s:\n{self.said()}")
        return code

    def stopped(self) -> bool:
        """Wait until the process stands still by SIGSTOP, or has ended; tell whether it stands still."""
        while self.process.is_alive():
            if state(self.pid) == "T":
                return True
            time.sleep(0.005)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def said(self) -> str:
        """Give what the process has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else "(nothing)"


def state(pid: int) -> str:
    """Give the letter of a process's state, "" if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def start(pipeline: str, source: Path, environment: Mapping[str, str], log: Path, fault: Fault | None = None) -> Actor:
    """Start a cycle; `fault` fails one of its operations."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = FORK.Process(target=_cycle, args=(pipeline, str(source), dict(environment), str(log), fault))
    process.start()
    return Actor(process, log)


def _cycle(pipeline: str, source: str, environment: Mapping[str, str], log: str, fault: Fault | None) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.stderr = io.TextIOWrapper(os.fdopen(1, "wb", 0, closefd=False), write_through=True)
    os.environ.update(environment)
    from tasks.stores import lake

    lake._MANY = 2  # so that two files are worth joining
    os._exit(_run(pipeline, source, fault))


def _run(pipeline: str, source: str, fault: Fault | None) -> int:
    from flows.training import continuous_training
    from tasks.errors import RatchetError

    try:
        with faulty.injected(fault):
            continuous_training(pipeline, source=source, trigger="chaos")
    except RatchetError:
        traceback.print_exc()
        return REFUSED
    except BaseException:
        traceback.print_exc()
        return FAILED
    finally:
        drain()
    return DONE


def drain() -> None:
    """Let Prefect's threads send what they have, for a moment."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=1)
    EventsWorker.drain_all(timeout=1)
