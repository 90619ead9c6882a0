"""A ledger that has seen many arrivals, without their files."""

import sqlalchemy as sa

from tasks.stores import ledger

FILL = """
INSERT INTO arrivals (id, pipeline, name, uri, sha256, size, stamp, trusted, state, superseded, accepted, rejected, repeated, reason,
                      seen_at, cycle, tries)
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < :count)
SELECT CAST(:pipeline AS TEXT) || n, CAST(:pipeline AS TEXT), n || '.csv', '/in/' || n || '.csv', 'sha-' || n, 100, 's' || n, :yes,
       CASE WHEN n % 100 = 0 THEN 'quarantined' ELSE 'ingested' END, CASE WHEN n % 10 = 0 THEN :yes ELSE :no END, 1, 0, 0,
       CASE WHEN n % 100 = 0 THEN CAST(:replaced AS TEXT) END, CAST(:seen AS TEXT), 1 + n / 1000, 0
FROM numbers
"""


def fill(pipeline: str, count: int) -> None:
    """Give a pipeline that many settled arrivals: one in ten has been superseded, one in a hundred was never read."""
    values = {"pipeline": pipeline, "count": count, "yes": True, "no": False, "seen": ledger.now(), "replaced": next(iter(ledger.UNREAD))}
    with ledger.transaction() as connection:
        connection.execute(sa.text(FILL), values)
