"""Places where results are put: a local directory or an s3:// prefix. A file appears there whole, and none is ever overwritten.

What is made piece by piece is made in a room of its own first, which outlives a process that is killed: the next one goes on from there.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks import settings
from tasks.addresses import below
from tasks.errors import DiskFull, UserError

_SCRAP = "*.tmp"


def normal(place: str) -> str:
    """Give a place's one name: an absolute path, or the prefix without a slash at its end."""
    return place.rstrip("/") if place.startswith("s3://") else str(Path(place).expanduser().absolute())


def holds(outer: str, inner: str) -> bool:
    """Tell whether a place is, or is below, another.

    >>> holds("/in", "/in/out"), holds("/in", "/inner"), holds("s3://b/in", "s3://b/in/out")
    (True, False, True)
    """
    outer, inner = normal(outer), normal(inner)
    if outer.startswith("s3://") or inner.startswith("s3://"):
        return below(inner).startswith(below(outer))
    return Path(inner).resolve().is_relative_to(Path(outer).resolve())


@contextmanager
def room(place: str, name: str) -> Iterator[Path]:
    """Give the directory in which what goes to a place is made: hidden in it, or in the home for a place on S3. One process at a time has it.

    Raises:
        BlockingIOError: if another process has it.
        UserError: if the place cannot be written.
        DiskFull: if there is no space.
    """
    away = settings.read().work / "rooms" / hashlib.sha256(place.encode()).hexdigest()[:12]
    directory = (away if place.startswith("s3://") else Path(place)) / f".{name}"
    with _explained(place):
        directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory):
        for scrap in directory.glob(_SCRAP):
            scrap.unlink()
        yield directory


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory for this process; the system lets go of it when the process is gone."""
    held = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not directory.exists() or os.fstat(held).st_ino != directory.stat().st_ino:  # whoever had it is done, and has removed it
            raise BlockingIOError(errno.EAGAIN, "another process had it a moment ago", str(directory))
        yield
    finally:
        os.close(held)


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise UserError(
            f"{place} cannot be written: {error}. Name another output, or give this user the right to write there. What was there is as it was."
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"No space is left for what goes to {place}. Free space and run again: what was finished is kept, and is not made anew."
            ) from error
        raise


def clear(directory: Path) -> None:
    """Remove a room: what was made in it is where it belongs, or is of no use."""
    shutil.rmtree(directory, ignore_errors=True)


def put(file: Path, place: str, name: str) -> str:
    """Put a finished file into a place under a name, and give its address; one with the same content there is left as it is.

    Raises:
        UserError: if another file has that name there, or the place cannot be written.
        DiskFull: if there is no space.
        SourceUnavailable: if S3 does not take it.
    """
    address = f"{place}/{name}"
    with _explained(place):
        made = _put_on_s3(file, address) if place.startswith("s3://") else _link(file, Path(address))
    if not made:
        raise UserError(f"{address} is there already and has other content; it is not overwritten. Name another output, or move it away.")
    return address


def _put_on_s3(file: Path, address: str) -> bool:
    from tasks.stores import s3

    return s3.put(file, address)


def _link(file: Path, target: Path) -> bool:
    """Let a file appear under its name at once, on disk before it is seen; tell whether it is there now."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _flush(file)
    try:
        target.hardlink_to(file)
    except FileExistsError:
        return _digest(target) == _digest(file)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP) or target.exists():
            raise
        file.rename(target)  # a file system without hard links
    _flush(target.parent)
    return True


def _flush(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
