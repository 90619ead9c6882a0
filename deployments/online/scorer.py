"""The scorer: one thread that predicts, all that waits for the same version at once, so that many small requests cost little more than one."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from numpy.typing import NDArray

from deployments.online.versions import Active
from tasks import admission
from tasks.admission import Admitted

Answers = Mapping[str, NDArray[Any]]
Scored = tuple[Answers, float]  # with the processor's seconds that the thread took
TOGETHER = 10_000  # most rows that are predicted at once
THREADS = 4  # most that may hang before the server says that it is not ready
logger = logging.getLogger("ratchet.serve")


@dataclass(frozen=True)
class Job:
    """Rows to predict with one version, and who waits for it."""

    active: Active
    rows: Admitted
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Scored]"


class Worker:
    """A thread that predicts what is put to it; `since` is when it began what it is at, or None."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.since: float | None = None
        self.thread = threading.Thread(target=self._work, name="scorer", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while (job := self.inbox.get()) is not None:
            self.since = time.monotonic()
            jobs, last = _waiting(self.inbox, job)
            for _, group in groupby(jobs, key=lambda one: id(one.active)):
                same = list(group)
                _predict_all(same[0].active, same)
            self.since = None
            if last:
                return


class Scorer:
    """Predicts in a thread of its own, so that the server goes on reading and answering; a thread that hangs is left behind."""

    def __init__(self) -> None:
        self._worker = Worker()
        self._behind: list[Worker] = []

    async def score(self, active: Active, rows: Admitted, seconds: float) -> Scored:
        """Predict rows with a version; give the answers, and the processor's seconds of that, other requests that went along included.

        Raises:
            TimeoutError: if it takes longer than that; what hangs keeps no other request.
            BrokenPipeline: if the features do not run on these rows.
        """
        loop = asyncio.get_running_loop()
        job = Job(active, rows, loop, loop.create_future())
        self._worker.inbox.put(job)
        timer = loop.call_later(seconds, _expire, job.future)
        try:
            return await job.future
        except TimeoutError:
            self._leave_behind(seconds)
            raise
        finally:
            timer.cancel()

    @property
    def hung(self) -> int:
        """Count the threads that were left behind and have not ended since."""
        return sum(worker.thread.is_alive() for worker in self._behind)

    @property
    def able(self) -> bool:
        """Tell whether there is a thread that predicts."""
        return self.hung < THREADS

    def close(self) -> None:
        """End the thread once it has predicted all that waits."""
        self._worker.inbox.put(None)
        self._worker.thread.join(timeout=5)

    def _leave_behind(self, seconds: float) -> None:
        """Go on with a new thread if the one there is has been at one thing for so long, and give it what waited."""
        old = self._worker
        if old.since is None or time.monotonic() - old.since < seconds / 2 or not self.able:
            return
        self._behind = [worker for worker in self._behind if worker.thread.is_alive()] + [old]
        logger.error("A prediction has not ended in its time; it is left behind (%d of %d)", self.hung, THREADS)
        self._worker = Worker()
        while not old.inbox.empty():
            self._worker.inbox.put(old.inbox.get_nowait())
        old.inbox.put(None)  # should it ever end


def _expire(future: "asyncio.Future[Scored]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _waiting(inbox: "queue.SimpleQueue[Job | None]", first: Job) -> tuple[list[Job], bool]:
    """Give the jobs that wait by now, and whether they are the last."""
    jobs, rows = [first], admission.count(first.rows)
    while rows < TOGETHER and not inbox.empty():
        job = inbox.get()
        if job is None:
            return jobs, True
        jobs.append(job)
        rows += admission.count(job.rows)
    return jobs, False


def _predict_all(active: Active, jobs: Sequence[Job]) -> None:
    for part in [jobs] if active.together else [[job] for job in jobs]:
        _predict(active, part)


def _predict(active: Active, jobs: Sequence[Job]) -> None:
    jobs = [job for job in jobs if not job.future.done()]
    if not jobs:
        return
    began = time.thread_time()
    try:
        whole = active.answer(admission.joined([job.rows for job in jobs]))
    except Exception as error:  # whatever the user's code raises is the answer to the request that made it do so
        if len(jobs) == 1:
            _tell(jobs[0], error)
        else:
            for job in jobs:
                _predict(active, [job])
        return
    took = time.thread_time() - began
    for job, answers in zip(jobs, _shared_out(whole, jobs), strict=True):
        _tell(job, (answers, took))


def _shared_out(whole: Answers, jobs: Sequence[Job]) -> Iterator[Answers]:
    start = 0
    for job in jobs:
        stop = start + admission.count(job.rows)
        yield whole if len(jobs) == 1 else {name: values[start:stop] for name, values in whole.items()}
        start = stop


def _tell(job: Job, outcome: Scored | Exception) -> None:
    try:
        job.loop.call_soon_threadsafe(_settle, job.future, outcome)
    except RuntimeError:  # the server has ended meanwhile
        logger.debug("Nobody waits for an answer any more")


def _settle(future: "asyncio.Future[Scored]", outcome: Scored | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
