"""The outbox: what has to be done outside because of a change in the ledger, written down in the transaction of that change."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.stores.ledger.access import now, reading, transaction
from tasks.stores.ledger.schema import outbox


@dataclass(frozen=True)
class Effect:
    """Something to do outside because of a decision; doing it twice is the same as doing it once."""

    id: int
    pipeline: str
    cycle: int
    effect: str
    payload: dict[str, Any]


def queue(connection: Connection, pipeline: str, cycle: int, effect: str, payload: Mapping[str, Any]) -> None:
    """Write down, in the open transaction, what is to be done outside because of it."""
    row = {"pipeline": pipeline, "cycle": cycle, "effect": effect, "payload": json.dumps(payload)}
    connection.execute(outbox.insert().values(**row))


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
