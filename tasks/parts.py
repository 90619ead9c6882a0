"""Parts: what a large input becomes piece by piece, each a file of predictions and perhaps one of rejected rows.

A part holds what came of a fixed range of the input's rows, so that it is the same whenever it is made. Its note is written last and says
that it is finished: what a process that was killed has finished is not made again.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import polars as pl
from threadpoolctl import threadpool_limits

from tasks.scorings import Form

ROWS, CELLS = 62_500, 750_000  # of a block, at most: what is checked and predicted together
BLOCKS = 8  # of a part, which is in memory until it is written
MOST = 4  # blocks that are predicted at the same time, each of which takes memory
ENTRIES = 1_000_000  # of rejected rows, at most, that are in memory until they are written
REJECTED = {"_file": pl.String, "_row": pl.Int64, "column": pl.String, "rule": pl.String, "value": pl.String, "record": pl.String}
T = TypeVar("T")
R = TypeVar("R")
_MOMENTS = "%Y-%m-%dT%H:%M:%S%.f"


@dataclass(frozen=True)
class Finished:
    """A part that is made: of how many rows, and how many of them were rejected. Whole parts have `size` rows.

    `files` are what each file holds, predictions or rejected, and its name in the room.
    """

    number: int
    size: int
    rows: int
    rejected: int
    files: tuple[tuple[str, str], ...] = ()

    def names(self, name: str, form: str) -> dict[str, str]:
        """Map each file in the room to the name under which it is put beside those of other inputs.

        >>> Finished(0, 10, 10, 1, (("rejected", "00000.rejected.1"), ("rejected", "00000.rejected.2"))).names("a", "csv")
        {'00000.rejected.1': 'rejected/a-00001.csv', '00000.rejected.2': 'rejected/a-00001-2.csv'}
        """
        pieces = {file: "" if file.endswith(".1") else f"-{file.rpartition('.')[2]}" for _, file in self.files}
        return {file: f"{kind}/{name}-{self.number + 1:05d}{pieces[file]}.{form}" for kind, file in self.files}


def rows_of_block(columns: int) -> int:
    """Give how many rows a block has: fewer where they are wide.

    >>> rows_of_block(12), rows_of_block(300), rows_of_block(10_000)
    (62500, 2500, 1000)
    """
    return max(1_000, min(ROWS, CELLS // columns))


def blocks(chunks: Iterable[pl.DataFrame], size: int) -> Iterator[pl.DataFrame]:
    """Regroup chunks, in their order, into blocks of `size` rows; the last one may be smaller."""
    waiting: list[pl.DataFrame] = []
    rows = 0
    for chunk in chunks:
        waiting.append(chunk)
        rows += chunk.height
        if rows < size:
            continue
        joined = pl.concat(waiting, rechunk=False)
        whole = rows - rows % size
        yield from joined.head(whole).iter_slices(size)
        waiting, rows = [joined.tail(rows - whole)], rows - whole
    if rows:
        yield pl.concat(waiting, rechunk=False)


def ahead(items: Iterable[T], work: Callable[[T], R], threads: int) -> Iterator[tuple[T, R]]:
    """Work on items in a few threads, no further ahead than these need, and give each with what came of it, in order.

    The cores are shared out: a library that would use all of them for one item gets its share, so that threads do not wait for each other.
    """
    threads = min(threads, MOST)
    share = max(1, (os.cpu_count() or 1) // threads)
    limit = partial(threadpool_limits, share)  # of OpenMP for each thread by itself, of BLAS for all: the latter is undone at the end
    waiting: deque[tuple[T, Future[R]]] = deque()
    with limit(), ThreadPoolExecutor(threads, initializer=limit) as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > threads:
                first, made = waiting.popleft()
                yield first, made.result()
        for item, made in waiting:
            yield item, made.result()


class Part:
    """One part while it is made, in a room and in a form."""

    def __init__(self, number: int, size: int, into: Path, form: Form) -> None:
        self.number, self._size, self._into, self._form = number, size, into, form
        self._rows, self._rejected = 0, 0
        self._held: dict[str, list[pl.DataFrame]] = {"predictions": [], "rejected": []}
        self._files: list[tuple[str, str]] = []

    def add(self, rows: int, good: pl.DataFrame, bad: pl.DataFrame) -> None:
        """Add what came of so many rows: those predicted, and an entry for each rule that one of the others breaks."""
        self._rows += rows
        self._rejected += rows - good.height
        self._held["predictions"] += [good] if good.height else []
        self._held["rejected"] += [bad] if bad.height else []
        if sum(frame.height for frame in self._held["rejected"]) > ENTRIES:  # a row may break every rule
            self._put("rejected")

    def finish(self) -> Finished:
        """Write its files, and then its note."""
        for kind, frames in self._held.items():
            if frames:
                self._put(kind)
        made = Finished(self.number, self._size, self._rows, self._rejected, tuple(self._files))
        note = self._into / f"{self.number:05d}.json"
        note.with_suffix(".tmp").write_text(json.dumps(asdict(made)))
        note.with_suffix(".tmp").rename(note)
        return made

    def _put(self, kind: str) -> None:
        piece = 1 + sum(known == kind for known, _ in self._files)
        name = f"{self.number:05d}.{kind}.{piece}"
        scrap = self._into / f"{name}.tmp"
        _write(pl.concat(self._held[kind], rechunk=False), scrap, self._form)
        scrap.rename(self._into / name)
        self._files.append((kind, name))
        self._held[kind] = []


def _write(frame: pl.DataFrame, path: Path, form: Form) -> None:
    if form == "parquet":
        frame.write_parquet(path, compression="snappy", statistics=True)
    else:
        frame.write_csv(path, datetime_format=_MOMENTS)


def finished(room: Path, size: int) -> dict[int, Finished]:
    """Give the parts of that size in a room that are finished, by number; those of another version's size are of no use."""
    notes = [Finished(**json.loads(note.read_text())) for note in sorted(room.glob("[0-9]*.json"))]
    return {made.number: made for made in notes if made.size == size}
