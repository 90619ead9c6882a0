"""The places where data lands: a local directory, a single file, or an s3:// prefix.

What the listing says of a file is a `Look`; its stamp changes whenever the bytes may have: size, times and inode of a local file,
the ETag, version and time of an object. Nothing here follows a link out of the source or reads anything but a regular file.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import watchfiles

from tasks import settings
from tasks.errors import Changed, DiskFull, SourceUnavailable
from tasks.records import Look
from tasks.stores.names import unfit

_BLOCK = 1 << 20
_RACY = 2.0


@dataclass(frozen=True)
class Fetched:
    """The bytes of an arrival on local disk, and their SHA-256."""

    path: Path
    sha256: str


def look(uri: str) -> Iterator[Look | str]:
    """List a source in the order of the names, one entry at a time: a file, or what else is there with the reason why it is ignored.

    Raises:
        SourceUnavailable: if it does not exist or may not be read.
    """
    if uri.startswith("s3://"):
        from tasks.stores import s3

        yield from map(_sifted, s3.look(uri))
        return
    path = _place(uri)
    if not path.exists():
        near = next(parent for parent in path.parents if parent.exists())
        raise SourceUnavailable(
            f"The source {path} does not exist; the nearest directory that does is {near}. Create it, or name another source."
        )
    try:
        yield from map(_sifted, _walk(str(path), "", path) if path.is_dir() else [_look_at(path, path.name)])
    except PermissionError as error:
        raise SourceUnavailable(f"The source {path} may not be read: {error}. Give this user the right to list and read it.") from error


def _place(uri: str) -> Path:
    """Give the absolute path of a local source; a home that cannot be told is left as it is written."""
    try:
        return Path(uri).expanduser().absolute()
    except RuntimeError:
        return Path(uri).absolute()


def look_again(uri: str, files: Iterable[str]) -> Iterator[Look | str]:
    """Look at single files of a source, by their addresses, without listing all of it; those that are gone are left out."""
    if uri.startswith("s3://"):
        from tasks.stores import s3

        yield from map(_sifted, s3.look_again(uri, files))
        return
    source = _place(uri)
    told = {Path(file) for file in files}
    for path in sorted(told):
        if (told - {source}).isdisjoint(path.parents):  # else it is seen with the directory that it is in
            yield from _once_more(path, source)


def _once_more(path: Path, source: Path) -> Iterator[Look | str]:
    """Look at one path as the listing does; what is outside of the source, below a link or gone by now is left out."""
    between = [parent for parent in path.parents if parent != source and parent.is_relative_to(source)]
    if not path.is_relative_to(source) or ".." in path.parts or any(parent.is_symlink() for parent in between):
        return
    name = path.name if path == source else path.relative_to(source).as_posix()
    try:
        if path.is_symlink() and not _leads_inside(path, source):
            yield f"{name}: a link that leads out of the source or to no file"
        elif path.is_file():
            yield _sifted(_look_at(path, name))
        elif path.is_dir() and not path.is_symlink() and path != source:  # moved here with what is in it, or filled before it was watched
            yield from map(_sifted, _walk(str(path), f"{name}/", source))
    except OSError:  # gone since it was told of, or not to be read: the listing says so
        return


def _sifted(entry: Look | str) -> Look | str:
    if isinstance(entry, Look) and (reason := unfit(entry.name)) is None:
        return entry
    told = entry if isinstance(entry, str) else f"{entry.name}: {reason}"
    return told.encode(errors="backslashreplace").decode()


def _walk(directory: str, below: str, source: Path) -> Iterator[Look | str]:
    """Go through a directory in the order of the whole names below the source; a directory sorts as if its name ended in a slash.

    Of what is listed only the names are kept: they are all of a large directory that has to be in memory.
    """
    with os.scandir(directory) as found:
        names = sorted(f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in found)
    for name in names:
        name = name.rstrip("/")
        try:
            yield from _entry(os.path.join(directory, name), f"{below}{name}", source)  # noqa: PTH118  a path object costs more than the look
        except FileNotFoundError:  # gone since it was listed
            continue


def _entry(path: str, name: str, source: Path) -> Iterator[Look | str]:
    found = os.lstat(path)  # noqa: PTH116
    if stat.S_ISLNK(found.st_mode):
        inside = _leads_inside(Path(path), source)
        yield _look_at(Path(path), name) if inside else f"{name}: a link that leads out of the source or to no file"
    elif stat.S_ISDIR(found.st_mode):
        yield from _walk(path, f"{name}/", source) if unfit(f"{name}/x.csv") is None else [f"{name}/: a hidden or temporary name"]
    elif stat.S_ISREG(found.st_mode):
        yield Look(name=name, uri=path, size=found.st_size, stamp=_stamp(found))
    else:
        yield f"{name}: not a regular file"


def _leads_inside(path: Path, source: Path) -> bool:
    target = path.resolve()
    return target.is_file() and target.is_relative_to(source.resolve())


def _look_at(path: Path, name: str) -> Look:
    found = path.stat()
    return Look(name=name, uri=str(path), size=found.st_size, stamp=_stamp(found))


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_dev}:{found.st_ino}"


def is_local(look: Look) -> bool:
    """Tell whether the file is on local disk."""
    return not look.uri.startswith("s3://")


def unchanged(look: Look) -> bool:
    """Tell whether a local file still has the stamp of the look; the copy of an object does not change."""
    if not is_local(look):
        return True
    try:
        return _stamp(Path(look.uri).stat()) == look.stamp
    except OSError:
        return False


def fetch(look: Look, spool: Path) -> Fetched:
    """Give the very bytes that were looked at: a local file where it lies, an object as a copy in `spool`.

    Raises:
        Changed: if they are gone or others by now.
        PermissionError: if this user may not read them.
        SourceUnavailable: if S3 does not give them.
        DiskFull: if the copy finds no space; nothing of it is left.
    """
    if is_local(look):
        return Fetched(path=Path(look.uri), sha256=_digest(look))
    from tasks.stores import s3

    spool.mkdir(parents=True, exist_ok=True)
    landing = Path(tempfile.mkdtemp(dir=spool)) / "part"
    try:
        digest = hashlib.sha256()
        with landing.open("wb") as file:
            for block in s3.read(look, _BLOCK):
                digest.update(block)
                file.write(block)
        kept = spool / f"{digest.hexdigest()}{''.join(PurePosixPath(look.name).suffixes[-2:])}"
        return Fetched(path=landing.rename(kept), sha256=digest.hexdigest())
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"{spool} has no space for {look.uri}; nothing of it was kept. Free space and run again.") from error
        raise
    finally:
        shutil.rmtree(landing.parent)


def spool(pipeline: str) -> Path:
    """Name the directory that keeps copies of objects between their observation and their commit."""
    return settings.read().work / pipeline / "spool"


def _digest(look: Look) -> str:
    digest = hashlib.sha256()
    try:
        with Path(look.uri).open("rb") as file:
            before = os.fstat(file.fileno())
            while block := file.read(_BLOCK):
                digest.update(block)
            after = os.fstat(file.fileno())
    except PermissionError:
        raise
    except OSError as error:
        raise Changed(f"{look.name} cannot be read any more: {error}. It is looked at again by the next cycle.") from error
    if not stat.S_ISREG(before.st_mode) or {_stamp(before), _stamp(after)} != {look.stamp} or not unchanged(look):
        raise Changed(f"{look.name} changed while it was read; it is looked at again by the next cycle.")
    return digest.hexdigest()


def settled(look: Look, *, now: float, quiet: float) -> bool:
    """Tell whether a file is complete: nobody has it open for writing, and it was renamed into place or left alone for `quiet` seconds before `now`.

    Every write sets both times of a file to the same moment; a rename, or a copy that keeps the original's time, sets only the
    change time. An object is never half written.
    """
    if not is_local(look):
        return True
    writing = _being_written(Path(look.uri))
    _, modified, changed, *_ = (int(part) for part in look.stamp.split(":"))
    alone = changed / 1e9 <= now - quiet or changed / 1e9 > now + quiet  # or the clock was set back: the second look has to tell
    return not writing and (alone or (writing is False and changed > modified))


def _being_written(path: Path) -> bool | None:
    """Tell whether a process has the file open for writing; None where the system cannot tell.

    A read lease (fcntl(2), F_SETLEASE) is granted only where there is no writer; it is given back at once. Should one come in that very
    moment, the kernel tells us with a signal that is ignored by default, and lets it wait for that moment.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (AttributeError, OSError) as error:
        return True if getattr(error, "errno", None) == errno.EAGAIN else None
    else:
        return False
    finally:
        os.close(file)


def trusted(look: Look, looked_at: float) -> bool:
    """Tell whether an equal stamp will prove equal content: not if the file changed so shortly before that the clock may not show the next change."""
    return not is_local(look) or int(look.stamp.split(":")[2]) / 1e9 <= looked_at - _RACY


def watch(uri: str, stop: threading.Event) -> Iterator[frozenset[str]]:
    """Tell of a local source which files have changed, as soon as they do, until `stop` is set or the source is another directory.

    It gives an empty set about once a second: so long it is watched. A hint: what happens while nobody watches, or on a network's file
    system, is seen by listing only.

    Raises:
        OSError: if the system allows no more watches, or there is nothing to watch.
        RuntimeError: if a file is changed whose name is no text; nothing is watched any more.
    """
    path = _place(uri)
    watched = path if path.is_dir() else path.parent
    here, directory = watched.stat().st_ino, path.is_dir()
    changes = watchfiles.watch(
        watched,
        watch_filter=None,
        step=10,
        debounce=100,
        rust_timeout=1000,
        recursive=directory,
        yield_on_timeout=True,
        stop_event=stop,
        raise_interrupt=False,
    )
    for found in changes:
        removed = (watchfiles.Change.deleted, str(watched)) in found  # a directory made anew may have the number of the one before
        if removed or not watched.exists() or watched.stat().st_ino != here or path.is_dir() != directory:
            return
        yield frozenset(file for change, file in found if change != watchfiles.Change.deleted and (directory or file == str(path)))


def land(content: bytes, directory: Path, name: str) -> Path:
    """Put a file into a local source so that it is never seen half written: a hidden name first, then a rename."""
    directory.mkdir(parents=True, exist_ok=True)
    hidden = directory / f".{name}.tmp"
    with hidden.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hidden.rename(directory / name)
