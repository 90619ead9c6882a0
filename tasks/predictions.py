"""Predictions: what was answered is kept, without a request ever waiting for it.

A request leaves its rows and answers in memory (`PredictionLog.add`: no disk, no wait, no error). One thread brings them to a spool on local disk
every half second; another commits the spool to the lake's `predictions` every half minute, and what servers that are gone have left there.

What may be lost, and is counted where anything is left to count it: on SIGKILL what came in the last second; nothing on SIGTERM (`close`). With more
than `Limits` lets wait in memory, or more than `Limits.spool` bytes on disk because the lake is away, the newest rows are dropped; so are those
that a full disk does not take. Nothing is ever kept twice.
"""

import functools
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from tasks.errors import RatchetError
from tasks.served import Served, Types, batch_of, forms_of, grouped, types_of
from tasks.spec import Pipeline
from tasks.stores import spool

__all__ = ["Limits", "PredictionLog", "Served", "adopt", "commit", "upkeep"]

logger = logging.getLogger(__name__)

PAUSE = 0.0002  # seconds


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may wait: `rows` and `bytes` of requests in memory, `spool` bytes on disk; `drain` and `commit` are seconds, `file` the bytes after
    which one is committed.
    """

    rows: int = 100_000
    bytes: int = 256 << 20
    spool: int = 1 << 30
    file: int = 64 << 20
    drain: float = 0.5
    commit: float = 30.0
    patience: float = 5.0  # seconds that closing waits for the lake; what is not there by then is left to the next server


def commit(pipeline: str, writer: str, files: Iterable[Path]) -> None:
    """Commit a writer's files to the lake in order, each once, and remove each.

    Raises:
        RatchetError: if the lake does not take one; that one and those after it stay.
    """
    from tasks.stores import journal  # costs half a second: the first commit has it, and no start of a server

    for path in files:
        batches = spool.read(path)
        first = next(batches, None)
        if first is not None:
            journal.append(pipeline, first.schema, itertools.chain([first], batches), (writer, spool.number(path)))
        path.unlink()


def adopt(pipeline: str) -> None:
    """Commit what servers that are gone have left on this machine.

    Raises:
        RatchetError: if the lake does not take what one of them left; that stays, and keeps none of the others from it.
    """
    failed: RatchetError | None = None
    with spool.abandoned(pipeline) as left:
        for writer, files in left:
            try:
                commit(pipeline, writer, files)
            except RatchetError as error:
                failed = error
    if failed is not None:
        raise failed


def upkeep(pipeline: Pipeline, today: date | None = None) -> tuple[str, ...]:
    """Commit what dead servers have left, join small files of the log, and remove what is older than it is kept, and the columns
    that have become private; say what could not be done.

    Servers go on appending meanwhile. It is done by the pipeline's cycles, and when labels are taken in.
    """
    day = today or datetime.now(UTC).date()
    before = day - timedelta(days=min(pipeline.serving.retention_days, day.toordinal() - 1))
    try:
        from tasks.stores import journal

        adopt(pipeline.name)
        names = journal.scan(pipeline.name).collect_schema().names()
        forgotten = journal.forget(pipeline.name, forms_of(names, pipeline.serving.private))
        joined = journal.compact(pipeline.name, until=day)
        gone = journal.prune(pipeline.name, before=before)
    except (RatchetError, OSError) as error:  # the next cycle does it
        return (f"The log of predictions was not tidied up: {error}",)
    told = "Log of %s: %d files joined, %d predictions removed that were too old, columns emptied that are private now: %s"
    logger.info(told, pipeline.name, joined, gone, ", ".join(forgotten) or "none")
    return ()


class PredictionLog:
    """The log of one process's answers, made in that process and not before a fork. Safe for several threads; none but `close` waits, none raises.

    What waits is seen by Python's garbage collector, which then looks through all else as well, for some tenths of a second: let a process that
    answers call `gc.freeze()` once its models are loaded.
    """

    def __init__(self, pipeline: Pipeline, server: str, limits: Limits | None = None) -> None:
        self._pipeline, self._server, self._limits = pipeline, server, limits or Limits()
        self._lock = threading.RLock()  # a signal's handler may close the log while the same thread is in `add`
        self._wake, self._due = threading.Event(), threading.Event()
        self._ended = threading.Event()
        self._queue: deque[Served] = deque()
        self._waiting = self._written = self._dropped = self._unsettled = self._bytes = 0
        self._closed = False
        self._spool: spool.Writer | None = None
        self._sealed_at = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._told: dict[str, str] = {}

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many rows wait in memory, are on disk or in the lake, and were dropped, since the start."""
        return self._waiting, self._written, self._dropped

    def add(self, served: Served) -> None:
        """Keep a request and its answer, soon; where there is no room, count its rows as dropped."""
        if not self._pipeline.serving.log:
            return
        count = served.count
        with self._lock:  # held by others for a few instructions only
            full = self._waiting + count > self._limits.rows or self._bytes + served.size > self._limits.bytes
            if self._closed or full:
                self._dropped += count
                return
            self._queue.append(served)
            self._waiting += count
            self._bytes += served.size
        if len(self._threads) < 2:
            self._begin()
        if self._waiting > self._limits.rows // 4 or self._bytes > self._limits.bytes // 4:
            self._wake.set()

    def close(self) -> None:
        """Bring all that was added to disk, and to the lake if that is soon; nothing is taken any more."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        self._wake.set()
        limit = time.monotonic() + self._limits.patience
        for thread in threads[:1]:
            thread.join()
        for thread in threads[1:]:
            thread.join(max(0.0, limit - time.monotonic()))

    def _begin(self) -> None:
        with self._lock:
            for work in (self._write, self._commit)[len(self._threads) :]:
                thread = threading.Thread(target=work, name=f"{work.__name__} {self._pipeline.name}", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # no thread is to be had now: the next request tries again
                    return
                self._threads.append(thread)

    def _write(self) -> None:
        """Bring what waits to disk, again and again, until the log is closed and nothing waits."""
        closing = False
        while not closing:
            self._wake.wait(self._limits.drain)
            self._wake.clear()
            closing = self._closed
            self._drain()
            if closing or self._is_due():
                self._seal()
        self._ended.set()
        self._due.set()

    def _drain(self) -> None:
        with self._lock:
            taken, self._queue, self._bytes = self._queue, deque(), 0
        self._unsettled = sum(part.count for part in taken)
        try:
            self._bring(taken)
        except Exception as error:  # whatever a request's columns hold, the log goes on with the next ones
            self._tell(f"Predictions were dropped ({type(error).__name__}).")  # its text may hold what is private
        self._count(self._unsettled, kept=False)

    def _bring(self, taken: Iterable[Served]) -> None:
        made: dict[str, list[pa.RecordBatch]] = {}
        for group in grouped(taken):
            for batch in self._batches(group, self._types):
                made.setdefault(batch.schema.to_string(), []).append(batch)
            time.sleep(PAUSE)  # lets the requests go first that wait
        for batches in made.values():
            self._count(sum(batch.num_rows for batch in batches), kept=self._keep(batches))

    @functools.cached_property
    def _types(self) -> Types:
        return types_of(self._pipeline)

    def _batches(self, group: list[Served], types: Types) -> list[pa.RecordBatch]:
        """Make a batch of a group; a request that cannot be kept is dropped without the others."""
        try:
            return [batch_of(group, types, self._pipeline.serving.private, self._server)]
        except (pa.ArrowException, KeyError, TypeError, ValueError, OverflowError) as error:
            if len(group) > 1:
                half = len(group) // 2
                return [batch for part in (group[:half], group[half:]) for batch in self._batches(part, types)]
            self._count(group[0].count, kept=False)
            self._tell(f"The answer to request {group[0].request} cannot be logged ({type(error).__name__}).")
            return []

    def _keep(self, batches: Sequence[pa.RecordBatch]) -> bool:
        """Bring rows of the same columns to disk, and tell whether that was done."""
        name = self._pipeline.name
        try:
            if spool.size(name) + spool.needed(batches) > self._limits.spool:
                self._tell(
                    f"More than {self._limits.spool:,} bytes wait in {spool.place(name)}: predictions are dropped until the lake takes them."
                )
                return False
            if self._spool is None or not self._spool.directory.exists():
                self._spool = spool.Writer(name)
            self._spool.append(batches)
        except OSError as error:
            self._tell(f"Predictions are dropped, for {spool.place(name)} does not take them: {error}.")
            return False
        return True

    def _count(self, rows: int, *, kept: bool) -> None:
        with self._lock:
            self._unsettled -= rows
            self._waiting -= rows
            self._written += rows if kept else 0
            self._dropped += 0 if kept else rows

    def _is_due(self) -> bool:
        if self._spool is None or not self._spool.pending:
            return False
        return self._spool.pending >= self._limits.file or time.monotonic() - self._sealed_at >= self._limits.commit

    def _seal(self) -> None:
        if self._spool is not None:
            self._spool.seal()
        self._sealed_at = time.monotonic()
        self._due.set()

    def _commit(self) -> None:
        """Bring what is on disk to the lake, again and again, until the log is closed and the writer has ended."""
        closing = False
        while not closing:
            self._due.wait(self._limits.commit)
            self._due.clear()
            closing = self._ended.is_set()
            try:
                if self._spool is not None:
                    commit(self._pipeline.name, self._spool.name, self._spool.sealed())
                adopt(self._pipeline.name)
            except Exception as error:  # whatever the lake's libraries raise, what waits is tried again
                self._tell(f"Predictions wait in {spool.place(self._pipeline.name)} ({type(error).__name__}): {error}")
        if self._spool is not None:
            self._spool.close()

    def _tell(self, what: str) -> None:
        """Say what goes wrong, once for each of the two threads and not every half second."""
        thread = threading.current_thread().name
        if what != self._told.get(thread):
            self._told[thread] = what
            logger.warning("%s: %s", self._pipeline.name, what)
