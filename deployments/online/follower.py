"""The follower: keep the version that answers the one that the ledger has as champion.

Once a second it asks the ledger. A new version is loaded beside the old one and tried; then one reference is set, so that every request is
answered by one version as a whole, and the old one ends with the requests that it was given to. A version that does not load or answer is
refused, and the one before goes on, as it does while ledger and registry are away; after a restart the last good one is on the local disk.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from deployments.online import versions
from deployments.online.versions import Active, Overtaken
from tasks.errors import RatchetError
from tasks.records import Champion
from tasks.stores import ledger

POLL = 1.0  # seconds between two looks at the ledger
FIRST = 10.0  # seconds that a start waits for the first of them
AGAIN = 30.0  # seconds after which a version that was refused is tried again
logger = logging.getLogger("ratchet.serve")
Note = Callable[[str, Champion, str], None]


@dataclass(frozen=True)
class Refusal:
    """A version that was not let in, why, and when (monotonic seconds)."""

    champion: Champion
    why: str
    at: float


class Follower:
    """Follows one pipeline's champion, and what waits for approval where it takes part in a rollout.

    With a `mode`, "shadow" or "canary", what waits for approval takes part in a trial. `current` answers; None before any version could be
    loaded. `held` is the version on trial. A version is brought in while the process is not `busy`. `away` says why the ledger does not answer.
    """

    def __init__(self, name: str, note: Note, mode: str | None = None, busy: Callable[[], bool] = lambda: False) -> None:
        self.name, self._mode, self._busy = name, mode, busy
        self.current: Active | None = None
        self.held: Active | None = None
        self.refused: Refusal | None = None
        self.refused_trial: Refusal | None = None
        self.away: str | None = None
        self._note = note
        self._withdrawn: set[int] = set()
        self._stop, self._looked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow, and wait for the first look, so that a model answers from the start; but not so long that nothing tells that this lives."""
        self._thread.start()
        self._looked.wait(FIRST)

    def stop(self) -> None:
        """Follow no more."""
        self._stop.set()
        self._thread.join(timeout=2)

    def withdraw(self, held: Active) -> bool:
        """Take a version off its trial, for good; False if it is on none any more."""
        if self.held is not held:
            return False
        self._withdrawn.add(held.champion.cycle)
        self.held = None
        return True

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.look()
            except Exception as error:  # whatever it was: a server that follows no more would answer with an old version for ever
                logger.exception("The ledger could not be followed this time")
                self.away = f"{type(error).__name__}: {error}"
            self._looked.set()
            self._stop.wait(POLL)

    def look(self) -> None:
        """Bring what answers up to what the ledger says now."""
        champion = self._asked()
        if champion is not None and _same(self.current, champion):
            self.refused = None
        elif champion is not None:
            self._take(champion)
        try:
            self._look_for_trial()
        except RatchetError as error:
            self.away = versions.explained(error)

    def _asked(self) -> Champion | None:
        """Give the champion by the ledger, or where that is away and nothing answers yet, the one that served last on this machine."""
        try:
            champion, self.away = ledger.champion(self.name), None
        except (RatchetError, OSError) as error:
            if self.away is None:
                logger.warning("The ledger does not answer; version %s goes on: %s", self.current and self.current.version, error)
            self.away = versions.explained(error)
            return versions.remembered(self.name) if self.current is None else None
        return champion

    def _take(self, champion: Champion) -> None:
        found = self.held if _same(self.held, champion) else self._brought(champion, self.refused, champion)
        if isinstance(found, Refusal):
            self.refused = found
            if self.current is None:
                self._fall_back(champion)
        elif found is not None:
            self.current, self.refused = found, None
            logger.info("Version %d answers", champion.version)
            _remember(champion)
            self._note("served", champion, "")

    def _brought(self, champion: Champion, before: Refusal | None, leading: Champion) -> Active | Refusal | None:
        """Bring a version in while `leading` is champion, or say why it is refused.

        None if it was refused `before` and it is too soon to try again, or if there is another champion by now.
        """
        known = before is not None and before.champion.sha256 == champion.sha256
        if before is not None and known and time.monotonic() - before.at < AGAIN:
            return None
        try:
            return versions.bring(champion, self._busy, lambda: self._leads(leading))
        except Overtaken:
            return None
        except (RatchetError, OSError) as error:
            why = versions.explained(error)
        if not known:
            logger.error("Version %d is refused, version %s goes on: %s", champion.version, self.current and self.current.version, why)
            self._note("refused", champion, why)
        return Refusal(champion, why, time.monotonic())

    def _leads(self, champion: Champion) -> bool:
        """Tell whether that is the champion by the ledger still, as far as it can be asked, and this server is to follow it."""
        try:
            now = ledger.champion(self.name)
        except (RatchetError, OSError):
            now = None
        return not self._stop.is_set() and (now is None or _alike(now, champion))

    def _fall_back(self, refused: Champion) -> None:
        """Start with the last good version of this machine where the champion is not to be had."""
        last = versions.remembered(self.name)
        if last is None or last.sha256 == refused.sha256:
            return
        try:
            self.current = versions.bring(last, self._busy, lambda: self._leads(refused))
        except Overtaken:
            return
        except (RatchetError, OSError) as error:
            logger.error("Version %d, which served here last, is refused too: %s", last.version, error)

    def _look_for_trial(self) -> None:
        """Bring the version that waits for approval, where it is to take part."""
        if self.current is None or self._mode is None:
            self.held = None
            return
        waiting = ledger.waiting(self.name)
        gone = waiting is None or waiting.cycle in self._withdrawn or ledger.withdrawn(self.name, waiting.cycle) is not None
        candidate = None if gone or waiting is None else waiting.candidate
        if candidate is None or _same(self.held, candidate):
            self.held = self.held if candidate else None
            return
        found = self._brought(candidate, self.refused_trial, self.current.champion)
        if isinstance(found, Refusal):
            self.held, self.refused_trial = None, found
        elif found is not None:
            self.held, self.refused_trial = found, None
            self._note(self._mode, candidate, "")


def _same(active: Active | None, champion: Champion) -> bool:
    return active is not None and _alike(active.champion, champion)


def _alike(one: Champion, other: Champion) -> bool:
    return (one.version, one.sha256) == (other.version, other.sha256)


def _remember(champion: Champion) -> None:
    try:
        versions.remember(champion)
    except OSError as error:  # a full disk: a server that starts anew while all else is away has the version before
        logger.warning("Version %d could not be written down as the last that served: %s", champion.version, error)
