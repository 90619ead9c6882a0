"""Arrivals: every version of every file that was seen at a source, and what became of it.

A version is known by its content. The same content under a second name is a duplicate; new content under a known name is a new
arrival, whose rows take the place of the old one's once they are in the lake.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tasks.records import Arrival, Look
from tasks.stores.ledger.access import now, reading, transaction
from tasks.stores.ledger.histories import BY_SEQ, REPLACED, arrival_of, rows_of
from tasks.stores.ledger.leases import Lease, hold
from tasks.stores.ledger.schema import arrivals

TRIES = 3  # to read an arrival, before it is set aside


def recorded(pipeline: str, uris: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """Map those of the URIs that are known to the stamp of their newest version and whether an equal stamp proves equal content."""
    mine = (arrivals.c.pipeline == pipeline) & arrivals.c.uri.in_(uris)
    query = sa.select(arrivals.c.seq, arrivals.c.uri, arrivals.c.stamp, arrivals.c.trusted).where(mine)
    with reading() as connection:
        return {row["uri"]: (row["stamp"], row["trusted"]) for row in sorted(connection.execute(query).mappings(), key=BY_SEQ)}


def observe(pipeline: str, seen: Sequence[tuple[Look, str, bool]]) -> tuple[Arrival, ...]:
    """Record what was seen, (look, SHA-256, trusted) in the order of arrival, and give the arrivals that are new."""
    if not seen:
        return ()
    with transaction() as connection:
        known = _versions(connection, pipeline, [look.uri for look, _, _ in seen])
        rows = [_version(connection, pipeline, known.get(look.uri, []), look, digest, trusted) for look, digest, trusted in seen]
        new = [row for row in rows if row is not None]
        if not new:
            return ()
        connection.execute(arrivals.insert(), new)
        ids = arrivals.c.id.in_([row["id"] for row in new])
        return tuple(arrival_of(row) for row in rows_of(connection, arrivals.c.pipeline == pipeline, ids))


def _versions(connection: Connection, pipeline: str, uris: Sequence[str]) -> dict[str, list[RowMapping]]:
    """Give the known versions of files, oldest first."""
    found: dict[str, list[RowMapping]] = {}
    for row in rows_of(connection, arrivals.c.pipeline == pipeline, arrivals.c.uri.in_(uris)):
        found.setdefault(row["uri"], []).append(row)
    return found


def _version(
    connection: Connection, pipeline: str, versions: list[RowMapping], look: Look, digest: str, trusted: bool
) -> dict[str, Any] | None:
    """Give the row of a new version of a file, or None if the newest one has that content.

    An older version that is still pending is left so: a cycle may be reading it at this moment (see `sort_out`).
    """
    newest = versions[-1] if versions else None
    if newest and newest["sha256"] == digest and not newest["superseded"]:
        connection.execute(arrivals.update().where(arrivals.c.seq == newest["seq"]).values(stamp=look.stamp, trusted=trusted))
        return None
    return {
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


def _identity(uri: str, digest: str, earlier: int) -> str:
    return sha256(f"{uri}\n{digest}\n{earlier}".encode()).hexdigest()[:32]


def outstanding(pipeline: str) -> tuple[Arrival, ...]:
    """Give the arrivals that no cycle has settled yet, in the order of arrival."""
    with reading() as connection:
        return tuple(arrival_of(row) for row in rows_of(connection, arrivals.c.pipeline == pipeline, arrivals.c.state == "pending"))


def count_outstanding(pipeline: str) -> tuple[int, str | None, str | None]:
    """Count the arrivals that no cycle has settled yet, and tell when the first and the last of them were seen."""
    seen = arrivals.c.seen_at
    query = sa.select(sa.func.count(), sa.func.min(seen), sa.func.max(seen)).where(
        arrivals.c.pipeline == pipeline, arrivals.c.state == "pending"
    )
    with reading() as connection:
        count, first, last = connection.execute(query).one()
    return int(count), first, last


def sort_out(lease: Lease) -> None:
    """Pass over the pending versions that were replaced at the source before they were read, and mark the duplicates.

    A duplicate is a pending arrival whose content is, or is about to be, in the lake under another name. One that
    has rows of an older content in the lake stays pending all the same, so that those are taken out. Content whose other
    file is about to be replaced does not count as in the lake: it is taken in again, rather than lost.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is marked.
    """
    with transaction() as connection:
        hold(connection, lease)
        _pass_over(connection, lease.pipeline)
        here = _kin_of_pending(connection, lease.pipeline)
        keepers = {row["sha256"]: row for row in reversed(here) if row["state"] == "pending"}
        leaving = {row["uri"] for row in here if row["state"] == "pending"}
        keepers |= {row["sha256"]: row for row in here if row["state"] == "ingested" and row["uri"] not in leaving}
        with_rows = {row["uri"] for row in here if row["state"] == "ingested"}
        marked = []
        for row in here:
            keeper = keepers.get(row["sha256"], row)
            if row["state"] == "pending" and keeper["uri"] != row["uri"]:
                state = "pending" if row["uri"] in with_rows else "duplicate"
                values = {"state": state, "duplicate_of": keeper["seq"], "reason": f"It has the same content as {keeper['name']}."}
                connection.execute(arrivals.update().where(arrivals.c.seq == row["seq"]).values(**values))
                marked += [(row["uri"], row["seq"])] if state == "duplicate" else []
        _supersede(connection, lease.pipeline, marked)


def _pass_over(connection: Connection, pipeline: str) -> None:
    newer = sa.alias(arrivals)
    replaced = sa.exists().where(newer.c.pipeline == pipeline, newer.c.uri == arrivals.c.uri, newer.c.seq > arrivals.c.seq)
    for row in rows_of(connection, arrivals.c.pipeline == pipeline, arrivals.c.state == "pending", replaced):
        values = {"state": "quarantined", "superseded": True, "reason": REPLACED}
        connection.execute(arrivals.update().where(arrivals.c.seq == row["seq"]).values(**values))
        _revive(connection, pipeline, row["seq"])


def _kin_of_pending(connection: Connection, pipeline: str) -> Sequence[RowMapping]:
    """Give the live versions that share content or file with a pending one, those included, however many others there are."""
    live = (arrivals.c.pipeline == pipeline) & arrivals.c.superseded.is_(False) & arrivals.c.duplicate_of.is_(None)
    own = sa.alias(arrivals)
    pending = (own.c.pipeline == pipeline) & (own.c.state == "pending")
    by_content = arrivals.c.sha256.in_(sa.select(own.c.sha256).where(pending))
    by_file = arrivals.c.uri.in_(sa.select(own.c.uri).where(pending))
    kin = sa.union(sa.select(arrivals.c.seq).where(live, by_content), sa.select(arrivals.c.seq).where(live, by_file))
    return rows_of(connection, arrivals.c.seq.in_(kin))


def settle(lease: Lease, done: Sequence[Arrival]) -> None:
    """Record what became of arrivals whose rows are in the lake; versions that they replace are superseded from here on.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is recorded.
    """
    with transaction() as connection:
        hold(connection, lease)
        _write_outcomes(connection, lease, done)
        _supersede(connection, lease.pipeline, [(part.uri, part.seq) for part in done if part.state in ("ingested", "duplicate")])


def _supersede(connection: Connection, pipeline: str, taken: Sequence[tuple[str, int]]) -> None:
    """Mark the versions of files that are replaced by those `taken` (address and seq); a copy of one takes its place."""
    versions = _versions(connection, pipeline, [uri for uri, _ in taken])
    for uri, seq in taken:
        for version in versions[uri]:
            if version["seq"] < seq and not version["superseded"]:
                connection.execute(arrivals.update().where(arrivals.c.seq == version["seq"]).values(superseded=True))
                _revive(connection, pipeline, version["seq"])


def put_off(lease: Lease, missed: Sequence[tuple[Arrival, str]]) -> None:
    """Count a try of arrivals that could not be read, each with the reason; after `TRIES` of them it is given up.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is recorded.
    """
    for arrival, reason in missed:
        with transaction() as connection:
            hold(connection, lease)
            mine = arrivals.c.seq == arrival.seq
            tries = connection.execute(sa.select(arrivals.c.tries).where(mine)).scalar_one() + 1
            connection.execute(arrivals.update().where(mine).values(tries=tries, reason=reason))
        if tries >= TRIES:
            give_up(lease, [(arrival, f"It could not be read {tries} times. {reason}")])


def give_up(lease: Lease, unread: Sequence[tuple[Arrival, str]]) -> None:
    """Set arrivals aside that were never read, each with the reason; a copy of one, should there be any, takes its place.

    The source showing one with another stamp makes it a new arrival, be its content the same.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is recorded.
    """
    if not unread:
        return
    with transaction() as connection:
        hold(connection, lease)
        for arrival, reason in unread:
            values = {"state": "quarantined", "superseded": True, "cycle": lease.cycle, "reason": reason}
            connection.execute(arrivals.update().where(arrivals.c.seq == arrival.seq).values(**values))
            _revive(connection, lease.pipeline, arrival.seq)


_OUTCOME = ("state", "accepted", "rejected", "repeated", "reason")


def _write_outcomes(connection: Connection, lease: Lease, done: Sequence[Arrival]) -> None:
    """Write what became of the arrivals, all with one statement."""
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in _OUTCOME}
    rows: list[dict[str, Any]] = [{"the_seq": part.seq, **{f"new_{name}": getattr(part, name) for name in _OUTCOME}} for part in done]
    if rows:
        mine = arrivals.update().where(arrivals.c.seq == sa.bindparam("the_seq"))
        connection.execute(mine.values(**values, cycle=lease.cycle), rows)


def _revive(connection: Connection, pipeline: str, seq: int) -> None:
    """Let the first live duplicate of a superseded version stand for the content that its own file still has.

    One whose file has a newer version by now cannot be read any more: that version speaks for the file, and this one is superseded too.
    """
    mine = (arrivals.c.pipeline == pipeline) & (arrivals.c.duplicate_of == seq)
    found = rows_of(connection, mine, arrivals.c.state == "duplicate", arrivals.c.superseded.is_(False))
    newest = {uri: versions[-1]["seq"] for uri, versions in _versions(connection, pipeline, [copy["uri"] for copy in found]).items()}
    for copy in found:
        if newest[copy["uri"]] != copy["seq"]:
            values = {"superseded": True, "reason": "Its rows went with the file that it was a copy of; its own has other content by now."}
            connection.execute(arrivals.update().where(arrivals.c.seq == copy["seq"]).values(**values))
    copies = [copy for copy in found if newest[copy["uri"]] == copy["seq"]]
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
