"""Receipts: what came of every moment at which a cycle could have begun; and letters, the messages of a queue that could not be read."""

from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.stores.ledger import schema
from tasks.stores.ledger.access import now, reading, transaction
from tasks.stores.ledger.schema import letters
from tasks.triggers import Receipt

_BODY = 10_000  # characters of a letter that are kept


def record(pipeline: str, receipt: Receipt) -> int:
    """Leave a receipt, and give its number."""
    with transaction() as connection:
        return leave(connection, pipeline, receipt)


def leave(connection: Connection, pipeline: str, receipt: Receipt) -> int:
    """Leave a receipt in the open transaction; one like the newest is counted there instead of written anew."""
    table = schema.receipts
    newest = (
        connection.execute(sa.select(table).where(table.c.pipeline == pipeline).order_by(table.c.id.desc()).limit(1)).mappings().first()
    )
    if newest and (newest["outcome"], newest["rule"], newest["cycle"]) == (receipt.outcome, receipt.rule, receipt.cycle):
        values = {"why": receipt.why, "outstanding": receipt.outstanding, "last_at": now(), "times": newest["times"] + 1}
        connection.execute(table.update().where(table.c.id == newest["id"]).values(**values))
        return int(newest["id"])
    values = asdict(receipt) | {"pipeline": pipeline, "first_at": now(), "last_at": now(), "times": 1}
    return int((connection.execute(table.insert().values(**values)).inserted_primary_key or [0])[0])


def receipts(pipeline: str, *, since: str | None = None, until: str | None = None, limit: int | None = None) -> tuple[Receipt, ...]:
    """Give the pipeline's receipts, newest first; those that were left between two times, if they are given."""
    table = schema.receipts
    query = sa.select(table).where(table.c.pipeline == pipeline).order_by(table.c.id.desc()).limit(limit)
    query = query.where(table.c.last_at >= since) if since else query
    query = query.where(table.c.first_at <= until) if until else query
    with reading() as connection:
        rows = connection.execute(query).mappings().all()
    return tuple(Receipt(**{name: row[name] for name in Receipt.__dataclass_fields__}) for row in rows)


def keep_letter(pipeline: str, queue: str, message: str, body: str, reason: str) -> None:
    """Keep a message that could not be read, with the reason; one that is kept already is left as it is."""
    with transaction() as connection:
        known = sa.select(letters.c.id).where(letters.c.queue == queue, letters.c.message == message)
        if connection.execute(known).first() is None:
            row = {"pipeline": pipeline, "queue": queue, "message": message, "body": body[:_BODY].replace("\0", "\ufffd")}
            connection.execute(letters.insert().values(**row, reason=reason, at=now()))


def dead_letters(pipeline: str) -> tuple[tuple[str, str, str], ...]:
    """Give the kept messages as (time, reason, body), newest first."""
    query = sa.select(letters).where(letters.c.pipeline == pipeline).order_by(letters.c.id.desc())
    with reading() as connection:
        return tuple((row.at, row.reason, row.body) for row in connection.execute(query))
