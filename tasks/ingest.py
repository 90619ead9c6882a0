"""Ingest: read arrivals, lay the contract to every row, and stage the good rows and the bad ones with their reasons.

Nothing reaches the lake here. An arrival that cannot be parsed is staged with its reason, so that it delays no other.
"""

import errno
import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import UUID

import polars as pl
from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from tasks import contract, formats
from tasks.errors import Breakdown, Changed, DiskFull, Unreadable
from tasks.records import Arrival, Look, Staged
from tasks.spec import Pipeline
from tasks.staging import Stage, share
from tasks.stores import files, ledger

logger = logging.getLogger(__name__)

MAX_BYTES = 128 << 20
MAX_FILES, TOGETHER = 1000, 200  # files of a batch, and of those that are read together
EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # what is the machine's fault, and no single file's


@dataclass(frozen=True)
class Chunk:
    """Some rows of one arrival as they were read."""

    arrival: Arrival
    raw: pl.DataFrame


def stage(
    pipeline: Pipeline, arrivals: Sequence[Arrival], into: Path, tell: Callable[[float], None] = lambda _: None
) -> tuple[Staged, ...]:
    """Read arrivals, check them, and write the good rows and the quarantine entries of each to Arrow files in `into`.

    Those that changed since they were observed, or that the machine does not let be read, are `missed`. `tell` hears which share is done.

    Raises:
        DiskFull: if there is no space in `into`; the lake is as it was.
        Breakdown: if the machine has run out of something else; the lake is as it was.
    """
    into.mkdir(parents=True, exist_ok=True)
    stages: dict[int, Stage] = {}
    with _disk(into), tempfile.TemporaryDirectory(dir=into) as room:
        chunks = _read_all(pipeline, arrivals, stages, into, Path(room))
        for group in _grouped(chunks) if contract.row_by_row(pipeline.contract) else ([chunk] for chunk in chunks):
            _check(pipeline, group, stages, into)
            for seq in {chunk.arrival.seq for chunk in group} - {group[-1].arrival.seq}:  # of the last one there may be more
                stages[seq].seal()
            tell(len(stages) / len(arrivals))
    return tuple(part.finished() for part in stages.values())


@contextmanager
def _disk(into: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(
                f"No space is left in {into}; the lake is as it was and the arrivals stay pending. Free space and run again."
            ) from error
        raise Breakdown(f"The machine refused to work in {into}: {error}. The lake is as it was and the arrivals stay pending.") from error


def _read_all(pipeline: Pipeline, arrivals: Sequence[Arrival], stages: dict[int, Stage], into: Path, room: Path) -> Iterator[Chunk]:
    """Read the arrivals one after the other, unpacked in `room`; what cannot be read is noted in its stage, and delays no other."""
    for arrival in arrivals:
        staged = stages[arrival.seq] = Stage(arrival, into, contract.dtypes(pipeline.contract))
        if arrival.duplicate_of is not None:
            continue
        look = Look(name=arrival.name, uri=arrival.uri, size=arrival.size, stamp=arrival.stamp)
        try:
            yield from _read(pipeline, staged, _bytes_of(pipeline.name, arrival, look), room)
            if not files.unchanged(look):
                raise Changed(
                    f"{arrival.name} changed while it was read; nothing of it was kept. It is taken up again when it has settled."
                )
        except Unreadable as error:
            staged.refuse(str(error))
        except (Changed, OSError) as error:
            if isinstance(error, OSError) and error.errno in EXHAUSTED:
                raise
            staged.gone = files.is_local(look) and not Path(look.uri).exists()
            staged.missed = ledger.GONE if staged.gone else str(error)
            logger.warning("%s: %s", arrival.name, error)


def _read(pipeline: Pipeline, staged: Stage, path: Path, room: Path) -> Iterator[Chunk]:
    columns, name = list(contract.dtypes(pipeline.contract)), staged.arrival.name
    try:
        for raw in formats.chunks(formats.unpacked(path, name, room), name, columns, pipeline.source):
            staged.extra.update(set(raw.columns) - {*columns, "_row"})
            yield Chunk(staged.arrival, raw)
    finally:
        for unpacked in room.iterdir():
            unpacked.unlink()


def _grouped(chunks: Iterator[Chunk]) -> Iterator[list[Chunk]]:
    """Put small chunks of the same columns together: reading types and laying the contract cost milliseconds, however few the rows are."""
    group: list[Chunk] = []
    rows = 0
    for chunk in chunks:
        if group and (chunk.raw.schema != group[0].raw.schema or len(group) >= TOGETHER or rows >= formats.CHUNK):
            yield group
            group, rows = [], 0
        group.append(chunk)
        rows += chunk.raw.height
    if group:
        yield group


def _check(pipeline: Pipeline, group: list[Chunk], stages: dict[int, Stage], into: Path) -> None:
    """Lay the contract to the rows of a group, and stage each chunk's good and bad rows.

    Where a cell of several chunks cannot be read, each is read alone: the form of dates, say, is told by a file's own first ones.
    """
    try:
        typed, unreadable = _typed(pipeline, pl.concat([chunk.raw for chunk in group]))
        broken = contract.check(contract.without(typed, unreadable), pipeline.contract)
    except Unreadable as error:
        if len(group) == 1:
            stages[group[0].arrival.seq].refuse(str(error))
        else:
            _check_each(pipeline, group, stages, into)
        return
    if unreadable.height and len(group) > 1:
        _check_each(pipeline, group, stages, into)
    else:
        _share_out(group, typed, pl.concat([unreadable, broken]), stages, into)


def _check_each(pipeline: Pipeline, group: list[Chunk], stages: dict[int, Stage], into: Path) -> None:
    for chunk in group:
        _check(pipeline, [chunk], stages, into)


def _typed(pipeline: Pipeline, raw: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give rows in the contract's types, and an entry for every cell that has no such value; both count the rows from 0 in `_row`."""
    return contract.readable(raw.drop("_row").with_row_index("_row").cast({"_row": pl.Int64}), pipeline.contract)


def _share_out(group: list[Chunk], typed: pl.DataFrame, failures: pl.DataFrame, stages: dict[int, Stage], into: Path) -> None:
    """Give each chunk its own rows and entries, with the numbers that the rows have in their file.

    The good rows of arrivals that are read to their end go into one file, for a file each costs more than reading it.
    """
    numbers, ends = pl.concat([chunk.raw["_row"] for chunk in group]), list(itertools.accumulate(chunk.raw.height for chunk in group))
    good = contract.without(typed, failures)
    cuts = [0, *good["_row"].search_sorted(pl.Series(ends), side="left").to_list()]
    good = good.with_columns(numbers.gather(good["_row"]))
    ours: list[tuple[Stage, pl.DataFrame]] = []
    for chunk, end, (first, last) in zip(group, ends, itertools.pairwise(cuts), strict=True):
        own, start = stages[chunk.arrival.seq], end - chunk.raw.height
        if failures.height:
            mine = failures.filter(pl.col("_row").is_between(start, end - 1))
            own.set_aside(chunk.raw, mine.with_columns(_row=numbers.gather(mine["_row"])))
        rows = good.slice(first, last - first)
        if chunk.arrival is group[-1].arrival or own.begun:  # of this one there may be more, or there was
            own.write(rows)
        elif own.open:
            ours.append((own, rows))
    share(into, ours)


def _bytes_of(pipeline: str, arrival: Arrival, look: Look) -> Path:
    if files.is_local(look):
        if not files.unchanged(look):
            raise Changed(f"{arrival.name} is not the file that was observed any more; it is taken up again as a new version.")
        return Path(look.uri)
    spool = files.spool(pipeline)
    spooled = next(spool.glob(f"{arrival.sha256}*"), None)
    if spooled is not None:
        return spooled
    fetched = files.fetch(look, spool)
    if fetched.sha256 != arrival.sha256:
        raise Changed(f"{arrival.name} is not the object that was observed any more; it is taken up again as a new version.")
    return fetched.path


def batches(arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Part arrivals, in their order, into batches of at most 128 MiB and 1,000 files; a larger file is a batch of its own."""
    batch: list[Arrival] = []
    for arrival in arrivals:
        if batch and (len(batch) >= MAX_FILES or sum(part.size for part in batch) + arrival.size > MAX_BYTES):
            yield batch
            batch = []
        batch.append(arrival)
    if batch:
        yield batch


@task(name="ingest", task_run_name="ingest {what}", cache_policy=NO_CACHE, persist_result=False)
def ingest(pipeline: Pipeline, arrivals: Sequence[Arrival], into: str, what: str) -> tuple[Staged, ...]:
    """Stage a batch of arrivals, shown as `what`, and show in the UI how far it got where there are several."""
    if len(arrivals) < 2:
        return stage(pipeline, arrivals, Path(into))
    progress = cast(
        "UUID", create_progress_artifact(0.0, description=f"{len(arrivals)} arrivals")
    )  # not a coroutine: this is no async task

    def tell(share: float) -> None:
        update_progress_artifact(progress, 100 * share)

    return stage(pipeline, arrivals, Path(into), tell)
