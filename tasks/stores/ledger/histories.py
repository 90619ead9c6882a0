"""Histories: what the ledger tells of the arrivals that it has seen; nothing is changed here."""

from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tasks.records import Arrival
from tasks.stores.ledger.access import reading
from tasks.stores.ledger.schema import arrivals

REPLACED, GONE = "It was replaced at the source before it was read.", "It is gone from the source and was never read."
UNREAD = {REPLACED: "replaced before it was read", GONE: "gone before it was read"}  # reasons, and the same in a few words
BY_SEQ = itemgetter("seq")


def history(pipeline: str, *, limit: int | None = None, cycle: int | None = None) -> tuple[Arrival, ...]:
    """Give the pipeline's arrivals, newest first; of one cycle only, if it is given."""
    query = sa.select(arrivals).where(arrivals.c.pipeline == pipeline).order_by(arrivals.c.seq.desc()).limit(limit)
    if cycle is not None:
        query = query.where(arrivals.c.cycle == cycle)
    with reading() as connection:
        return tuple(arrival_of(row) for row in connection.execute(query).mappings())


def tally(pipeline: str) -> dict[str, int]:
    """Count the pipeline's arrivals by state; those that a newer version has replaced in the lake count as "replaced", others as in `UNREAD`."""
    mine, grouped = arrivals.c.pipeline == pipeline, (arrivals.c.state, arrivals.c.superseded)
    counted = sa.select(*grouped, sa.func.count()).where(mine).group_by(*grouped)
    refused_unread = (arrivals.c.state == "quarantined") & arrivals.c.superseded.is_(True) & arrivals.c.reason.in_(UNREAD)
    unread = sa.select(arrivals.c.reason, sa.func.count()).where(mine, refused_unread)
    counts: Counter[str] = Counter()
    with reading() as connection:
        for state, superseded, count in connection.execute(counted):
            counts["replaced" if superseded and state != "quarantined" else state] += int(count)
        for reason, count in connection.execute(unread.group_by(arrivals.c.reason)):
            counts[UNREAD[reason]] += int(count)
            counts["quarantined"] -= int(count)
    return dict(+counts)


def named(pipeline: str, name: str) -> tuple[Arrival, ...]:
    """Give the versions of the file of that name (or address), newest first."""
    mine = (arrivals.c.pipeline == pipeline) & ((arrivals.c.name == name) | (arrivals.c.uri == name))
    with reading() as connection:
        return tuple(arrival_of(row) for row in reversed(rows_of(connection, mine)))


def identified(pipeline: str, ids: Sequence[str]) -> dict[str, Arrival]:
    """Map those of the identities that are known to their arrivals."""
    with reading() as connection:
        parts = [
            rows_of(connection, arrivals.c.pipeline == pipeline, arrivals.c.id.in_(ids[at : at + 500])) for at in range(0, len(ids), 500)
        ]
    return {row["id"]: arrival_of(row) for part in parts for row in part}


def rows_of(connection: Connection, *conditions: sa.ColumnElement[bool]) -> Sequence[RowMapping]:
    """Give the rows in the order of arrival. They are sorted here: asked for that order, SQLite may go through all arrivals to have it from an index."""
    return sorted(connection.execute(sa.select(arrivals).where(*conditions)).mappings(), key=BY_SEQ)


def arrival_of(row: RowMapping) -> Arrival:
    """Give an arrival as it is recorded."""
    return Arrival(**{name: row[name] for name in Arrival.__dataclass_fields__})
