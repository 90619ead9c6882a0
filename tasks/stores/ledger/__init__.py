"""The record of truth: arrivals, cycles, decisions, champions, scorings and the lease, in one SQL database.

Every change is one short transaction; those of a cycle check that it still holds the lease. What has to happen outside (the
registry's alias) is written to the outbox in the same transaction as the decision and done afterwards, so a restart can finish it.
"""

from tasks.stores.ledger.access import identity, now, transaction
from tasks.stores.ledger.arrivals import (
    count_outstanding,
    give_up,
    live_files,
    observe,
    outstanding,
    put_off,
    recorded,
    refused,
    settle,
    sort_out,
)
from tasks.stores.ledger.champions import champion, champions, served
from tasks.stores.ledger.cycles import Cycle, at_work, begin, begun_by_arrivals, cycle_of, end, last_cycle, list_cycles, unsettled_since
from tasks.stores.ledger.decisions import compared, decide, decision, decisions, rejected_since_training, rows_since_training, spendings
from tasks.stores.ledger.histories import GONE, UNREAD, history, identified, named, tally
from tasks.stores.ledger.leases import Lease, gone, holder, kept, lease_holder, lost, release, renew
from tasks.stores.ledger.outbox import Effect, finish, unfinished
from tasks.stores.ledger.proposals import Proposal, approve, earlier_champion, known, proposal, reject, roll_back, waiting
from tasks.stores.ledger.receipts import dead_letters, keep_letter, receipts, record
from tasks.stores.ledger.schema import SCHEMA_VERSION
from tasks.stores.ledger.scorings import list_scorings, pin, unpin
from tasks.stores.ledger.servers import Server, Step, beat, leave, note_step, servers, steps, withdraw, withdrawn

__all__ = [
    "GONE",
    "SCHEMA_VERSION",
    "Cycle",
    "Effect",
    "Lease",
    "Proposal",
    "Server",
    "Step",
    "approve",
    "UNREAD",
    "at_work",
    "beat",
    "begin",
    "begun_by_arrivals",
    "champion",
    "champions",
    "compared",
    "count_outstanding",
    "cycle_of",
    "dead_letters",
    "decide",
    "decision",
    "decisions",
    "earlier_champion",
    "end",
    "finish",
    "give_up",
    "gone",
    "history",
    "holder",
    "identified",
    "identity",
    "keep_letter",
    "kept",
    "known",
    "last_cycle",
    "lease_holder",
    "leave",
    "list_cycles",
    "list_scorings",
    "live_files",
    "lost",
    "named",
    "note_step",
    "now",
    "observe",
    "outstanding",
    "pin",
    "proposal",
    "put_off",
    "receipts",
    "record",
    "recorded",
    "refused",
    "reject",
    "rejected_since_training",
    "release",
    "renew",
    "roll_back",
    "rows_since_training",
    "served",
    "servers",
    "settle",
    "sort_out",
    "spendings",
    "steps",
    "tally",
    "transaction",
    "unfinished",
    "unpin",
    "unsettled_since",
    "waiting",
    "withdraw",
    "withdrawn",
]
