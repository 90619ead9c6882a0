"""The record of truth: arrivals, cycles, decisions, champions and the lease, in one SQL database.

Every change is one short transaction; those of a cycle check that it still holds the lease. What has to happen outside (the
registry's alias) is written to the outbox in the same transaction as the decision and done afterwards, so a restart can finish it.
"""

from tasks.stores.ledger.arrivals import (
    count_outstanding,
    give_up,
    history,
    live_files,
    named,
    observe,
    outstanding,
    put_off,
    recorded,
    refused,
    settle,
    sort_out,
    tally,
)
from tasks.stores.ledger.cycles import Cycle, at_work, begin, begun_by_arrivals, cycle_of, end, last_cycle, list_cycles, unsettled_since
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
from tasks.stores.ledger.leases import Lease, gone, holder, kept, lease_holder, lost, release, renew
from tasks.stores.ledger.receipts import dead_letters, keep_letter, receipts, record
from tasks.stores.ledger.schema import SCHEMA_VERSION, identity, now, transaction

__all__ = [
    "SCHEMA_VERSION",
    "Cycle",
    "Effect",
    "Lease",
    "at_work",
    "begin",
    "begun_by_arrivals",
    "champion",
    "champions",
    "count_outstanding",
    "cycle_of",
    "dead_letters",
    "decide",
    "decision",
    "decisions",
    "end",
    "finish",
    "give_up",
    "gone",
    "history",
    "holder",
    "identity",
    "keep_letter",
    "kept",
    "last_cycle",
    "lease_holder",
    "list_cycles",
    "live_files",
    "lost",
    "named",
    "now",
    "observe",
    "outstanding",
    "put_off",
    "receipts",
    "record",
    "recorded",
    "refused",
    "release",
    "renew",
    "rows_since_training",
    "settle",
    "sort_out",
    "tally",
    "transaction",
    "unfinished",
    "unsettled_since",
]
