"""Scorings: which content was scored by which model version into which place, each once."""

import json
from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from tasks.scorings import Pinned
from tasks.stores.ledger.access import now, reading, transaction
from tasks.stores.ledger.schema import scorings


def pin(pipeline: str, sha256: str, *, version: int, output: str, form: str, file: str) -> Pinned:
    """Begin to score a content with a version, or give what there is: the scoring that was done, or one that did not end.

    One that did not end is given before any other, whatever its version is: it is finished with the version that it was begun with, so
    that no two versions are mixed. One that was refused is begun anew.
    """
    mine = (scorings.c.pipeline == pipeline) & (scorings.c.sha256 == sha256) & (scorings.c.output == output) & (scorings.c.form == form)
    with transaction() as connection:
        known = _rows(connection, mine)
        found = next((row for row in known if row["state"] == "running"), None)
        found = found or next((row for row in known if row["version"] == version), None)
        if found is not None and found["state"] != "refused":
            return _pinned(found)
        values = {"state": "running", "file": file, "at": now(), "reason": None}
        if found is not None:
            connection.execute(scorings.update().where(scorings.c.id == found["id"]).values(**values))
        else:
            key = {"pipeline": pipeline, "sha256": sha256, "version": version, "output": output, "form": form}
            connection.execute(scorings.insert().values(**key, **values, rows=0, rejected=0, outputs="[]"))
        return _pinned(_rows(connection, mine & (scorings.c.version == version))[0])


def unpin(pinned: Pinned, *, rows: int = 0, rejected: int = 0, outputs: Sequence[str] = (), refused: str | None = None) -> Pinned:
    """End a scoring: done, or refused with the reason. One that another process has ended is left as it is."""
    mine = scorings.c.id == pinned.id
    values = {"state": "refused" if refused else "done", "rows": rows, "rejected": rejected, "reason": refused}
    with transaction() as connection:
        ended = scorings.update().where(mine, scorings.c.state == "running")
        connection.execute(ended.values(**values, outputs=json.dumps(list(outputs)), ended_at=now()))
        return _pinned(_rows(connection, mine)[0])


def list_scorings(pipeline: str, *, limit: int | None = None) -> tuple[Pinned, ...]:
    """Give the pipeline's scorings, newest first."""
    query = sa.select(scorings).where(scorings.c.pipeline == pipeline).order_by(scorings.c.id.desc()).limit(limit)
    with reading() as connection:
        return tuple(_pinned(row) for row in connection.execute(query).mappings())


def _rows(connection: Connection, mine: sa.ColumnElement[bool]) -> Sequence[RowMapping]:
    return connection.execute(sa.select(scorings).where(mine).order_by(scorings.c.id)).mappings().all()


def _pinned(row: RowMapping) -> Pinned:
    return Pinned(
        **{name: row[name] for name in Pinned.__dataclass_fields__ if name != "outputs"}, outputs=tuple(json.loads(row["outputs"]))
    )
