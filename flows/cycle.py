"""One cycle's claim on its pipeline, and the ways it may end."""

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefect import get_run_logger, runtime

from flows import pipelines
from flows.streams import worked
from tasks import crash, settings
from tasks.budget import Spending
from tasks.promote import settle_effects
from tasks.records import Decision
from tasks.report import report
from tasks.spec import Pipeline
from tasks.stores import ledger
from tasks.stores.ledger import Lease


@dataclass(frozen=True)
class Cycle:
    """What one pass works with; whether the last one ended in a decision with this very definition, and whether it may have trained.

    `alias` says what was found wrong with the registry's alias, if anything was.
    """

    spec: Pipeline
    lease: Lease
    work: Path
    began: float
    unchanged: bool
    tried: bool
    alias: str | None = None


@contextmanager
def claimed(spec: Pipeline, trigger: str) -> Iterator[Cycle]:
    """Claim the pipeline for one cycle; whatever happens, its lease is given back and its directory is removed."""
    began, text = time.monotonic(), pipelines.path(spec.name).read_bytes()
    definition = hashlib.sha256(text).hexdigest()
    lease = ledger.begin(spec.name, trigger=trigger, definition=definition, flow_run=runtime.flow_run.id)
    crash.point("claim.taken")
    last = ledger.last_cycle(spec.name, before=lease.cycle)
    work = settings.read().work / spec.name / f"cycle-{lease.cycle}"
    work.mkdir(parents=True)
    (work / "pipeline.py").write_bytes(text)  # what the model is stored with, whoever edits the file meanwhile
    try:
        with worked(lease):
            unchanged = last is not None and last.state == "done" and last.definition == definition
            tried = last is not None and bool((ledger.decision(spec.name, last.id) or {"mlflow_run": True})["mlflow_run"])
            yield Cycle(spec, lease, work, began, unchanged, tried)
    finally:
        if ledger.lost(lease) is None:  # else the newer cycle has cleared it up
            shutil.rmtree(work, ignore_errors=True)
        ledger.release(lease)
        crash.point("claim.released")


def sweep_out(cycle: Cycle) -> None:
    """Remove the directories of cycles that were killed, which their reports do not need any more."""
    for left in cycle.work.parent.glob("cycle-*"):
        if left != cycle.work:
            shutil.rmtree(left, ignore_errors=True)


def recorded(
    cycle: Cycle,
    draft: Decision,
    *,
    trained_rows: int | None = None,
    spending: Spending | None = None,
    more: Mapping[str, Any] | None = None,
) -> Decision:
    """Record a decision that promotes nothing."""
    decision = timed(cycle, draft)
    ledger.decide(cycle.lease, decision, trained_rows=trained_rows, spending=spending, details=more)
    crash.point("decide.recorded")
    return replace(decision, notes=decision.notes + settle_effects(cycle.spec.name))


def timed(cycle: Cycle, decision: Decision) -> Decision:
    """Give the decision with the moment and the seconds that the cycle took."""
    return replace(decision, at=ledger.now(), seconds=round(time.monotonic() - cycle.began, 3))


def told(cycle: Cycle, decision: Decision) -> Decision:
    """Tell the decision, and give it with what could not be told yet."""
    left = report(cycle.spec.name)
    get_run_logger().info(decision.sentence)
    return replace(decision, notes=decision.notes + left)
