"""What people decide: proposals that wait for an approval, and rollbacks. Each is one transaction with what follows from it.

A proposal is a registered and probed version that a cycle ended in hold with. At most one of a pipeline waits; a newer one takes its place.
No lease is needed: the champion is compared and set in the same transaction, so a cycle that runs meanwhile cannot promote over it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tasks.errors import LedgerError, UserError
from tasks.records import Champion, Decision
from tasks.stores.ledger import schema
from tasks.stores.ledger.access import now, reading, transaction
from tasks.stores.ledger.champions import crown, current_version, history, served
from tasks.stores.ledger.outbox import queue
from tasks.stores.ledger.schema import proposals


@dataclass(frozen=True)
class Proposal:
    """A version that waits, or waited, for an approval: `state` is waiting, approved, rejected or lapsed; `expected` is the champion it was held against."""

    pipeline: str
    cycle: int
    state: str
    expected: int | None
    candidate: Champion
    at: str
    decided_at: str | None
    who: str | None
    why: str | None


def propose(connection: Connection, decision: Decision, candidate: Champion) -> None:
    """Let a version wait for an approval, in the open transaction; one that waited before lapses."""
    lapse(connection, decision.pipeline, f"Cycle {decision.cycle} has proposed version {candidate.version} instead.")
    row = {"pipeline": decision.pipeline, "cycle": decision.cycle, "state": "waiting", "expected": decision.previous}
    connection.execute(proposals.insert().values(**row, record=json.dumps(asdict(candidate)), at=now()))


def lapse(connection: Connection, pipeline: str, why: str) -> None:
    """End what waits, in the open transaction: the champion it was held against is none any more, or a newer proposal is there."""
    waiting = connection.execute(sa.select(proposals.c.cycle).where(_waiting(pipeline))).scalars().all()
    for cycle in waiting:
        _close(connection, pipeline, cycle, "lapsed", None, why)


def _waiting(pipeline: str) -> sa.ColumnElement[bool]:
    return sa.and_(proposals.c.pipeline == pipeline, proposals.c.state == "waiting")


def _close(connection: Connection, pipeline: str, cycle: int, state: str, who: str | None, why: str) -> None:
    mine = (proposals.c.pipeline == pipeline) & (proposals.c.cycle == cycle)
    connection.execute(proposals.update().where(mine).values(state=state, who=who, why=why, decided_at=now()))
    queue(connection, pipeline, cycle, "answered", {"state": state, "who": who, "why": why})


def waiting(pipeline: str) -> Proposal | None:
    """Give the proposal that waits for an approval, or None."""
    with reading() as connection:
        row = connection.execute(sa.select(proposals).where(_waiting(pipeline))).mappings().first()
    return None if row is None else _proposal(row)


def proposal(pipeline: str, cycle: int) -> Proposal | None:
    """Give the proposal of a cycle, or None if it made none."""
    with reading() as connection:
        mine = (proposals.c.pipeline == pipeline) & (proposals.c.cycle == cycle)
        row = connection.execute(sa.select(proposals).where(mine)).mappings().first()
    return None if row is None else _proposal(row)


def known(pipeline: str, version: int, cycle: int) -> Champion | None:
    """Give a version that is or was champion, or that this cycle proposed; None for any other."""
    found = served(pipeline, version)
    if found is None and (made := proposal(pipeline, cycle)) is not None and made.candidate.version == version:
        found = made.candidate
    return found


def _proposal(row: RowMapping) -> Proposal:
    plain = {name: row[name] for name in ("pipeline", "cycle", "state", "expected", "at", "decided_at", "who", "why")}
    return Proposal(**plain, candidate=Champion(**json.loads(row["record"])))


def approve(pipeline: str, *, who: str, why: str, cycle: int | None = None) -> Champion:
    """Make the version that waits the champion, and queue the alias and the notice.

    Raises:
        UserError: if nothing waits, or not of that cycle.
        LedgerError: if the champion is another than the one it was held against; the proposal lapses.
    """
    with transaction() as connection:
        found = _one_that_waits(connection, pipeline, cycle)
        current = current_version(connection, pipeline)
        if current == found.expected:
            made = replace(found.candidate, since=now(), how="approved", who=who, reason=why)
            crown(connection, made)
            _close(connection, pipeline, found.cycle, "approved", who, why)
            _tell(connection, made, "approved", f"{who} approved version {made.version}: {why}", found.expected)
            return made
        lapse(connection, pipeline, f"The champion is {current} by now.")
    raise LedgerError(
        f"Version {found.candidate.version} was held against champion {found.expected}, but the champion is {current} by now. The proposal has lapsed; "
        "the next cycle compares anew."
    )


def reject(pipeline: str, *, who: str, why: str, cycle: int | None = None) -> Proposal:
    """Turn the version that waits down; the champion stays.

    Raises:
        UserError: if nothing waits, or not of that cycle.
    """
    with transaction() as connection:
        found = _one_that_waits(connection, pipeline, cycle)
        _close(connection, pipeline, found.cycle, "rejected", who, why)
        payload = {
            "verdict": "rejected",
            "sentence": f"{who} rejected version {found.candidate.version}: {why}",
            "champion": found.expected,
        }
        queue(connection, pipeline, found.cycle, "notice", payload)
        return found


def _one_that_waits(connection: Connection, pipeline: str, cycle: int | None) -> Proposal:
    row = connection.execute(sa.select(proposals).where(_waiting(pipeline))).mappings().first()
    if row is None:
        raise UserError(f"No version of {pipeline!r} waits for an approval. `ratchet status` shows what does.")
    if cycle is not None and row["cycle"] != cycle:
        raise UserError(
            f"The version of cycle {cycle} waits no more; that of cycle {row['cycle']} does. Look at it, and answer for that one."
        )
    return _proposal(row)


def roll_back(pipeline: str, *, who: str, why: str, to: int | None = None) -> Champion:
    """Make an earlier champion the champion again: the one before (see `line`), or version `to`; queue the alias and the notice.

    The demoted version had its say on the rows that the newest decision has seen: from here on only newer rows are evidence.

    Raises:
        UserError: if there is no such earlier champion.
    """
    with transaction() as connection:
        served = history(connection, pipeline)
        current = served[0] if served and served[0].until is None else None
        target = _earlier(pipeline, served, current, to)
        lapse(connection, pipeline, f"{who} rolled back to version {target.version}.")
        evidence = _newest_evidence(connection, pipeline)
        made = replace(target, since=now(), until=None, how="rolled back", who=who, reason=why, evidence_after=evidence)
        crown(connection, made)
        _tell(connection, made, "rolled back", f"{who} rolled back to version {made.version}: {why}", current.version if current else None)
        return made


def earlier_champion(pipeline: str, to: int | None = None) -> Champion:
    """Give the champion that a rollback would bring back: the one before, or version `to`.

    Raises:
        UserError: if there is no such earlier champion.
    """
    with reading() as connection:
        served = history(connection, pipeline)
    return _earlier(pipeline, served, served[0] if served and served[0].until is None else None, to)


def _earlier(pipeline: str, served: list[Champion], current: Champion | None, to: int | None) -> Champion:
    earlier = [past for past in served if current is None or past.version != current.version]
    before = [past for past in line(served) if current is None or past.version != current.version]
    found = next(iter(before), None) if to is None else next((past for past in earlier if past.version == to), None)
    if found is None:
        known = sorted({past.version for past in earlier})
        what = f"Version {to} of {pipeline!r} never was a champion before"
        if to is None:
            what = f"{pipeline!r} has no earlier champion" + (" that was not rolled back itself; name it with --to" if known else "")
        elif current is not None and to == current.version:
            what = f"Version {to} is the champion of {pipeline!r} already"
        raise UserError(f"{what}; earlier champions: {known or 'none'}. `ratchet champions {pipeline}` lists them.")
    return found


def line(served: Sequence[Champion]) -> list[Champion]:
    """Give of all champions (newest first) those that no rollback has demoted: going back twice leads on, not to what was just left."""
    kept: list[Champion] = []
    for past in reversed(served):
        if past.how == "rolled back" and any(one.version == past.version for one in kept):
            while kept.pop().version != past.version:
                pass
        kept.append(past)
    return kept[::-1]


def _newest_evidence(connection: Connection, pipeline: str) -> str | None:
    table = schema.decisions
    query = sa.select(table.c.record).where(table.c.pipeline == pipeline, table.c.trained_rows.is_not(None)).order_by(table.c.cycle.desc())
    text = connection.execute(query.limit(1)).scalar()
    snapshot: dict[str, Any] = (json.loads(text).get("snapshot") or {}) if text else {}
    return snapshot.get("last")


def _tell(connection: Connection, made: Champion, verdict: str, sentence: str, previous: int | None) -> None:
    queue(connection, made.pipeline, made.cycle, "alias", {"version": made.version, "previous": previous})
    payload = {"verdict": verdict, "sentence": sentence, "champion": made.version}
    queue(connection, made.pipeline, made.cycle, "notice", payload)
