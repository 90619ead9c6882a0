"""Promote: make a decision true.

Publishing has one order: the model is registered and probed; the ledger compares and sets the champion, records the decision and what it spent, and
queues the effects, all in one transaction; then alias, notice and report are made to match. They are projections: what a crash or a server that
was away has left undone is done by the next cycle (`settle_effects`), and an alias that somebody moved is noticed (`check_alias`).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import crash, frames
from tasks.budget import Spending
from tasks.errors import Breakdown, Unreachable
from tasks.records import Champion, Decision, Fitted, Prepared
from tasks.spec import Pipeline
from tasks.stores import events, ledger, models, questions, tracking
from tasks.stores.ledger import Effect, Lease

GOLDEN = 32  # rows that a model is tried on wherever it is loaded
logger = logging.getLogger(__name__)


def store(pipeline: Pipeline, lease: Lease, decision: Decision, prepared: Prepared, served: Fitted, definition: Path) -> Champion:
    """Register the model that is to serve, and give what it would be as champion; nothing is decided yet.

    Raises:
        LeaseLost: if the cycle's lease was taken over.
        ModelRejected: if the model cannot be stored so that it can be loaded again.
        Unreachable: if MLflow does not store it.
    """
    estimator = joblib.load(served.uri)
    examples, _ = frames.read_staged(prepared, 0, models.SIGNATURE_ROWS)
    ledger.renew(lease)
    whole = served.rows == prepared.snapshot.rows
    tags = {
        "cycle": str(decision.cycle),
        "candidate": served.candidate,
        "snapshot": str(prepared.snapshot.version),
        "fitted": "refit" if whole else "tested",
    }
    golden = golden_rows(pipeline, prepared)
    made = models.register(pipeline.name, estimator, definition, examples, run=decision.mlflow_run or "", tags=tags, golden=golden)
    crash.point("promote.registered")
    return Champion(
        pipeline=pipeline.name,
        version=made.version,
        model_uri=made.model_uri,
        sha256=made.sha256,
        cycle=decision.cycle,
        candidate=served.candidate,
        params=served.params,
        trained_until=prepared.snapshot.last if whole else prepared.trained_until,
        trained_version=prepared.snapshot.version,
        since=ledger.now(),
        served="refit" if whole else "tested",
        evidence_after=prepared.snapshot.last,  # the rows it was chosen by are no evidence in the next comparison
    )


def golden_rows(pipeline: Pipeline, prepared: Prepared) -> pl.DataFrame | None:
    """Give a few unseen rows, evenly spread, to try the model on before it serves; none where some columns are private."""
    if pipeline.serving.private or not prepared.unseen:
        return None
    rows = pl.scan_ipc(prepared.raw).select(frames.known_in_time(pipeline)).collect()
    return rows[:: -(-rows.height // GOLDEN)]


def publish(
    lease: Lease, decision: Decision, candidate: Champion, prepared: Prepared, spending: Spending | None, details: Mapping[str, Any]
) -> Decision:
    """Record the decision with what follows from it, then do what is to be done outside; `details` are for the report.

    Raises:
        LeaseLost: if the cycle's lease was taken over; the champion is as it was.
        LedgerError: if another champion was made meanwhile; it stays.
    """
    promoted = decision.verdict == "promote"
    done = replace(
        decision,
        champion=candidate.version if promoted else decision.previous,
        proposed=candidate.version if decision.verdict == "hold" else None,
        served=candidate.served if promoted else None,
        at=ledger.now(),
    )
    made = replace(candidate, since=ledger.now(), reason=decision.sentence) if decision.verdict in ("promote", "hold") else None
    try:
        ledger.decide(lease, done, trained_rows=prepared.train, candidate=made, spending=spending, details=details)
    except Breakdown:  # the version that was made has no decision, and gets none
        retire(decision.pipeline)
        raise
    crash.point("promote.decided")
    return replace(done, notes=done.notes + settle_effects(decision.pipeline))


def settle_effects(pipeline: str) -> tuple[str, ...]:
    """Do what decisions left to do outside, each as often as it takes and with the effect of once; say what could not be done yet.

    The alias is moved to the champion that the ledger has at that moment, not to the one of the decision: a newer one has the last word.
    """
    left = []
    for effect in ledger.unfinished(pipeline, tuple(_EFFECTS)):
        try:
            _EFFECTS[effect.effect](effect)
        except Unreachable as error:
            logger.warning("%s", error)
            left.append(str(error))
            continue
        crash.point(f"effect.{effect.effect}")
        ledger.finish(effect)
        crash.point("effect.finished")
    return tuple(left)


def _move_alias(effect: Effect) -> None:
    moved = None
    while (champion := ledger.champion(effect.pipeline)) is not None and champion.version != moved:
        if not models.exists(effect.pipeline, champion.version):
            break  # deleted by hand: there is nothing to point to, and `check_alias` says so in every cycle
        models.point(effect.pipeline, champion.version)
        moved = champion.version
    retire(effect.pipeline)


def retire(pipeline: str) -> None:
    """Mark the versions that never served, and do not wait for an approval, as orphans.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    waiting = ledger.waiting(pipeline)
    kept = [served.version for served in ledger.champions(pipeline)] + ([waiting.candidate.version] if waiting else [])
    models.retire(pipeline, kept)


def clear_up(pipeline: str, *, tried: bool) -> tuple[str, ...]:
    """End the MLflow runs, and mark the versions, that the last cycle has left if it tried to train; say what could not be done.

    A cycle that was stopped leaves them, and one that asked MLflow twice because a reply was lost.
    """
    if not tried:
        return ()
    try:
        tracking.abandon(pipeline)
        retire(pipeline)
    except Unreachable as error:
        return (str(error),)
    return ()


def check_alias(pipeline: Pipeline) -> str | None:
    """Say what is wrong with the registry's alias, or None; where the gate says so, put it right.

    The ledger says which version is the champion. Whoever moved the alias by hand has changed what others that read it serve, and nothing here.
    """
    champion = ledger.champion(pipeline.name)
    if ledger.unfinished(pipeline.name, ("alias",)):
        return None
    try:
        if champion is None:
            return foreign(pipeline.name, models.pointed(pipeline.name))
        if not models.exists(pipeline.name, champion.version):
            return deleted(pipeline.name, champion.version)
        pointed = models.pointed(pipeline.name)
        if pointed == champion.version:
            return None
        found = f"The registry's alias pointed to {f'version {pointed}' if pointed else 'nothing'}, the ledger's champion is version {champion.version}"
        if pipeline.gate.moved_alias == "hold":
            return f"{found}. Nothing is promoted until it is put back there (in MLflow, or with Gate.moved_alias='restore')."
        models.point(pipeline.name, champion.version)
    except Unreachable as error:
        return str(error) if pipeline.gate.moved_alias == "hold" else None
    return f"{found}. Somebody moved it by hand; it was put back."


def foreign(pipeline: str, pointed: int | None) -> str | None:
    """Say what it means that the registry has a champion and the ledger has never had one; None if the registry has none either.

    >>> foreign("churn", None)
    >>> foreign("churn", 7)[:79]
    "The registry's alias of 'churn' points to version 7, and this ledger has never "
    """
    if pointed is None:
        return None
    return (
        f"The registry's alias of {pipeline!r} points to version {pointed}, and this ledger has never had a champion: it was lost, or the registry is "
        f"another's. Bring the ledger back from a backup, or use another name or registry; else the first model that is promoted takes the alias."
    )


def deleted(pipeline: str, version: int) -> str:
    """Say what it means that the champion's version is gone from the registry, and what to do.

    >>> deleted("churn", 3)[:66]
    'Version 3, the champion, was deleted from the registry, and with i'
    """
    return (
        f"Version {version}, the champion, was deleted from the registry, and with it the alias: models:/{pipeline}@champion leads nowhere for "
        f"others. Here it goes on serving, from its verified copy. A version cannot be made again: the next one that is promoted gets the alias, "
        f"or bring an earlier one back with `ratchet rollback {pipeline} --to VERSION` (`ratchet champions {pipeline}` lists them)."
    )


def _give_notice(effect: Effect) -> None:
    decided = effect.payload.get("verdict") in ("promote", "keep", "hold", "skip")
    about = f"cycle {effect.cycle}" if decided else f"change {effect.id}"
    events.send([events.event(events.DECIDED, effect.pipeline, about, {"cycle": effect.cycle, **effect.payload})])


def _ask(effect: Effect) -> None:
    proposal = ledger.proposal(effect.pipeline, effect.cycle)
    if proposal is not None and proposal.state == "waiting":
        questions.ask(effect.pipeline, effect.cycle)


def _take_back(effect: Effect) -> None:
    state, who, why = (effect.payload[name] for name in ("state", "who", "why"))
    questions.withdraw(effect.pipeline, effect.cycle, f"{state.capitalize()}{f' by {who}' if who else ''}: {why}")
    retire(effect.pipeline)


_EFFECTS: Mapping[str, Callable[[Effect], None]] = {
    "alias": _move_alias,
    "notice": _give_notice,
    "question": _ask,
    "answered": _take_back,
}


@task(name="register", task_run_name="register {served.candidate}", cache_policy=NO_CACHE, persist_result=False)
def register(pipeline: Pipeline, lease: Lease, decision: Decision, prepared: Prepared, served: Fitted, definition: str) -> Champion:
    """Store the model that is to serve as a new version."""
    return store(pipeline, lease, decision, prepared, served, Path(definition))


@task(name="promote", task_run_name="{decision.verdict} {decision.challenger}", cache_policy=NO_CACHE, persist_result=False)
def promote(
    lease: Lease, decision: Decision, candidate: Champion, prepared: Prepared, spending: Spending | None, details: Mapping[str, Any]
) -> Decision:
    """Record the decision on a version that was stored and probed, and make it true."""
    return publish(lease, decision, candidate, prepared, spending, details)
