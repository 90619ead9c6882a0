"""Cycles and the lease that lets one of them work on a pipeline at a time.

A lease has a token that rises with every claim; a cycle whose token is no longer the newest can commit nothing (Kleppmann,
"How to do distributed locking", 2016: fencing tokens).
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
from sqlalchemy.engine import Connection

from tasks import settings
from tasks.errors import CycleInProgress, LeaseLost, LedgerError
from tasks.stores.ledger.schema import cycles, leases, now, reading, transaction


@dataclass(frozen=True)
class Lease:
    """The right to commit for one pipeline, as long as no newer token was given out."""

    pipeline: str
    cycle: int
    token: int


@dataclass(frozen=True)
class Cycle:
    """One cycle as the ledger knows it; `id` counts the pipeline's cycles from 1, `state` is running, done or failed."""

    id: int
    pipeline: str
    trigger: str
    definition: str
    started_at: str
    ended_at: str | None
    state: str
    error: str | None
    flow_run: str | None


def begin(pipeline: str, *, trigger: str, definition: str, flow_run: str | None) -> Lease:
    """Claim the pipeline's lease and open a cycle.

    A lease whose time is over, or whose holder was a process of this machine that is gone, is taken over; its cycle is marked failed.

    Raises:
        CycleInProgress: if another cycle holds the lease.
    """
    with transaction() as connection:
        held = connection.execute(sa.select(leases).where(leases.c.pipeline == pipeline).with_for_update()).mappings().first()
        if held and held["holder"] and not _abandoned(held["holder"], held["expires_at"]):
            raise CycleInProgress(
                f"A cycle of {pipeline!r} is running (process {held['holder']}, lease until {held['expires_at']}). "
                f"Wait for it, or see it with `ratchet status`; an abandoned lease is taken over by itself."
            )
        token = held["token"] + 1 if held else 1
        values = {"token": token, "holder": _holder(), "expires_at": _expiry()}
        _upsert_lease(connection, pipeline, exists=held is not None, values=values)
        connection.execute(
            cycles.update()
            .where(cycles.c.pipeline == pipeline, cycles.c.state == "running")
            .values(state="failed", ended_at=now(), error="The process ended without a decision; the next cycle took over.")
        )
        newest = connection.execute(sa.select(sa.func.max(cycles.c.id)).where(cycles.c.pipeline == pipeline)).scalar()
        lease = Lease(pipeline=pipeline, cycle=(newest or 0) + 1, token=token)
        row = {"id": lease.cycle, "token": token, "definition": definition, "started_at": now(), "state": "running", "flow_run": flow_run}
        connection.execute(cycles.insert().values(pipeline=pipeline, trigger=trigger, **row))
        return lease


def _upsert_lease(connection: Connection, pipeline: str, *, exists: bool, values: dict[str, Any]) -> None:
    if exists:
        connection.execute(leases.update().where(leases.c.pipeline == pipeline).values(**values))
    else:
        connection.execute(leases.insert().values(pipeline=pipeline, **values))


def renew(lease: Lease) -> None:
    """Prolong the lease.

    Raises:
        LeaseLost: if a newer token was given out.
    """
    with transaction() as connection:
        hold(connection, lease)
        connection.execute(leases.update().where(leases.c.pipeline == lease.pipeline).values(expires_at=_expiry()))


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


def hold(connection: Connection, lease: Lease) -> None:
    """Make the open transaction depend on the lease.

    Raises:
        LeaseLost: if a newer token was given out.
    """
    found = connection.execute(sa.select(leases.c.token).where(leases.c.pipeline == lease.pipeline).with_for_update()).scalar()
    if found != lease.token:
        raise LeaseLost(
            f"Cycle {lease.cycle} of {lease.pipeline!r} held the lease with token {lease.token}, but {found} has been given out since. "
            "Nothing more of this cycle is committed; the newer cycle does the work."
        )


def release(lease: Lease) -> None:
    """Give the lease back, if it is still held; the token stays, so that the next one is higher."""
    with transaction() as connection:
        mine = (leases.c.pipeline == lease.pipeline) & (leases.c.token == lease.token)
        connection.execute(leases.update().where(mine).values(holder=None, expires_at=None))


def end(lease: Lease, *, error: str | None = None) -> None:
    """Close the cycle: done, or failed with the error's text. One whose lease was taken over has been closed already."""
    with transaction() as connection:
        mine = (cycles.c.pipeline == lease.pipeline) & (cycles.c.id == lease.cycle) & (cycles.c.state == "running")
        connection.execute(cycles.update().where(mine).values(state="failed" if error else "done", ended_at=now(), error=error))


def last_cycle(pipeline: str, *, before: int | None = None) -> Cycle | None:
    """Give the newest cycle of the pipeline, or the newest before cycle `before`."""
    found = list_cycles(pipeline, before=before, limit=1)
    return found[0] if found else None


def list_cycles(pipeline: str, *, before: int | None = None, limit: int = 100) -> tuple[Cycle, ...]:
    """Give the pipeline's newest cycles, newest first."""
    query = sa.select(cycles).where(cycles.c.pipeline == pipeline).order_by(cycles.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(cycles.c.id < before)
    with reading() as connection:
        rows = connection.execute(query).mappings().all()
    names = Cycle.__dataclass_fields__
    return tuple(Cycle(**{name: row[name] for name in names}) for row in rows)


def lease_holder(pipeline: str) -> str | None:
    """Name the process that holds the pipeline's lease, as "host/pid/start"."""
    with reading() as connection:
        row = connection.execute(sa.select(leases).where(leases.c.pipeline == pipeline)).mappings().first()
    return None if row is None or row["holder"] is None or _abandoned(row["holder"], row["expires_at"]) else str(row["holder"])


def _holder() -> str:
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}"


def _expiry() -> str:
    return (datetime.now(UTC) + timedelta(seconds=settings.read().lease)).isoformat(timespec="microseconds")


def _abandoned(holder: str, expires_at: str) -> bool:
    host, pid, started = holder.rsplit("/", 2)
    gone = host == socket.gethostname() and _started(int(pid)) != started
    return gone or expires_at < now()


def _started(pid: int) -> str:
    """Tell when a process of this machine started, so that a recycled number is not taken for it; "" when it is gone or cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "" if Path("/proc/self").exists() else _alive(pid)


def _alive(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"
