"""Arrival: watch a source, record what lands in the ledger, tell Prefect, and ask for a cycle when one is due.

A watcher hears of changes at once (inotify, an S3 queue) and lists the whole source at its start and every `RATCHET_SWEEP` seconds:
the first is for speed, the second is the truth. It runs none of the user's code.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from flows.embedded import impatient
from flows.queue import hear
from tasks import settings
from tasks.due import Due, due, situation
from tasks.errors import RatchetError, SourceUnavailable, Unreachable
from tasks.observe import revisit, survey
from tasks.records import Arrival, Look, Observation
from tasks.spec import Retrain
from tasks.stores import events, files, ledger
from tasks.triggers import Receipt, Watched, pipeline_of

logger = logging.getLogger(__name__)

GRACE = 3.0  # seconds in which what was asked for should have begun
PAUSE = 0.5  # seconds until a source that could not be watched is tried again, doubled each time up to the time of a sweep
BUSY = 20  # a sweep may take at most one part in so many of the time


class Watcher:
    """One pipeline's watcher; `nudge` is called after a cycle was asked for, `start` when nothing came of asking."""

    def __init__(self, watched: Watched, nudge: Callable[[], None], start: Callable[[str, str], Receipt | None]) -> None:
        self.watched = watched
        self._nudge, self._start = nudge, start
        self._retrain = Retrain(**watched.retrain)
        self._stop, self._wake, self._lock = threading.Event(), threading.Event(), threading.Lock()
        self._heard: set[str] = set()
        self._taken: list[Arrival] = []  # what the queue's thread has recorded, still to be announced
        self._settling: tuple[Look, ...] = ()
        self._unread: frozenset[str] = frozenset()
        self._next_sweep = 0.0
        self._asked: tuple[str, float] = ("", 0.0)
        self._born, self._tries = uuid4().hex, 0
        self._unseen: str | None = None  # why the file system cannot be heard, "" if it is, None if that is not known yet
        self._warned = ""
        self._held: Receipt | None = None
        self._looked_first, self._trouble = False, ""
        self._threads = [threading.Thread(target=self._run, name=f"watch {watched.name}", daemon=True)]
        if not watched.source.startswith("s3://"):
            self._threads.append(threading.Thread(target=self._see, name=f"see {watched.name}", daemon=True))
        elif watched.queue:
            self._threads.append(threading.Thread(target=self._hear, name=f"hear {watched.name}", daemon=True))

    def begin(self) -> None:
        """Start to watch."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop watching; what is not seen any more is seen by the next sweep."""
        self._stop.set()
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Tell whether all of its threads work."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def watching(self) -> bool:
        """Tell whether it has looked, with success, and hears of changes or knows that it cannot."""
        looked = self.alive and self._looked_first and not self._trouble
        return looked and (self._unseen is not None or self.watched.source.startswith("s3://"))

    @property
    def note(self) -> str:
        """Say what keeps it from watching as it should, "" if nothing does."""
        return (self._held.why if self._held else "") or self._trouble or self._unseen or ""

    def hold(self, why: Receipt) -> None:
        """Go on recording what lands, but ask for no cycle: none could run. That is on record, now and with whatever lands."""
        self._held = why
        ledger.record(self.watched.name, why)

    @property
    def held(self) -> bool:
        """Tell whether it asks for no cycle."""
        return self._held is not None

    def look(self) -> None:
        """Look again now: a cycle has ended, or somebody asks."""
        self._wake.set()

    def _run(self) -> None:
        with impatient():
            while not self._stop.is_set():
                self._wake.clear()
                self._wake.wait(self._looked())

    def _looked(self) -> float:
        try:
            again = self._once()
            self._looked_first = True
            return again
        except RatchetError as error:  # the source or the ledger is out of reach: told, and tried again
            self._trouble = str(error)
            logger.warning("%s: %s", self.watched.name, error)
            self._next_sweep = 0.0  # what was heard of meanwhile is forgotten: a sweep sees it
            return min(GRACE, settings.read().sweep)

    def _once(self) -> float:
        """Look, decide, and give the seconds until the next look."""
        try:
            seen = self._observed()
        except SourceUnavailable as error:
            self._trouble = str(error)
            ledger.record(self.watched.name, Receipt("skipped", "source", self._trouble))
            seen = Observation(0, (), (), ())
            self._next_sweep = time.monotonic() + min(GRACE, settings.read().sweep)
        if seen.unread:
            more = f"; and {len(seen.unread) - 1} more" if len(seen.unread) > 1 else ""
            ledger.record(self.watched.name, Receipt("skipped", "source", f"{seen.unread[0][1]}{more}"))
        decided = self._decide(seen.recorded)
        times = [self._next_sweep - time.monotonic()]
        times += [settings.read().settle or 0.01] if seen.settling else []
        times += [GRACE] if seen.unread else []
        times += [decided.again] if decided.again is not None else []
        times += [GRACE / 2] if decided.now else []
        return max(0.01, min(times))

    def _observed(self) -> Observation:
        """Sweep if it is time, or look at the files that were heard of, and at those that had not settled or could not be read."""
        name, source = self.watched.name, self.watched.source
        with self._lock:
            heard, self._heard = self._heard, set()
            taken, self._taken = self._taken, []
        if time.monotonic() < self._next_sweep:
            seen = revisit(name, source, heard | self._unread | {look.uri for look in self._settling})
        else:
            began, self._next_sweep = time.monotonic(), math.inf
            seen = survey(name, source)
            self._trouble = ""
            took = time.monotonic() - began
            if self._next_sweep == math.inf:  # else the next one was asked for while this one had begun already
                self._next_sweep = time.monotonic() + max(settings.read().sweep, BUSY * took)
        self._settling, self._unread = seen.settling, frozenset(address for address, _ in seen.unread)
        return replace(seen, recorded=(*taken, *seen.recorded))

    def _decide(self, new: Sequence[Arrival]) -> Due:
        """Decide whether a cycle is due, leave the receipt, and tell Prefect of what landed and of what is due."""
        name = self.watched.name
        found = situation(name, self.watched.digest, self._retrain.timezone)
        decided = due(self._retrain, found)
        if self._held is not None:
            decided = Due(False, replace(self._held, outstanding=found.outstanding) if new else None)
        if not decided.now or decided.receipt is None:
            if decided.receipt is not None and not (decided.receipt.rule == "running" and not new):
                ledger.record(name, decided.receipt)
            self._tell(events.landed(name, new))
            return decided
        about, since = self._state(), time.monotonic() - self._asked[1]
        coming = since <= GRACE and about.partition(",")[0] == self._asked[0].partition(",")[0]
        if about != self._asked[0] and not coming:
            self._ask(decided.receipt, about, new)
        elif about == self._asked[0] and since > GRACE * 2 ** min(self._tries, 7):
            self._insist(about)
        elif new:  # the cycle that was asked for a moment ago takes these too
            ledger.record(name, decided.receipt)
            self._tell(events.landed(name, new))
        return decided

    def _state(self) -> str:
        """Name the state that a cycle is asked for in: the same state is asked for once. What is to be predicted may wait for a champion."""
        name, pipeline = self.watched.name, pipeline_of(self.watched.name)
        last, newest = ledger.last_cycle(name), ledger.history(name, limit=1)
        champion = ledger.champion(pipeline) if name != pipeline else None
        served = f", champion {champion.version}" if champion else ""
        return f"after cycle {last.id if last else 0}, up to arrival {newest[0].seq if newest else 0}{served}"

    def _ask(self, receipt: Receipt, about: str, new: Sequence[Arrival]) -> None:
        name = self.watched.name
        ledger.record(name, receipt)
        payload = {"why": receipt.why, "outstanding": receipt.outstanding, "trigger": receipt.trigger}
        self._asked, self._tries = (about, time.monotonic()), 0
        self._tell([*events.landed(name, new), events.event(events.DUE, name, about, payload)])
        self._nudge()

    def _insist(self, about: str) -> None:
        """Start the cycle without event and automation: they were lost, somebody switched the automation off, or a run died before its cycle began."""
        refusal = self._start(self.watched.name, f"{about}, try {self._tries + 1} of {self._born}")
        self._asked = (about, time.monotonic())
        self._tries += refusal is None
        if refusal is not None:
            ledger.record(self.watched.name, refusal)

    def _tell(self, told: Sequence[dict[str, Any]]) -> None:
        try:
            events.send(told)
        except Unreachable as error:
            logger.warning("%s: %s", self.watched.name, error)

    def _notice(self, addresses: Iterable[str]) -> None:
        with self._lock:
            self._heard.update(addresses)
        self._wake.set()

    def _see(self) -> None:
        """Hear from the file system; where it cannot be watched, the sweeps see all of it, and it is tried again."""
        pause = PAUSE
        while not self._stop.is_set():
            self._unseen = None
            try:
                for changed in files.watch(self.watched.source, self._stop):
                    pause = PAUSE
                    self._watching_on()
                    if changed:
                        self._notice(changed)
                self._sweep_now()  # the source is another directory now, or none
            except (OSError, RuntimeError) as error:
                self._not_watching(error)
                pause = PAUSE if isinstance(error, FileNotFoundError) else min(2 * pause, max(PAUSE, settings.read().sweep))
            self._stop.wait(pause)

    def _watching_on(self) -> None:
        """Sweep once a watch has begun: what landed before was not heard of."""
        if self._unseen is None:
            self._unseen = ""
            self._sweep_now()

    def _not_watching(self, error: Exception) -> None:
        if self._unseen == "":  # what was to be told of just now is lost
            self._sweep_now()
        self._unseen = f"{self.watched.source} cannot be watched: {error}. It is listed, and tried again."
        if self._unseen != self._warned:
            self._warned = self._unseen
            logger.warning("%s: %s", self.watched.name, self._unseen)

    def _sweep_now(self) -> None:
        self._next_sweep = 0.0
        self._wake.set()

    def _hear(self) -> None:
        """Hear from the queue; where it does not answer, the sweeps see all of it."""
        while not self._stop.is_set():
            try:
                recorded = hear(self.watched)
            except RatchetError as error:
                logger.warning("%s: %s", self.watched.name, error)
                self._stop.wait(min(GRACE, settings.read().sweep))
                continue
            if recorded:
                with self._lock:
                    self._taken += recorded
                self._wake.set()
