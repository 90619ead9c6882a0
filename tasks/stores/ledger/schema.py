"""The ledger's tables. Times are ISO 8601 in UTC, so that they sort as text.

`SCHEMA_VERSION` is stored in `meta`. To change a table: raise it, add the step to `MIGRATIONS`, and a test that opens a stored ledger of the
version before.
"""

from typing import Any

import sqlalchemy as sa

SCHEMA_VERSION = 4

metadata = sa.MetaData()


_COPIES = "duplicate_of IS NOT NULL"  # an index of the others too would be taken for a way to find what is no copy: nearly everything


def _column(name: str, kind: Any = sa.String, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, **{"nullable": False, **options})


meta = sa.Table("meta", metadata, _column("name", primary_key=True), _column("value"))
arrivals = sa.Table(
    "arrivals",
    metadata,
    _column("seq", sa.Integer, primary_key=True, autoincrement=True),
    _column("id"),
    _column("pipeline"),
    _column("name"),
    _column("uri"),
    _column("sha256"),
    _column("size", sa.BigInteger),
    _column("stamp"),
    _column("trusted", sa.Boolean),
    _column("state"),
    _column("superseded", sa.Boolean, default=False),
    _column("accepted", sa.BigInteger, default=0),
    _column("rejected", sa.BigInteger, default=0),
    _column("repeated", sa.BigInteger, default=0),
    _column("reason", nullable=True),
    _column("seen_at"),
    _column("cycle", sa.Integer, nullable=True),
    _column("duplicate_of", sa.Integer, nullable=True),
    _column("tries", sa.Integer, default=0),
    sa.UniqueConstraint("pipeline", "id"),
    sa.Index("arrivals_by_uri", "pipeline", "uri"),
    sa.Index("arrivals_by_content", "pipeline", "sha256"),
    sa.Index("arrivals_by_order", "pipeline", "seq"),
    sa.Index("arrivals_by_outcome", "pipeline", "state", "superseded"),  # it also answers the tally by itself
    sa.Index("arrivals_by_cycle", "pipeline", "cycle"),
    sa.Index("arrivals_by_copied", "pipeline", "duplicate_of", sqlite_where=sa.text(_COPIES), postgresql_where=sa.text(_COPIES)),
)
cycles = sa.Table(
    "cycles",
    metadata,
    _column("pipeline", primary_key=True),
    _column("id", sa.Integer, primary_key=True, autoincrement=False),
    _column("trigger"),
    _column("token", sa.Integer),
    _column("definition"),
    _column("started_at"),
    _column("ended_at", nullable=True),
    _column("state"),
    _column("error", sa.Text, nullable=True),
    _column("flow_run", nullable=True),
)
decisions = sa.Table(
    "decisions",
    metadata,
    _column("pipeline", primary_key=True),
    _column("cycle", sa.Integer, primary_key=True, autoincrement=False),
    _column("verdict"),
    _column("trained_rows", sa.BigInteger, nullable=True),
    _column("at"),
    _column("record", sa.Text),
)
champions = sa.Table(
    "champions",
    metadata,
    _column("id", sa.Integer, primary_key=True, autoincrement=True),
    _column("pipeline"),
    _column("version", sa.Integer),
    _column("since"),
    _column("until", nullable=True),
    _column("record", sa.Text),
    sa.Index("one_champion", "pipeline", unique=True, sqlite_where=sa.text("until IS NULL"), postgresql_where=sa.text("until IS NULL")),
)
proposals = sa.Table(
    "proposals",
    metadata,
    _column("pipeline", primary_key=True),
    _column("cycle", sa.Integer, primary_key=True, autoincrement=False),
    _column("state"),
    _column("expected", sa.Integer, nullable=True),
    _column("record", sa.Text),
    _column("at"),
    _column("decided_at", nullable=True),
    _column("who", nullable=True),
    _column("why", sa.Text, nullable=True),
)
spendings = sa.Table(
    "spendings",
    metadata,
    _column("pipeline", primary_key=True),
    _column("cycle", sa.Integer, primary_key=True, autoincrement=False),
    _column("evidence"),
    _column("level", sa.Float),
    _column("moment"),
)
leases = sa.Table(
    "leases",
    metadata,
    _column("pipeline", primary_key=True),
    _column("token", sa.Integer),
    _column("holder", nullable=True),
    _column("expires_at", nullable=True),
)
outbox = sa.Table(
    "outbox",
    metadata,
    _column("id", sa.Integer, primary_key=True, autoincrement=True),
    _column("pipeline"),
    _column("cycle", sa.Integer),
    _column("effect"),
    _column("payload", sa.Text),
    _column("done_at", nullable=True),
)
receipts = sa.Table(
    "receipts",
    metadata,
    _column("id", sa.Integer, primary_key=True, autoincrement=True),
    _column("pipeline"),
    _column("outcome"),
    _column("rule"),
    _column("why", sa.Text),
    _column("trigger"),
    _column("outstanding", sa.Integer),
    _column("cycle", sa.Integer, nullable=True),
    _column("first_at"),
    _column("last_at"),
    _column("times", sa.Integer),
    sa.Index("receipts_by_pipeline", "pipeline", "id"),
)
letters = sa.Table(
    "letters",
    metadata,
    _column("id", sa.Integer, primary_key=True, autoincrement=True),
    _column("pipeline"),
    _column("queue"),
    _column("message"),
    _column("body", sa.Text),
    _column("reason", sa.Text),
    _column("at"),
    sa.UniqueConstraint("queue", "message"),
)
rollouts = sa.Table(
    "rollouts",
    metadata,
    _column("id", sa.Integer, primary_key=True, autoincrement=True),
    _column("pipeline"),
    _column("version", sa.Integer),
    _column("cycle", sa.Integer),
    _column("step"),
    _column("server"),
    _column("why", sa.Text),
    _column("at"),
    sa.Index("rollouts_by_pipeline", "pipeline", "id"),
)
servers = sa.Table(
    "servers",
    metadata,
    _column("pipeline", primary_key=True),
    _column("server", primary_key=True),
    _column("url"),
    _column("record", sa.Text),
    _column("seen_at"),
)
scorings = sa.Table(
    "scorings",
    metadata,
    _column("id", sa.Integer, primary_key=True, autoincrement=True),
    _column("pipeline"),
    _column("sha256"),
    _column("version", sa.Integer),
    _column("output"),
    _column("form"),
    _column("file"),
    _column("state"),
    _column("rows", sa.BigInteger),
    _column("rejected", sa.BigInteger),
    _column("reason", sa.Text, nullable=True),
    _column("outputs", sa.Text),
    _column("at"),
    _column("ended_at", nullable=True),
    sa.UniqueConstraint("pipeline", "sha256", "version", "output", "form"),
)
# What brings a ledger from the version before to this one; tables that are new are made before.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    2: (
        "ALTER TABLE arrivals ADD COLUMN tries INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX IF NOT EXISTS arrivals_by_cycle ON arrivals (pipeline, cycle)",
        "CREATE INDEX IF NOT EXISTS arrivals_by_original ON arrivals (pipeline, duplicate_of)",
    ),
    3: (  # the tables of proposals and spendings are new
        "CREATE INDEX IF NOT EXISTS arrivals_by_order ON arrivals (pipeline, seq)",
        "CREATE INDEX IF NOT EXISTS arrivals_by_outcome ON arrivals (pipeline, state, superseded)",
        f"CREATE INDEX IF NOT EXISTS arrivals_by_copied ON arrivals (pipeline, duplicate_of) WHERE {_COPIES}",
        "DROP INDEX IF EXISTS arrivals_by_state",
        "DROP INDEX IF EXISTS arrivals_by_original",
    ),
    4: (),  # the tables of rollouts, servers and scorings are new
}
