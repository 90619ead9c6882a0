"""The ledger opened: one engine for each address in a process, and short transactions.

An older ledger is brought forward when it is opened, a newer one is refused. On PostgreSQL, as on SQLite, one transaction writes at a time.

Bring an SQLite ledger back from a copy while nothing runs, `ratchet down` and no `ratchet serve` in a shell, and its `-wal` and `-shm` with it, or
none of the old ones: they are of one file. Under a process that has the ledger open, changes are lost; and since SQLite maps the `-shm` into its
memory, the system ends it (SIGBUS) where that file is cut short.
"""

import functools
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tasks import settings
from tasks.errors import DiskFull, LedgerError
from tasks.stores.ledger.schema import MIGRATIONS, SCHEMA_VERSION, meta, metadata


def now() -> str:
    """Give this moment as the ledger writes it: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@contextmanager
def transaction() -> Iterator[Connection]:
    """Open one transaction on the ledger that the settings name; on SQLite it holds the write lock from its start.

    Raises:
        LedgerError: if the ledger cannot be reached or is of another schema version.
        DiskFull: if there is no space for the change; nothing of it is kept.
    """
    url = settings.read().ledger_url
    with _explained(url), _open(url).begin() as connection:
        yield connection


@contextmanager
def reading() -> Iterator[Connection]:
    """Open a transaction that only reads, and that waits for no writer.

    Raises:
        LedgerError: if the ledger cannot be reached or is of another schema version.
    """
    url = settings.read().ledger_url
    with _explained(url), _open(url).connect().execution_options(reads_only=True) as connection:
        yield connection


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except sa.exc.DBAPIError as error:
        if "disk is full" in str(error.orig):
            raise DiskFull(
                f"No space is left for the ledger {_shown(url)}; this change was not made, earlier ones stand. Free space and run again."
            ) from error
        raise LedgerError(
            f"The ledger {_shown(url)} refused: {error.orig}. This change was not made, earlier ones stand; see `ratchet doctor`."
        ) from error


_OPENING = threading.Lock()


def _open(url: str) -> Engine:
    with _OPENING:
        return _opened(url)


@functools.cache
def _opened(url: str) -> Engine:
    """Open a ledger once in a process."""
    engine = _sqlite(url) if url.startswith("sqlite") else _postgres(url)
    with ExitStack() as undo:
        undo.callback(engine.dispose)  # a ledger that is refused keeps no connection open
        with engine.begin() as connection:
            _make_or_check(connection, url)
        undo.pop_all()
    return engine


def _make_or_check(connection: Connection, url: str) -> None:
    metadata.create_all(connection)
    found = connection.execute(sa.select(meta.c.value).where(meta.c.name == "schema")).scalar()
    if found is None:
        connection.execute(meta.insert().values(name="schema", value=str(SCHEMA_VERSION)))
    elif int(found) > SCHEMA_VERSION:
        raise LedgerError(
            f"The ledger {_shown(url)} has schema version {found}; this Ratchet reads up to version {SCHEMA_VERSION}. Use the Ratchet that wrote it."
        )
    else:
        _bring_forward(connection, int(found))


def _bring_forward(connection: Connection, found: int) -> None:
    for version in range(found + 1, SCHEMA_VERSION + 1):
        for statement in MIGRATIONS[version]:
            connection.exec_driver_sql(statement)
        connection.execute(meta.update().where(meta.c.name == "schema").values(value=str(version)))


def identity() -> str:
    """Give the ledger's own id, made when it is first asked for, by which others can tell what is of it."""
    return _identity(settings.read().ledger_url)


@functools.cache
def _identity(url: str) -> str:
    with _explained(url), _open(url).begin() as connection:
        found = connection.execute(sa.select(meta.c.value).where(meta.c.name == "identity")).scalar()
        if found is None:
            found = uuid4().hex
            connection.execute(meta.insert().values(name="identity", value=found))
        return str(found)


WAIT = 30  # seconds that the lock of an SQLite file is waited for
# One key for the lock that every writing transaction takes; a process that was stopped inside one is cut off by the server.
_LOCK = 0x7261746368657400
_POSTGRES = "-c idle_in_transaction_session_timeout=20s -c lock_timeout=30s -c timezone=UTC"


def _postgres(url: str) -> Engine:
    engine = sa.create_engine(url, pool_pre_ping=True, connect_args={"options": _POSTGRES, "connect_timeout": 10})

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("reads_only", False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")

    return engine


def _sqlite(url: str) -> Engine:
    path = sa.make_url(url).database
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, connect_args={"timeout": WAIT})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself; see _begin
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get("reads_only", False)
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Have a file written ahead; where several open a new one at once, SQLite may refuse one of them without waiting."""
    limit = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > limit:
                raise
            time.sleep(0.01)


def _shown(url: str) -> str:
    return sa.make_url(url).render_as_string(hide_password=True)
