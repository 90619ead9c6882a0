"""Faulty I/O: the N-th operation of a process fails (as SQLite's own tests do it, sqlite.org/testing.html, "I/O error testing").

Counted are the ledger's statements, the lake's commits, and what Python does with files below the home and the source: opening, making,
renaming and removing them. What polars and Delta do by themselves cannot be counted so; a real small disk is for those.
"""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

KINDS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EMFILE": errno.EMFILE, "EACCES": errno.EACCES}
FILE_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.listdir"}


@dataclass(frozen=True)
class Fault:
    """The `number`-th operation fails with `kind`; only those below `places` and of the ledger and lake count, and whose words have `only`."""

    kind: str
    number: int
    places: tuple[str, ...]
    only: str = ""


@dataclass
class Counter:
    """How many operations there were; each is told what to do."""

    fault: Fault | None
    seen: int = 0
    hit: str | None = None

    def operation(self, what: str) -> None:
        """Count an operation, and fail it if it is its turn."""
        self.seen += self.fault is None or self.fault.only in what
        if self.fault is not None and self.hit is None and self.seen == self.fault.number:
            self.hit = what
            number = KINDS[self.fault.kind]
            raise OSError(number, f"{os.strerror(number)} (injected into operation {self.seen})", what)


_NOW: list[Counter] = []
_HOOKED: list[bool] = []


@contextmanager
def injected(fault: Fault | None) -> Iterator[Counter]:
    """Count operations inside the block, and fail one of them."""
    counter = Counter(fault)
    _hook()
    _NOW.append(counter)
    try:
        yield counter
    finally:
        _NOW.remove(counter)


def _hook() -> None:
    """Put counters where operations begin, once in a process."""
    if _HOOKED:
        return
    _HOOKED.append(True)
    sys.addaudithook(_audited)
    import sqlalchemy as sa
    from sqlalchemy.engine import Engine

    sa.event.listen(Engine, "before_cursor_execute", _statement)
    from tasks.stores import lake

    lake.write_deltalake = _counted(lake.write_deltalake)  # type: ignore[attr-defined]


def _audited(event: str, arguments: tuple[Any, ...]) -> None:
    if not _NOW or event not in FILE_EVENTS:
        return
    fault, path = _NOW[-1].fault, arguments[0] if arguments else None
    if fault is not None and isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(fault.places):
        _NOW[-1].operation(f"{event} {os.fsdecode(path)}")


def _statement(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    """Fail a statement as the driver would."""
    if not _NOW or not (_NOW[-1].fault and connection.engine.dialect.name in ("sqlite", "postgresql")):
        return
    try:
        _NOW[-1].operation(f"sql {statement[:60]}")
    except OSError as error:
        import sqlalchemy as sa

        what = "database or disk is full" if error.errno == errno.ENOSPC else "disk I/O error"
        raise sa.exc.OperationalError(statement, None, Exception(f"{what} (injected)")) from error


def _counted(commit: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*arguments: Any, **options: Any) -> Any:
        if _NOW:
            _NOW[-1].operation("a commit of the lake")
        return commit(*arguments, **options)

    return counted
