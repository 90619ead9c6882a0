"""What one server process consists of, and what happens to the rows of a request: the champion answers them, or a canary, and a shadow too."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import anyio.to_thread

from deployments.online import trial
from deployments.online.follower import Follower, Refusal
from deployments.online.meters import Meters, Now
from deployments.online.reporter import Reporter
from deployments.online.scorer import Answers, Scorer
from deployments.online.trial import Tally
from deployments.online.versions import Active, undefined
from tasks.admission import Admission, Admitted, Refused
from tasks.errors import BrokenPipeline
from tasks.predictions import PredictionLog
from tasks.records import Champion
from tasks.served import Role, Served
from tasks.services import Serving
from tasks.spec import Pipeline
from tasks.stores import ledger

LARGE = 100_000  # bytes of a body that is read in a thread, so that others are answered meanwhile
SHADOWS = 64  # requests that wait for the shadow; it misses the others
logger = logging.getLogger("ratchet.serve")
Read = Callable[[Admission], Admitted]


class Undefined(Exception):
    """A model gave a figure that is not finite."""


@dataclass
class Outcome:
    """What is to be counted of a request: the version that answered it, and its rows."""

    active: Active | None = None
    rows: int = 0

    @property
    def version(self) -> int | None:
        """The version that answered."""
        return self.active.version if self.active else None


@dataclass(frozen=True)
class Asked:
    """A request: its id, the version that was in service when it came, its rows by that version's contract, and the bytes that it had.

    `read` admits the rows by the contract of another version.
    """

    identity: str
    active: Active
    rows: Admitted
    size: int
    read: Read


@dataclass
class Tallies:
    """What was counted of a version in a trial, and of the champion meanwhile."""

    held: Active
    champion: Tally
    trial: Tally


class Service:
    """One server process of one pipeline."""

    def __init__(self, name: str, spec: Pipeline | None, url: str) -> None:
        self.name, self.server = name, ledger.holder()
        self.limits = spec.serving if spec else Serving()
        self.under_way = 0  # requests
        self._log = PredictionLog(spec, self.server) if spec else None
        self.reporter = Reporter(name, self.server, url, self.state)
        self.follower = Follower(
            name, self.reporter.note, self.limits.rollout.mode if self.limits.rollout else None, lambda: self.under_way > 0
        )
        self.scorer, self.trials = Scorer(), Scorer()
        self.meters = Meters(name, self._now)
        self._tallies: Tallies | None = None
        self._shadowing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Bring the champion in, if there is one, and begin to follow it."""
        self.follower.start()
        self.reporter.start()

    def stop(self) -> None:
        """End what was begun; requests have been answered by now."""
        self.follower.stop()
        self.scorer.close()
        self.trials.close()
        if self._log is not None:
            self._log.close()
        self.reporter.stop()

    async def answer(self, asked: Asked) -> tuple[Active, Answers]:
        """Give the answers to a request's rows, and the version that gave them.

        Raises:
            Undefined: if a figure is not finite.
            TimeoutError: if it takes too long.
            BrokenPipeline: if the features do not run on these rows.
        """
        active, tallies = asked.active, self._trial()
        rollout = self.limits.rollout
        if tallies is not None and rollout is not None and trial.chosen(rollout, self.name, tallies.held.champion.cycle, asked.rows):
            answers = await self._tried(tallies, asked, "canary")
            if answers is not None:
                return tallies.held, answers
        answers = await self._scored(active, asked.rows, self.scorer, tallies.champion if tallies else Tally())
        self.keep(active, asked, asked.rows, answers, "champion")
        if tallies is not None and rollout is not None and rollout.mode == "shadow" and len(self._shadowing) < SHADOWS:
            task = asyncio.create_task(self._shadowed(tallies, asked))
            self._shadowing.add(task)
            task.add_done_callback(self._shadowing.discard)
        return active, answers

    async def _scored(self, active: Active, rows: Admitted, scorer: Scorer, tally: Tally) -> Answers:
        began = time.perf_counter()
        try:
            answers, worked = await scorer.score(active, rows, self.limits.timeout)
        except BaseException:
            tally.count_failed()
            raise
        # a shadow comes second wherever threads wait for each other, so that its waits are held against nobody
        tally.count(worked if tally.shadowed else time.perf_counter() - began)
        if undefined(answers):
            raise Undefined
        return answers

    async def _shadowed(self, tallies: Tallies, asked: Asked) -> None:
        await self._tried(tallies, asked, "shadow")

    async def _tried(self, tallies: Tallies, asked: Asked, role: Role) -> Answers | None:
        """Ask a version in a trial, in a thread that the champion does not need; whatever it does wrong is counted, and None."""
        held, answers = tallies.held, None
        try:
            rows = await admitted(asked.read, held.answerer.admission, asked.size)
            answers = await self._scored(held, rows, self.trials, tallies.trial)
            self.keep(held, asked, rows, answers, role)
        except Undefined:
            self._withdraw(tallies, "it gave a figure that is undefined or infinite")
        except TimeoutError:
            self._withdraw(tallies, f"a request took it more than {self.limits.timeout:g} s")
        except Refused:
            tallies.trial.count_failed()
        except Exception as error:  # whatever the model raises is what the trial is there to find
            logger.warning("Version %d, on trial, failed a request: %s", held.version, failure(error))
        rollout = self.limits.rollout
        why = trial.objection(rollout, tallies.champion, tallies.trial) if rollout else None
        if why is not None:
            self._withdraw(tallies, why)
        return answers

    def _trial(self) -> Tallies | None:
        """Give what is counted of the version on trial, or None if there is none."""
        held = self.follower.held
        if held is None:
            self._tallies = None
        elif self._tallies is None or self._tallies.held is not held:
            shadowed = self.limits.rollout is not None and self.limits.rollout.mode == "shadow"
            self._tallies = Tallies(held, Tally(shadowed=shadowed), Tally(shadowed=shadowed))
        return self._tallies

    def _withdraw(self, tallies: Tallies, why: str) -> None:
        """Take a version off its trial: here at once, everywhere as soon as the ledger says so."""
        if not self.follower.withdraw(tallies.held):
            return
        champion = tallies.held.champion
        logger.error("Version %d is withdrawn: %s", champion.version, why)
        self.reporter.tell(lambda: ledger.withdraw(self.name, champion.version, champion.cycle, self.server, why))

    def keep(self, active: Active, asked: Asked, rows: Admitted, answers: Answers, role: Role) -> None:
        """Leave what was predicted to the log; without a file that says how, as the model's own definition does."""
        if self._log is None:
            self._log = PredictionLog(active.answerer.model.pipeline, self.server)
        version, cycle = active.version, active.champion.cycle
        self._log.add(Served(asked.identity, time.time(), version, cycle, role, rows, answers, asked.size))

    def state(self) -> dict[str, Any]:
        """Say how the server is, in the form that /readyz and `ratchet status` show."""
        active, held = self.follower.current, self.follower.held
        return {
            "ready": active is not None and self.scorer.able,
            "version": active.version if active else None,
            "decision": active.champion.cycle if active else None,
            "refused": _refusal(self.follower.refused),
            "trial": {"version": held.version, **self._told_trial()} if held else None,
            "ledger": self.follower.away or "answers",
            "refused_trial": _refusal(self.follower.refused_trial),
            "hung": self.scorer.hung,
            "log": dict(zip(("waiting", "written", "dropped"), self._log.counts if self._log else (0, 0, 0), strict=True)),
        }

    def _told_trial(self) -> dict[str, Any]:
        rollout, tallies = self.limits.rollout, self._tallies
        counted = {"requests": tallies.trial.requests, "failed": tallies.trial.failed} if tallies else {"requests": 0, "failed": 0}
        return {"mode": rollout.mode if rollout else None, **counted}

    def model(self) -> dict[str, Any]:
        """Say which version answers, in the form that /v1/model shows."""
        active = self.follower.current
        if active is None:
            return {"pipeline": self.name, "version": None}
        return {**_told(active.champion), "inputs": _inputs(active), "kind": active.answerer.model.pipeline.kind}

    def _now(self) -> Now:
        state = self.state()
        return Now(state["version"], state["ready"], *(self._log.counts if self._log else (0, 0, 0)))


async def admitted(read: Read, admission: Admission, size: int) -> Admitted:
    """Admit a request's rows, a large one's in a thread, so that others are answered meanwhile."""
    return read(admission) if size < LARGE else await anyio.to_thread.run_sync(read, admission)


def _refusal(refused: Refusal | None) -> dict[str, Any] | None:
    return {"version": refused.champion.version, "why": refused.why} if refused else None


def failure(error: Exception) -> str:
    """Name a failure without what its message may hold of the rows."""
    return type(error.__cause__ if isinstance(error, BrokenPipeline) and error.__cause__ else error).__name__


def _told(champion: Champion) -> dict[str, Any]:
    return {name: value for name, value in asdict(champion).items() if name not in ("model_uri", "until")} | {"decision": champion.cycle}


def _inputs(active: Active) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in active.answerer.admission.types.items()}
