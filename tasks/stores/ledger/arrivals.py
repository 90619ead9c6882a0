"""Arrivals: every version of every file that was seen at a source, and what became of it.

A version is known by its content. The same content under a second name is a duplicate; new content under a known name is a new
arrival, whose rows take the place of the old one's once they are in the lake.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tasks.records import Arrival, Look
from tasks.stores.ledger.cycles import Lease, hold
from tasks.stores.ledger.schema import arrivals, now, reading, transaction


def recorded(pipeline: str) -> dict[str, tuple[str, bool]]:
    """Map each known URI to the stamp of its newest version and whether an equal stamp proves equal content."""
    query = sa.select(arrivals.c.uri, arrivals.c.stamp, arrivals.c.trusted).where(arrivals.c.pipeline == pipeline).order_by(arrivals.c.seq)
    with reading() as connection:
        return {row.uri: (row.stamp, row.trusted) for row in connection.execute(query)}


def observe(pipeline: str, seen: Sequence[tuple[Look, str, bool]]) -> tuple[Arrival, ...]:
    """Record what was seen, (look, SHA-256, trusted) in the order of arrival, and give the arrivals that are new."""
    if not seen:
        return ()
    with transaction() as connection:
        found = [_record(connection, pipeline, look, digest, trusted) for look, digest, trusted in seen]
    return tuple(arrival for arrival in found if arrival is not None)


def _record(connection: Connection, pipeline: str, look: Look, digest: str, trusted: bool) -> Arrival | None:
    versions = _rows(connection, arrivals.c.pipeline == pipeline, arrivals.c.uri == look.uri)
    newest = versions[-1] if versions else None
    if newest and newest["sha256"] == digest:
        connection.execute(arrivals.update().where(arrivals.c.seq == newest["seq"]).values(stamp=look.stamp, trusted=trusted))
        return None
    if newest and newest["state"] == "pending":
        gone = {"state": "quarantined", "superseded": True, "reason": "It was replaced at the source before it was read."}
        connection.execute(arrivals.update().where(arrivals.c.seq == newest["seq"]).values(**gone))
        _revive(connection, pipeline, newest["seq"])
    values: dict[str, Any] = {
        "id": _identity(look.uri, digest, sum(version["sha256"] == digest for version in versions)),
        "pipeline": pipeline,
        "name": look.name,
        "uri": look.uri,
        "sha256": digest,
        "size": look.size,
        "stamp": look.stamp,
        "trusted": trusted,
        "seen_at": now(),
        "state": "pending",
    }
    seq = (connection.execute(arrivals.insert().values(**values)).inserted_primary_key or [0])[0]
    return _arrival(_rows(connection, arrivals.c.seq == seq)[0])


def _identity(uri: str, digest: str, earlier: int) -> str:
    return sha256(f"{uri}\n{digest}\n{earlier}".encode()).hexdigest()[:32]


def outstanding(pipeline: str) -> tuple[Arrival, ...]:
    """Give the arrivals that no cycle has settled yet, in the order of arrival."""
    with reading() as connection:
        return tuple(_arrival(row) for row in _rows(connection, arrivals.c.pipeline == pipeline, arrivals.c.state == "pending"))


def mark_duplicates(lease: Lease) -> None:
    """Mark the pending arrivals whose content is, or is about to be, in the lake under another name.

    One that has rows of an older content in the lake stays pending all the same, so that those are taken out. Content whose other
    file is about to be replaced does not count as in the lake: it is taken in again, rather than lost.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is marked.
    """
    with transaction() as connection:
        hold(connection, lease)
        here = _rows(connection, arrivals.c.pipeline == lease.pipeline, arrivals.c.superseded.is_(False), arrivals.c.duplicate_of.is_(None))
        keepers = {row["sha256"]: row for row in reversed(here) if row["state"] == "pending"}
        leaving = {row["uri"] for row in here if row["state"] == "pending"}
        keepers |= {row["sha256"]: row for row in here if row["state"] == "ingested" and row["uri"] not in leaving}
        with_rows = {row["uri"] for row in here if row["state"] == "ingested"}
        for row in here:
            keeper = keepers.get(row["sha256"], row)
            if row["state"] == "pending" and keeper["uri"] != row["uri"]:
                state = "pending" if row["uri"] in with_rows else "duplicate"
                values = {"state": state, "duplicate_of": keeper["seq"], "reason": f"It has the same content as {keeper['name']}."}
                connection.execute(arrivals.update().where(arrivals.c.seq == row["seq"]).values(**values))


def settle(lease: Lease, done: Sequence[Arrival]) -> None:
    """Record what became of arrivals whose rows are in the lake; versions that they replace are superseded from here on.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is recorded.
    """
    with transaction() as connection:
        hold(connection, lease)
        for arrival in done:
            connection.execute(arrivals.update().where(arrivals.c.seq == arrival.seq).values(**_outcome(arrival), cycle=lease.cycle))
            if arrival.state in ("ingested", "duplicate"):
                _supersede(connection, lease.pipeline, arrival)


def _outcome(arrival: Arrival) -> Mapping[str, Any]:
    return {name: getattr(arrival, name) for name in ("state", "accepted", "rejected", "repeated", "reason")}


def _supersede(connection: Connection, pipeline: str, arrival: Arrival) -> None:
    older = _rows(
        connection,
        arrivals.c.pipeline == pipeline,
        arrivals.c.uri == arrival.uri,
        arrivals.c.seq < arrival.seq,
        arrivals.c.superseded.is_(False),
    )
    for version in older:
        connection.execute(arrivals.update().where(arrivals.c.seq == version["seq"]).values(superseded=True))
        _revive(connection, pipeline, version["seq"])


def _revive(connection: Connection, pipeline: str, seq: int) -> None:
    """Let the first live duplicate of a superseded version stand for the content that its own file still has.

    One whose file has a newer version by now is left: that version speaks for the file.
    """
    mine = (arrivals.c.pipeline == pipeline) & (arrivals.c.duplicate_of == seq)
    found = _rows(connection, mine, arrivals.c.state == "duplicate", arrivals.c.superseded.is_(False))
    copies = [
        copy
        for copy in found
        if _rows(connection, arrivals.c.pipeline == pipeline, arrivals.c.uri == copy["uri"])[-1]["seq"] == copy["seq"]
    ]
    for place, copy in enumerate(copies):
        anew = sha256(f"{copy['id']}\nafter {seq}".encode()).hexdigest()[:32]  # under its old identity it may have a commit already
        values = (
            {"id": anew, "state": "pending", "duplicate_of": None, "reason": None} if place == 0 else {"duplicate_of": copies[0]["seq"]}
        )
        connection.execute(arrivals.update().where(arrivals.c.seq == copy["seq"]).values(**values))


def refused(seqs: Sequence[int]) -> frozenset[int]:
    """Give those of the arrivals that were quarantined."""
    query = sa.select(arrivals.c.seq).where(arrivals.c.seq.in_(seqs), arrivals.c.state == "quarantined")
    with reading() as connection:
        return frozenset(connection.execute(query).scalars())


def live_files(pipeline: str, uris: Sequence[str]) -> tuple[str, ...]:
    """Give those of the URIs of which an earlier version has rows in the lake."""
    live = sa.select(arrivals.c.uri).where(
        arrivals.c.pipeline == pipeline, arrivals.c.state == "ingested", arrivals.c.superseded.is_(False), arrivals.c.uri.in_(uris)
    )
    with reading() as connection:
        return tuple(connection.execute(live.distinct()).scalars())


def history(pipeline: str, *, limit: int | None = None, cycle: int | None = None) -> tuple[Arrival, ...]:
    """Give the pipeline's arrivals, newest first; of one cycle only, if it is given."""
    query = sa.select(arrivals).where(arrivals.c.pipeline == pipeline).order_by(arrivals.c.seq.desc()).limit(limit)
    if cycle is not None:
        query = query.where(arrivals.c.cycle == cycle)
    with reading() as connection:
        return tuple(_arrival(row) for row in connection.execute(query).mappings())


def _rows(connection: Connection, *conditions: sa.ColumnElement[bool]) -> Sequence[RowMapping]:
    return connection.execute(sa.select(arrivals).where(*conditions).order_by(arrivals.c.seq)).mappings().all()


def _arrival(row: RowMapping) -> Arrival:
    return Arrival(**{name: row[name] for name in Arrival.__dataclass_fields__})
