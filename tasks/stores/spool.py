"""The spool: what waits on local disk for its commit to the lake, safe from a crash from the moment that `append` returns.

Each process that writes has a directory of its own below `serving/<pipeline>/spool` in the home, and holds a lock on it for as long as it
lives. The kernel gives the lock back when the process is gone, however it ended: then another one may take what it left. A file is a stream
of Arrow messages, numbered in the order in which files were begun; a last message that was cut short by a crash is left out when it is read.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

from tasks import settings

LOCK, ENDING = "lock", ".arrow"
MOST_OPEN = 8  # files of different columns that are written at a time


def place(pipeline: str) -> Path:
    """Name the directory of a pipeline's spools."""
    return settings.read().serving / pipeline / "spool"


def size(pipeline: str) -> int:
    """Add up the bytes that wait, of all writers on this machine."""
    total = 0
    for path in _files(place(pipeline)):
        with suppress(OSError):  # committed and removed by now
            total += path.stat().st_size
    return total


def oldest(pipeline: str) -> float | None:
    """Give the moment (seconds since 1970) of the last write to the file that waits longest, or None if nothing waits."""
    moments = []
    for path in _files(place(pipeline)):
        with suppress(OSError):
            moments.append(path.stat().st_mtime)
    return min(moments, default=None)


def needed(batches: Sequence[pa.RecordBatch]) -> int:
    """Count the bytes that rows take in a file of their own."""
    return int(batches[0].schema.serialize().size) + sum(int(pa.ipc.get_record_batch_size(batch)) for batch in batches)


def read(path: Path) -> Iterator[pa.RecordBatch]:
    """Give the batches of a spooled file that are whole; none if not even its first message is.

    Raises:
        OSError: if the system does not let it be read.
    """
    with pa.OSFile(str(path)) as source:  # no memory map: the file may be cut back while its writer lives
        try:
            yield from pa.ipc.open_stream(source)
        except (pa.ArrowInvalid, OSError) as error:
            if getattr(error, "errno", None) is not None:  # Arrow's own, of a message that was cut short, have no number
                raise


def number(path: Path) -> int:
    """Give the number of a spooled file."""
    return int(path.stem)


def waiting(pipeline: str) -> Iterator[pa.RecordBatch]:
    """Give what waits on this machine and is not in the lake yet, or is being committed at this moment."""
    for path in _files(place(pipeline)):
        with suppress(FileNotFoundError):  # committed by now
            yield from read(path)


def _files(directory: Path) -> list[Path]:
    """Name all spooled files below a directory, each writer's in order."""
    return sorted(directory.glob(f"[!.]*/*{ENDING}"))


class Writer:
    """One process's spool. Not safe for several threads: `append` and `seal` belong to one, what is sealed may be committed by another."""

    def __init__(self, pipeline: str) -> None:
        self.name = uuid4().hex
        self.directory = place(pipeline) / self.name
        self._next, self._ended = 1, 0
        self._open: dict[str, _File] = {}
        hidden = self.directory.with_name(f".{self.name}")  # it has its name once it is locked, so that nobody takes it for a dead one's
        try:
            hidden.mkdir(parents=True)
            self._lock = os.open(hidden / LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            hidden.rename(self.directory)
        except OSError:
            shutil.rmtree(hidden, ignore_errors=True)
            raise

    @property
    def pending(self) -> int:
        """Bytes in the files that are still written to."""
        return sum(file.size for file in self._open.values())

    def append(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Add rows, all of the same columns; they are on disk when it returns.

        Raises:
            OSError: if they cannot be written; nothing of them is kept, and what was there before is whole.
        """
        columns = batches[0].schema.to_string()
        if columns not in self._open:
            if len(self._open) >= MOST_OPEN:
                self.seal()
            self._open[columns] = _File(self.directory / f"{self._next:08d}{ENDING}", batches[0].schema)
            self._next += 1
        try:
            self._open[columns].write(batches)
        except OSError:
            self.seal()
            raise

    def seal(self) -> None:
        """End the files that are open, all of them: files are committed in the order of their numbers."""
        while self._open:
            self._open.popitem()[1].end()
        self._ended = self._next - 1

    def sealed(self) -> list[Path]:
        """Name the files that may be committed, in the order in which that has to happen."""
        return [path for path in sorted(self.directory.glob(f"*{ENDING}")) if number(path) <= self._ended]

    def close(self) -> None:
        """Give the spool up; what is left in it is for the next writer of the pipeline."""
        self.seal()
        _clear(self.directory)
        os.close(self._lock)


class _File:
    """One file that is written to, of one set of columns; made with its first rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.size = path, 0
        self._begin = schema.serialize()
        self._descriptor: int | None = None

    def write(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Add rows and bring them to disk, or leave the file as it was."""
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC)
            _sync(self.path.parent)
        try:
            added = 0 if self.size else _write(self._descriptor, self._begin)
            added += sum(_write(self._descriptor, batch.serialize()) for batch in batches)
            os.fdatasync(self._descriptor)
        except OSError:
            with suppress(OSError):  # then the part that was written is left out when it is read
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += added

    def end(self) -> None:
        """Close the file; without rows it is removed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if not self.size:
            self.path.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    """Bring the name of a new file to disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: pa.Buffer) -> int:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
    return int(data.size)


@contextmanager
def abandoned(pipeline: str) -> Iterator[list[tuple[str, list[Path]]]]:
    """Take the spools of writers that are gone, inside the block: each one's name and its files in order. Nobody else gets them meanwhile."""
    taken: list[tuple[Path, int]] = []
    try:
        for lock in sorted(place(pipeline).glob(f"[!.]*/{LOCK}")):
            if (descriptor := _locked(lock)) is not None:
                taken.append((lock.parent, descriptor))
        yield [(directory.name, sorted(directory.glob(f"*{ENDING}"))) for directory, _ in taken]
    finally:
        for directory, descriptor in taken:
            _clear(directory)
            os.close(descriptor)


def _locked(lock: Path) -> int | None:
    """Take a lock, or give None if its writer lives or it is gone."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return None
    return descriptor


def _clear(directory: Path) -> None:
    """Remove a spool in which nothing is left."""
    if not any(directory.glob(f"*{ENDING}")):
        shutil.rmtree(directory, ignore_errors=True)
