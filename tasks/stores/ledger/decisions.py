"""Decisions, and in the same transaction what follows from them: the champion or the proposal, and the effects in the outbox.

A decision and the champion that it makes are one transaction, which holds only while the champion is still the one that the
decision was made against. The registry's alias is moved afterwards, from the outbox.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from tasks.budget import Spending
from tasks.errors import LedgerError
from tasks.records import Champion, Compared, Decision
from tasks.stores.ledger import proposals, schema
from tasks.stores.ledger.access import now, reading, transaction
from tasks.stores.ledger.champions import crown, current_version
from tasks.stores.ledger.leases import Lease, hold
from tasks.stores.ledger.outbox import queue
from tasks.stores.ledger.schema import cycles

PAGE = 20  # decisions that are read at a time


def decide(
    lease: Lease,
    decision: Decision,
    *,
    trained_rows: int | None,
    candidate: Champion | None = None,
    spending: Spending | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record the cycle's decision and what it spent of the error budget, and queue its notice and its report.

    If it promotes, `candidate` becomes the champion and the alias is queued; if it holds, `candidate` waits for an approval.
    `decision.previous` is the champion that the decision was made against; `details` are what its report needs beside it.

    Raises:
        LeaseLost: if the cycle's lease was taken over; nothing is recorded.
        LedgerError: if another champion was made meanwhile; nothing is recorded.
    """
    with transaction() as connection:
        hold(connection, lease)
        row = {"pipeline": lease.pipeline, "verdict": decision.verdict, "trained_rows": trained_rows, "at": decision.at or now()}
        connection.execute(schema.decisions.insert().values(cycle=lease.cycle, **row, record=json.dumps(decision.as_dict())))
        if spending is not None:
            connection.execute(schema.spendings.insert().values(pipeline=lease.pipeline, **asdict(spending)))
        if candidate is not None:
            _follow(connection, decision, candidate)
        payload = {"verdict": decision.verdict, "sentence": decision.sentence, "champion": decision.champion}
        queue(connection, decision.pipeline, decision.cycle, "notice", payload)
        queue(connection, decision.pipeline, decision.cycle, "report", dict(details or {}))
        mine = (cycles.c.pipeline == lease.pipeline) & (cycles.c.id == lease.cycle)
        connection.execute(cycles.update().where(mine).values(state="done", ended_at=now()))


def _follow(connection: Connection, decision: Decision, candidate: Champion) -> None:
    """Crown the candidate, or let it wait, if the champion is still the one of the comparison."""
    found = current_version(connection, candidate.pipeline)
    if found != decision.previous:
        raise LedgerError(
            f"Cycle {decision.cycle} of {candidate.pipeline!r} compared its challenger with champion {decision.previous}, but the champion is {found} now. "
            "Nothing was promoted; run the cycle again."
        )
    if decision.verdict == "hold":
        proposals.propose(connection, decision, candidate)
        queue(connection, decision.pipeline, decision.cycle, "question", {"version": candidate.version})
        return
    proposals.lapse(connection, candidate.pipeline, f"Cycle {decision.cycle} has promoted version {candidate.version}.")
    crown(connection, candidate)
    queue(connection, decision.pipeline, decision.cycle, "alias", {"version": candidate.version, "previous": decision.previous})


def spendings(pipeline: str) -> tuple[Spending, ...]:
    """Give what the pipeline's comparisons have spent of the error budget, in order."""
    table = schema.spendings
    query = sa.select(table.c.cycle, table.c.evidence, table.c.level, table.c.moment).where(table.c.pipeline == pipeline)
    with reading() as connection:
        return tuple(Spending(**row) for row in connection.execute(query.order_by(table.c.cycle)).mappings())


def compared(pipeline: str) -> Iterator[Compared]:
    """Give the rows that each of the pipeline's decisions rests on, newest first, read a few at a time as they are asked for."""
    table, before = schema.decisions, None
    while True:
        query = sa.select(table.c.cycle, table.c.record).where(table.c.pipeline == pipeline, table.c.trained_rows.is_not(None))
        query = query if before is None else query.where(table.c.cycle < before)
        with reading() as connection:
            page = connection.execute(query.order_by(table.c.cycle.desc()).limit(PAGE)).all()
        if not page:
            return
        for cycle, text in page:
            before, found = cycle, json.loads(text)["evaluation"] or {}
            if found.get("first") is not None and found.get("last") is not None:
                yield Compared(cycle, found["first"], found["last"])


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
    return _since_training(pipeline)[0]


def rejected_since_training(pipeline: str) -> float:
    """Give the share in quarantine of the rows that came after the newest cycle that trained, 0 if none came.

    Not of one cycle: one that was killed has taken rows in, and the next one decides on them.
    """
    accepted, rejected, repeated = _since_training(pipeline)
    return rejected / max(1, accepted + rejected + repeated)


def _since_training(pipeline: str) -> tuple[int, int, int]:
    """Count the rows accepted, rejected and repeated after the newest cycle that trained."""
    trained = sa.select(sa.func.max(schema.decisions.c.cycle)).where(
        schema.decisions.c.pipeline == pipeline, schema.decisions.c.trained_rows.is_not(None)
    )
    table = schema.arrivals
    sums = [sa.func.sum(column) for column in (table.c.accepted, table.c.rejected, table.c.repeated)]
    with reading() as connection:
        newest = connection.execute(trained).scalar() or 0
        row = connection.execute(sa.select(*sums).where(table.c.pipeline == pipeline, table.c.cycle > newest)).one()
    accepted, rejected, repeated = (int(count or 0) for count in row)
    return accepted, rejected, repeated
