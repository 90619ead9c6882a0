"""Servers: which processes serve a pipeline's champion, how they are, and what became of the versions that they were given."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from tasks.stores.ledger import schema
from tasks.stores.ledger.access import now, reading, transaction

KEPT = 1000  # steps of a pipeline


@dataclass(frozen=True)
class Server:
    """One process that serves, as it said at `seen_at` (UTC); `state` is what it says of itself."""

    pipeline: str
    server: str
    url: str
    state: Mapping[str, Any]
    seen_at: str


@dataclass(frozen=True)
class Step:
    """What became of a version in a server: served, refused, shadow, canary or withdrawn; `cycle` is that of its decision."""

    pipeline: str
    version: int
    cycle: int
    step: str
    server: str
    why: str
    at: str


def beat(pipeline: str, server: str, url: str, state: Mapping[str, Any]) -> None:
    """Let a server say how it is."""
    table = schema.servers
    mine = (table.c.pipeline == pipeline) & (table.c.server == server)
    values = {"url": url, "record": json.dumps(dict(state)), "seen_at": now()}
    with transaction() as connection:
        if not connection.execute(table.update().where(mine).values(**values)).rowcount:
            connection.execute(table.insert().values(pipeline=pipeline, server=server, **values))


def leave(pipeline: str, server: str) -> None:
    """Forget a server that ended."""
    table = schema.servers
    with transaction() as connection:
        connection.execute(table.delete().where((table.c.pipeline == pipeline) & (table.c.server == server)))


def servers(pipeline: str) -> tuple[Server, ...]:
    """Give the servers of a pipeline that have not said that they ended, by name."""
    table = schema.servers
    with reading() as connection:
        rows = connection.execute(sa.select(table).where(table.c.pipeline == pipeline).order_by(table.c.server)).mappings().all()
    return tuple(Server(row["pipeline"], row["server"], row["url"], json.loads(row["record"]), row["seen_at"]) for row in rows)


def note_step(step: str, pipeline: str, version: int, cycle: int, server: str, why: str = "") -> None:
    """Record a step of a version in a server; the newest thousand of a pipeline are kept."""
    table = schema.rollouts
    with transaction() as connection:
        values = {"pipeline": pipeline, "version": version, "cycle": cycle, "step": step, "server": server, "why": why, "at": now()}
        connection.execute(table.insert().values(**values))
        oldest = sa.select(table.c.id).where(table.c.pipeline == pipeline).order_by(table.c.id.desc()).offset(KEPT).limit(1)
        connection.execute(
            table.delete().where((table.c.pipeline == pipeline) & (table.c.id <= oldest.scalar_subquery()) & (table.c.step != "withdrawn"))
        )


def steps(pipeline: str, limit: int = 20) -> tuple[Step, ...]:
    """Give what became of versions in servers, newest first."""
    table = schema.rollouts
    with reading() as connection:
        rows = (
            connection.execute(sa.select(table).where(table.c.pipeline == pipeline).order_by(table.c.id.desc()).limit(limit))
            .mappings()
            .all()
        )
    return tuple(Step(**{name: row[name] for name in Step.__dataclass_fields__}) for row in rows)


def withdraw(pipeline: str, version: int, cycle: int, server: str, why: str) -> bool:
    """Withdraw a version from its rollout on all servers; False if that was done before."""
    table = schema.rollouts
    with transaction() as connection:
        if connection.execute(_withdrawn(pipeline, cycle)).first() is not None:
            return False
        values = {"pipeline": pipeline, "version": version, "cycle": cycle, "step": "withdrawn", "server": server, "why": why, "at": now()}
        connection.execute(table.insert().values(**values))
        return True


def withdrawn(pipeline: str, cycle: int) -> str | None:
    """Say why the version of a cycle was withdrawn from its rollout, or None if it was not."""
    with reading() as connection:
        found: str | None = connection.execute(_withdrawn(pipeline, cycle)).scalar()
    return found


def _withdrawn(pipeline: str, cycle: int) -> sa.Select[Any]:
    table = schema.rollouts
    return sa.select(table.c.why).where(table.c.pipeline == pipeline, table.c.cycle == cycle, table.c.step == "withdrawn")
