"""The reporter: tell the ledger how this server is, in a thread of its own, so that a ledger that is slow or away holds nothing up."""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tasks.errors import RatchetError
from tasks.records import Champion
from tasks.stores import ledger

EVERY = 10.0  # seconds between two signs of life
MOST = 100  # notes that are kept while the ledger is away
logger = logging.getLogger("ratchet.serve")
Told = Callable[[], object]


class Reporter:
    """Tells the ledger of steps as they happen, and every ten seconds of the server's state."""

    def __init__(self, name: str, server: str, url: str, state: Callable[[], Mapping[str, Any]]) -> None:
        self.name, self.server, self.url, self.state = name, server, url, state
        self._notes: queue.Queue[Told] = queue.Queue(MOST)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Tell what is left, and that the server ends, unless the ledger is away."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=3)

    def note(self, step: str, champion: Champion, why: str) -> None:
        """Tell of a version's step; while the ledger is away the newest hundred are kept."""
        self.tell(lambda: ledger.note_step(step, self.name, champion.version, champion.cycle, self.server, why))

    def tell(self, what: Told) -> None:
        """Tell the ledger something; of what is too much to keep the oldest is left out, the log has it."""
        with contextlib.suppress(queue.Full, queue.Empty):
            if self._notes.full():
                self._notes.get_nowait()
            self._notes.put_nowait(what)
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._report()
            self._wake.wait(EVERY)
            self._wake.clear()
        self._report()
        with contextlib.suppress(RatchetError, OSError):
            ledger.leave(self.name, self.server)

    def _report(self) -> None:
        try:
            while not self._notes.empty():
                told = self._notes.queue[0]  # it stays until it is told
                told()
                if not self._notes.empty() and self._notes.queue[0] is told:
                    self._notes.get_nowait()
            ledger.beat(self.name, self.server, self.url, self.state())
        except (RatchetError, OSError) as error:
            logger.debug("The ledger could not be told: %s", error)
