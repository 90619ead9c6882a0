"""The lease that lets one cycle at a time work on a pipeline.

A lease has a token that rises with every claim; a cycle whose token is no longer the newest can commit nothing (Kleppmann,
"How to do distributed locking", 2016: fencing tokens). It is over when its time is, or when its holder was a process of this machine
that is gone. Times are those of the database's clock on PostgreSQL, so that machines need not agree.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tasks import settings
from tasks.errors import LeaseLost, LedgerError
from tasks.stores.ledger.access import reading, transaction
from tasks.stores.ledger.schema import leases


@dataclass(frozen=True)
class Lease:
    """The right to commit for one pipeline, as long as no newer token was given out; `taken_over` from a cycle that did not end."""

    pipeline: str
    cycle: int
    token: int
    taken_over: bool = False


def take(connection: Connection, pipeline: str) -> int | RowMapping:
    """Take the pipeline's lease in the open transaction and give its token, or give the row of the one who holds it."""
    held = connection.execute(sa.select(leases).where(leases.c.pipeline == pipeline).with_for_update()).mappings().first()
    if held and held["holder"] and not abandoned(connection, held):
        _shorten(connection, held)
        return held
    values: dict[str, Any] = {"token": held["token"] + 1 if held else 1, "holder": holder(), "expires_at": _expiry(connection)}
    mine = leases.update().where(leases.c.pipeline == pipeline) if held else leases.insert().values(pipeline=pipeline)
    connection.execute(mine.values(**values))
    return int(values["token"])


def _shorten(connection: Connection, held: RowMapping) -> None:
    """Let a lease that would last longer than leases do end in time: the clock was set back since it was renewed."""
    if held["holder"] and held["expires_at"] > _expiry(connection):
        connection.execute(leases.update().where(leases.c.pipeline == held["pipeline"]).values(expires_at=_expiry(connection)))


def hold(connection: Connection, lease: Lease) -> None:
    """Make the open transaction depend on the lease.

    Raises:
        LeaseLost: if a newer token was given out.
    """
    found = connection.execute(sa.select(leases.c.token).where(leases.c.pipeline == lease.pipeline).with_for_update()).scalar()
    if found != lease.token:
        raise LeaseLost(
            f"Cycle {lease.cycle} of {lease.pipeline!r} held the lease with token {lease.token}, but {found} has been given out since: it was "
            "paused or silent for longer than the lease (RATCHET_LEASE). Nothing more of this cycle is committed; the newer cycle does the work."
        )


def renew(lease: Lease) -> None:
    """Prolong the lease.

    Raises:
        LeaseLost: if a newer token was given out.
    """
    with transaction() as connection:
        hold(connection, lease)
        connection.execute(leases.update().where(leases.c.pipeline == lease.pipeline).values(expires_at=_expiry(connection)))


def lost(lease: Lease) -> LeaseLost | None:
    """Give the error that says that the lease was lost, or None if it is held."""
    try:
        with reading() as connection:
            hold(connection, lease)
    except LeaseLost as error:
        return error
    return None


@contextmanager
def kept(lease: Lease) -> Iterator[None]:
    """Renew the lease from a thread of its own while the block runs, however long a fit takes; once it is lost, no more."""
    done = threading.Event()

    def renew_until_done() -> None:
        while not done.wait(settings.read().lease / 3):
            try:
                renew(lease)
            except LeaseLost:  # the next step that commits says so
                return
            except LedgerError:  # out of reach for a moment: there are two more tries before the lease is over
                continue

    thread = threading.Thread(target=renew_until_done, name=f"lease of {lease.pipeline}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def release(lease: Lease) -> None:
    """Give the lease back, if it is still held; the token stays, so that the next one is higher."""
    with transaction() as connection:
        mine = (leases.c.pipeline == lease.pipeline) & (leases.c.token == lease.token)
        connection.execute(leases.update().where(mine).values(holder=None, expires_at=None))


def lease_holder(pipeline: str) -> str | None:
    """Name the process that holds the pipeline's lease, as "host/pid/start", or None if nobody does."""
    mine = sa.select(leases).where(leases.c.pipeline == pipeline)
    with reading() as connection:
        row = connection.execute(mine).mappings().first()
        if row is None or row["holder"] is None or abandoned(connection, row):
            return None
        too_long = row["expires_at"] > _expiry(connection)
    if too_long:  # whoever only waits for its end would wait as long as the clock was set back
        with transaction() as connection:
            _shorten(connection, connection.execute(mine.with_for_update()).mappings().one())
    return str(row["holder"])


def abandoned(connection: Connection, held: RowMapping) -> bool:
    """Tell whether a lease is over, or its holder gone."""
    return held["expires_at"] < _time(connection).isoformat(timespec="microseconds") or gone(held["holder"])


def gone(process: str) -> bool:
    """Tell whether a process, named as by `holder`, was one of this machine and is there no more; of another machine's nothing is known."""
    host, _, rest = process.partition("/")
    pid, _, started = rest.partition("/")
    return host == _host() and pid.isdigit() and _started(int(pid)) != started


def holder() -> str:
    """Name this process: host (and process namespace, for containers), number and start."""
    return f"{_host()}/{os.getpid()}/{_started(os.getpid())}"


def _host() -> str:
    space = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()}:{space.readlink()}" if space.is_symlink() else socket.gethostname()


def _time(connection: Connection) -> datetime:
    if connection.dialect.name == "postgresql":
        found: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return found.astimezone(UTC)
    return datetime.now(UTC)


def _expiry(connection: Connection) -> str:
    return (_time(connection) + timedelta(seconds=settings.read().lease)).isoformat(timespec="microseconds")


def _started(pid: int) -> str:
    """Tell when a process of this machine started, so that a recycled number is not taken for it; "" when it is gone or cannot be told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() else _alive(pid)
    return "" if fields[0] == "Z" else fields[19]


def _alive(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"
