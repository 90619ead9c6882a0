"""The places where data lands: a local directory, a single file, or an s3:// prefix.

What the listing says of a file is a `Look`; its stamp changes whenever the bytes may have: size, times and inode of a local file,
the ETag, version and time of an object. Nothing here follows a link out of the source or reads anything but a regular file.
"""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks import settings
from tasks.errors import Changed, DiskFull, SourceUnavailable
from tasks.records import Look

SUFFIXES = (".csv", ".csv.gz", ".parquet", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
_TEMPORARY = (".tmp", ".part", ".partial", ".crdownload", ".swp", "~")
_BLOCK = 1 << 20
_RACY = 2.0


@dataclass(frozen=True)
class Listing:
    """The files of a source in the order of their names, and what else is there with the reason why it is ignored."""

    looks: tuple[Look, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True)
class Fetched:
    """The bytes of an arrival on local disk, and their SHA-256."""

    path: Path
    sha256: str


def look(uri: str) -> Listing:
    """List a source.

    Raises:
        SourceUnavailable: if it does not exist or may not be read.
    """
    if uri.startswith("s3://"):
        from tasks.stores import s3

        return _sifted(s3.look(uri))
    path = Path(uri).expanduser().absolute()
    if not path.exists():
        near = next(parent for parent in path.parents if parent.exists())
        raise SourceUnavailable(
            f"The source {path} does not exist; the nearest directory that does is {near}. Create it, or name another source."
        )
    try:
        found: list[Look | str] = list(_walk(path, path)) if path.is_dir() else [_look_at(path, path.name)]
    except PermissionError as error:
        raise SourceUnavailable(f"The source {path} may not be read: {error}. Give this user the right to list and read it.") from error
    return _sifted(found)


def _sifted(found: list[Look | str]) -> Listing:
    looks = sorted((entry for entry in found if isinstance(entry, Look)), key=lambda entry: entry.name)
    reasons = [f"{entry.name}: {reason}" for entry in looks if (reason := unfit(entry.name))]
    kept = tuple(entry for entry in looks if unfit(entry.name) is None)
    return Listing(looks=kept, ignored=(*(entry for entry in found if isinstance(entry, str)), *reasons))


def unfit(name: str) -> str | None:
    """Say why a file of this name is not taken in, or None.

    >>> unfit("2024/may.csv") is None, unfit(".may.csv"), unfit("notes.txt")
    (True, 'a hidden or temporary name', 'an ending that is not read')
    """
    if any(part.startswith((".", "_")) or part.lower().endswith(_TEMPORARY) for part in PurePosixPath(name).parts):
        return "a hidden or temporary name"
    if ".." in PurePosixPath(name).parts or "\0" in name or not unicodedata.is_normalized("NFC", name):
        return "a name that is not plain"
    return None if name.lower().endswith(SUFFIXES) else "an ending that is not read"


def _walk(directory: Path, source: Path) -> Iterator[Look | str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            path = Path(entry.path)
            name = path.relative_to(source).as_posix()
            if entry.is_symlink():
                yield from (
                    [_look_at(path, name)]
                    if _leads_inside(path, source)
                    else [f"{name}: a link that leads out of the source or to no file"]
                )
            elif entry.is_dir():
                yield from _walk(path, source) if unfit(f"{name}/x.csv") is None else [f"{name}/: a hidden or temporary name"]
            elif entry.is_file():
                yield _look_at(path, name)
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
    except OSError as error:
        raise Changed(f"{look.name} cannot be read any more: {error}. It is looked at again by the next cycle.") from error
    if not stat.S_ISREG(before.st_mode) or {_stamp(before), _stamp(after)} != {look.stamp} or not unchanged(look):
        raise Changed(f"{look.name} changed while it was read; it is looked at again by the next cycle.")
    return digest.hexdigest()


def settled(look: Look, *, now: float, quiet: float) -> bool:
    """Tell whether a file has been left alone for `quiet` seconds before `now`; an object is never half written."""
    if not is_local(look):
        return True
    _, modified, changed, *_ = (int(part) for part in look.stamp.split(":"))
    return max(modified, changed) / 1e9 <= now - quiet


def trusted(look: Look, looked_at: float) -> bool:
    """Tell whether an equal stamp will prove equal content: not if the file changed so shortly before that the clock may not show the next change."""
    return settled(look, now=looked_at, quiet=_RACY)


def land(content: bytes, directory: Path, name: str) -> Path:
    """Put a file into a local source so that it is never seen half written: a hidden name first, then a rename."""
    directory.mkdir(parents=True, exist_ok=True)
    hidden = directory / f".{name}.tmp"
    with hidden.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hidden.rename(directory / name)
