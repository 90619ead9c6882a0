"""The record of truth: arrivals, cycles, decisions, champions and the lease, in one SQL database.

Every change is one short transaction; those of a cycle check that it still holds the lease. What has to happen outside (the
registry's alias) is written to the outbox in the same transaction as the decision and done afterwards, so a restart can finish it.
"""

from tasks.stores.ledger.arrivals import history, live_files, mark_duplicates, observe, outstanding, recorded, refused, settle
from tasks.stores.ledger.cycles import Cycle, Lease, begin, end, kept, last_cycle, lease_holder, list_cycles, release, renew
from tasks.stores.ledger.decisions import (
    Effect,
    champion,
    champions,
    decide,
    decision,
    decisions,
    finish,
    rows_since_training,
    unfinished,
)
from tasks.stores.ledger.schema import SCHEMA_VERSION, now, transaction

__all__ = [
    "SCHEMA_VERSION",
    "Cycle",
    "Effect",
    "Lease",
    "begin",
    "champion",
    "champions",
    "decide",
    "decision",
    "decisions",
    "end",
    "finish",
    "history",
    "kept",
    "last_cycle",
    "lease_holder",
    "list_cycles",
    "live_files",
    "mark_duplicates",
    "now",
    "observe",
    "outstanding",
    "recorded",
    "refused",
    "release",
    "renew",
    "rows_since_training",
    "settle",
    "transaction",
    "unfinished",
]
