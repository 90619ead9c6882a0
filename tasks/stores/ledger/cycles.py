"""Cycles: one row for every pass, from its claim to its end."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.errors import CycleInProgress
from tasks.stores.ledger import leases, receipts
from tasks.stores.ledger.access import now, reading, transaction
from tasks.stores.ledger.leases import Lease
from tasks.stores.ledger.schema import cycles
from tasks.triggers import Receipt


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
    """Claim the pipeline's lease, open a cycle, and leave a receipt.

    A lease whose time is over, or whose holder was a process of this machine that is gone, is taken over; its cycle is marked failed.

    Raises:
        CycleInProgress: if another cycle holds the lease.
    """
    with transaction() as connection:
        token = leases.take(connection, pipeline)
        if isinstance(token, int):
            taken_over = _close_abandoned(connection, pipeline)
            newest = connection.execute(sa.select(sa.func.max(cycles.c.id)).where(cycles.c.pipeline == pipeline)).scalar()
            lease = Lease(pipeline=pipeline, cycle=(newest or 0) + 1, token=token, taken_over=taken_over)
            row = {"definition": definition, "started_at": now(), "state": "running", "flow_run": flow_run}
            connection.execute(cycles.insert().values(pipeline=pipeline, id=lease.cycle, trigger=trigger, token=token, **row))
            why = f"cycle {lease.cycle} began{', after one that did not end' if taken_over else ''}"
            receipts.leave(connection, pipeline, Receipt("ran", "began", why, trigger=trigger, cycle=lease.cycle))
            return lease
    raise CycleInProgress(
        f"A cycle of {pipeline!r} is running (process {token['holder']}, lease until {token['expires_at']}). It takes everything that is "
        f"outstanding, and what lands meanwhile is for the next one. Wait for it, or see it with `ratchet status`; an abandoned lease is taken over by itself."
    )


def _close_abandoned(connection: Connection, pipeline: str) -> bool:
    left = (cycles.c.pipeline == pipeline) & (cycles.c.state == "running")
    values = {
        "state": "failed",
        "ended_at": now(),
        "error": "The process ended or fell silent without a decision; the next cycle took over.",
    }
    return connection.execute(cycles.update().where(left).values(**values)).rowcount > 0


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
    return _cycles(query)


def cycle_of(flow_run: str) -> Cycle | None:
    """Give the cycle that ran in a flow run of Prefect, or None."""
    found = _cycles(sa.select(cycles).where(cycles.c.flow_run == flow_run).order_by(cycles.c.started_at.desc()).limit(1))
    return found[0] if found else None


def at_work(cycle: Cycle) -> bool:
    """Tell whether a cycle holds its pipeline's lease: one that was paused for longer, or has given it back, keeps no other from working."""
    newest = last_cycle(cycle.pipeline)
    return newest is not None and newest.id == cycle.id and leases.lease_holder(cycle.pipeline) is not None


def unsettled_since(lease: Lease) -> int:
    """Give the lowest token whose cycle may have committed something that the ledger does not know: the one after the last that was done."""
    done = (cycles.c.pipeline == lease.pipeline) & (cycles.c.state == "done") & (cycles.c.token < lease.token)
    with reading() as connection:
        return int(connection.execute(sa.select(sa.func.max(cycles.c.token)).where(done)).scalar() or 0) + 1


def begun_by_arrivals(pipeline: str, since: datetime) -> int:
    """Count the cycles that arrivals have started since that moment; those of a clock that was ahead of this one are long ago."""
    mine = (cycles.c.pipeline == pipeline) & (cycles.c.trigger == "arrival") & cycles.c.started_at.between(since.isoformat(), now())
    with reading() as connection:
        return int(connection.execute(sa.select(sa.func.count()).where(mine)).scalar_one())


def _cycles(query: "sa.Select[tuple[object]]") -> tuple[Cycle, ...]:
    with reading() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(Cycle(**{name: row[name] for name in Cycle.__dataclass_fields__}) for row in rows)
