"""Champions: which version serves, and which served before, since when and why."""

import json
from dataclasses import asdict

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.records import Champion
from tasks.stores.ledger import schema
from tasks.stores.ledger.access import reading


def champion(pipeline: str) -> Champion | None:
    """Give the model version in service, or None if there never was one."""
    table = schema.champions
    with reading() as connection:
        row = connection.execute(sa.select(table).where(table.c.pipeline == pipeline, table.c.until.is_(None))).mappings().first()
    return None if row is None else Champion(**json.loads(row["record"]))


def champions(pipeline: str) -> tuple[Champion, ...]:
    """Give all champions there were, newest first, each with the time it served until."""
    with reading() as connection:
        return tuple(history(connection, pipeline))


def served(pipeline: str, version: int) -> Champion | None:
    """Give a version that is or was champion, as it served last, or None."""
    return next((champion for champion in champions(pipeline) if champion.version == version), None)


def history(connection: Connection, pipeline: str) -> list[Champion]:
    """Give the same in the open transaction."""
    table = schema.champions
    rows = connection.execute(sa.select(table).where(table.c.pipeline == pipeline).order_by(table.c.id.desc())).mappings().all()
    return [Champion(**{**json.loads(row["record"]), "until": row["until"]}) for row in rows]


def current_version(connection: Connection, pipeline: str) -> int | None:
    """Give the champion's version in the open transaction, or None."""
    table = schema.champions
    found: int | None = connection.execute(sa.select(table.c.version).where(table.c.pipeline == pipeline, table.c.until.is_(None))).scalar()
    return found


def crown(connection: Connection, made: Champion) -> None:
    """End the service of the champion there is, and begin that of this one, in the open transaction."""
    table = schema.champions
    connection.execute(table.update().where(table.c.pipeline == made.pipeline, table.c.until.is_(None)).values(until=made.since))
    values = {"pipeline": made.pipeline, "version": made.version, "since": made.since, "record": json.dumps(asdict(made))}
    connection.execute(table.insert().values(**values))
