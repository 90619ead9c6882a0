"""Decisions, champions, and the outbox of effects that follow from them.

A decision and the champion that it makes are one transaction, which holds only while the champion is still the one that the
decision was made against. The registry's alias is moved afterwards, from the outbox.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.errors import LedgerError
from tasks.records import Champion, Decision
from tasks.stores.ledger import schema
from tasks.stores.ledger.leases import Lease, hold
from tasks.stores.ledger.schema import cycles, now, outbox, reading, transaction


@dataclass(frozen=True)
class Effect:
    """Something to do outside because of a decision; doing it twice is the same as doing it once."""

    id: int
    pipeline: str
    cycle: int
    effect: str
    payload: dict[str, Any]


def decide(
    lease: Lease,
    decision: Decision,
    *,
    trained_rows: int | None,
    promoted: Champion | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record the cycle's decision, and queue its notice and its report; if it promotes, make `promoted` the champion and queue the alias.

    `decision.previous` is the champion that the decision was made against; `details` are what its report needs beside it.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is recorded.
        LedgerError: if another champion was made meanwhile; nothing is recorded.
    """
    with transaction() as connection:
        hold(connection, lease)
        row = {"pipeline": lease.pipeline, "verdict": decision.verdict, "trained_rows": trained_rows, "at": decision.at or now()}
        connection.execute(schema.decisions.insert().values(cycle=lease.cycle, **row, record=json.dumps(decision.as_dict())))
        if promoted is not None:
            _crown(connection, decision, promoted)
            _queue(connection, decision, "alias", {"version": promoted.version, "previous": decision.previous})
        _queue(connection, decision, "notice", {"verdict": decision.verdict, "sentence": decision.sentence, "champion": decision.champion})
        _queue(connection, decision, "report", dict(details or {}))
        mine = (cycles.c.pipeline == lease.pipeline) & (cycles.c.id == lease.cycle)
        connection.execute(cycles.update().where(mine).values(state="done", ended_at=now()))


def _crown(connection: Connection, decision: Decision, promoted: Champion) -> None:
    table = schema.champions
    current = (table.c.pipeline == promoted.pipeline) & table.c.until.is_(None)
    found = connection.execute(sa.select(table.c.version).where(current)).scalar()
    if found != decision.previous:
        raise LedgerError(
            f"Cycle {decision.cycle} of {promoted.pipeline!r} compared its challenger with champion {decision.previous}, but the champion is {found} now. "
            "Nothing was promoted; run the cycle again."
        )
    connection.execute(table.update().where(current).values(until=promoted.since))
    values = {"pipeline": promoted.pipeline, "version": promoted.version, "since": promoted.since, "record": json.dumps(asdict(promoted))}
    connection.execute(table.insert().values(**values))


def _queue(connection: Connection, decision: Decision, effect: str, payload: dict[str, Any]) -> None:
    row = {"pipeline": decision.pipeline, "cycle": decision.cycle, "effect": effect, "payload": json.dumps(payload)}
    connection.execute(outbox.insert().values(**row))


def champion(pipeline: str) -> Champion | None:
    """Give the model version in service, or None if there never was one."""
    table = schema.champions
    with reading() as connection:
        row = connection.execute(sa.select(table).where(table.c.pipeline == pipeline, table.c.until.is_(None))).mappings().first()
    return None if row is None else Champion(**json.loads(row["record"]))


def champions(pipeline: str) -> tuple[Champion, ...]:
    """Give all champions there were, newest first, each with the time it served until."""
    table = schema.champions
    with reading() as connection:
        rows = connection.execute(sa.select(table).where(table.c.pipeline == pipeline).order_by(table.c.id.desc())).mappings().all()
    return tuple(Champion(**{**json.loads(row["record"]), "until": row["until"]}) for row in rows)


def decision(pipeline: str, cycle: int) -> dict[str, Any] | None:
    """Give the decision of one cycle in its documented JSON form, or None if it has none."""
    table = schema.decisions
    with reading() as connection:
        text = connection.execute(sa.select(table.c.record).where(table.c.pipeline == pipeline, table.c.cycle == cycle)).scalar()
    return None if text is None else dict(json.loads(text))


def decisions(pipeline: str, *, limit: int | None = None) -> tuple[dict[str, Any], ...]:
    """Give the pipeline's decisions in their documented JSON form, newest first."""
    table = schema.decisions
    query = sa.select(table.c.record).where(table.c.pipeline == pipeline).order_by(table.c.cycle.desc()).limit(limit)
    with reading() as connection:
        return tuple(dict(json.loads(text)) for text in connection.execute(query).scalars())


def rows_since_training(pipeline: str) -> int:
    """Count the rows that were accepted after the newest cycle that trained."""
    trained = sa.select(sa.func.max(schema.decisions.c.cycle)).where(
        schema.decisions.c.pipeline == pipeline, schema.decisions.c.trained_rows.is_not(None)
    )
    table = schema.arrivals
    with reading() as connection:
        newest = connection.execute(trained).scalar() or 0
        total = connection.execute(
            sa.select(sa.func.sum(table.c.accepted)).where(table.c.pipeline == pipeline, table.c.cycle > newest)
        ).scalar()
    return int(total or 0)


def unfinished(pipeline: str, kinds: Sequence[str] | None = None) -> tuple[Effect, ...]:
    """Give the effects that have not been confirmed, of these kinds or of all, in the order of their decisions."""
    query = sa.select(outbox).where(outbox.c.pipeline == pipeline, outbox.c.done_at.is_(None)).order_by(outbox.c.id)
    query = query if kinds is None else query.where(outbox.c.effect.in_(kinds))
    with reading() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(Effect(row["id"], row["pipeline"], row["cycle"], row["effect"], json.loads(row["payload"])) for row in rows)


def finish(effect: Effect) -> None:
    """Record that an effect was done."""
    with transaction() as connection:
        connection.execute(outbox.update().where(outbox.c.id == effect.id).values(done_at=now()))
