"""Named points at which a test may stop the process, to prove that what is left can be finished. No-op unless RATCHET_CRASH_AT is set.

`RATCHET_CRASH_AT=lake.committed:SIGKILL` raises that signal at the point of that name; `lake.committed:SIGKILL:2` the second time it
is reached. Every point has a row in `POINTS`, and a crash test of its own.
"""

import os
import signal
from collections import Counter

from tasks import settings

POINTS = {
    "observe.listed": "the source was listed, nothing is recorded",
    "observe.recorded": "arrivals are in the ledger",
    "claim.taken": "the lease is taken, the cycle has a row",
    "ingest.staged": "a batch is staged",
    "clean.marked": "duplicates are marked, nothing is in the lake",
    "clean.quarantined": "bad rows are in quarantine, the good ones not in the lake",
    "clean.committed": "the rows are in the lake, the ledger does not know",
    "clean.settled": "the arrivals are settled",
    "lake.compacted": "small files were joined",
    "train.chosen": "the settings were tried",
    "evaluate.done": "the challenger was compared",
    "promote.stored": "the model's files are stored, it has no version",
    "promote.registered": "the model has a version, the ledger does not know",
    "promote.probed": "the stored model was examined in a process of its own",
    "promote.decided": "decision and champion are in the ledger, the outbox is full",
    "decide.recorded": "a decision without promotion is in the ledger",
    "effect.alias": "the alias was moved, the outbox does not know",
    "effect.notice": "the notice was sent, the outbox does not know",
    "effect.question": "Prefect was asked for an approval, the outbox does not know",
    "effect.answered": "the question was taken back, the outbox does not know",
    "effect.report": "MLflow and Prefect were told, the outbox does not know",
    "effect.finished": "an effect is struck off the outbox",
    "report.told": "the report is struck off the outbox",
    "claim.released": "the lease was given back",
}
_REACHED: Counter[str] = Counter()


def point(name: str) -> None:
    """Stop here if the settings say so.

    >>> point("observe.listed")
    """
    wanted = settings.read().crash_at
    if wanted is None:
        return
    where, number, *rest = wanted.split(":")
    if where != name:
        return
    _REACHED[name] += 1
    if _REACHED[name] == int(rest[0] if rest else 1):
        os.kill(os.getpid(), signal.Signals[number])
