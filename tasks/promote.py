"""Promote: decide by the gate, and make the decision true.

`decide` is pure and fails closed: a figure that is undefined passes no rule. Publishing has one order: the model is registered, the
ledger records decision and champion in one transaction, then the registry's alias is moved to match; what is left undone by a
crash is done by the next cycle (`settle_effects`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import crash, frames
from tasks.errors import Breakdown, Unreachable
from tasks.evidence import Evaluation, Rule, Verdict
from tasks.metrics import METRICS, Metric
from tasks.records import Champion, Decision, Fitted, Prepared, Registered
from tasks.spec import Gate, Kind, Pipeline
from tasks.stores import events, ledger, models, tracking
from tasks.stores.ledger import Effect, Lease

logger = logging.getLogger(__name__)


def preconditions(gate: Gate, kind: Kind, prepared: Prepared) -> tuple[Rule, ...]:
    """Give the rules that the rows must meet before it makes sense to train at all."""
    rules = [
        _at_least("training_rows", prepared.train, gate.min_train_rows, "rows to train on"),
        _at_least("unseen_rows", prepared.unseen, gate.min_rows, "rows newer than every training"),
    ]
    if kind != "regression":
        rules.append(_at_least("training_classes", len(prepared.train_classes), 2, "classes in the training rows"))
        strange = sorted(set(map(str, prepared.unseen_classes)) - set(map(str, prepared.train_classes)))
        known = f"every class of the unseen rows is in the training rows{f', but not {strange}' if strange else ''}"
        rules.append(Rule("known_classes", not strange, float(len(strange)), 0.0, known))
    return tuple(rules)


def _at_least(name: str, found: int, needed: int, what: str) -> Rule:
    passed = found >= needed
    return Rule(
        name, passed, float(found), float(needed), f"{found:,} {what}, {'enough' if passed else 'too few'}: at least {needed:,} needed"
    )


def decide(gate: Gate, evaluation: Evaluation, champion: Champion | None) -> tuple[Rule, ...]:
    """Lay the gate's rules to an evaluation; the challenger may be promoted if all of them pass."""
    metric = METRICS[gate.metric]
    ours = evaluation.challenger.metrics.get(metric.name)
    rules = [
        Rule(
            "defined",
            ours is not None,
            ours,
            None,
            f"{metric.name} {'is' if ours is not None else 'cannot be computed, it is not'} defined on the unseen rows",
        )
    ]
    if gate.bound is not None:
        rules.append(_bound(metric, ours, gate.bound))
    if gate.beat_baselines:
        rules += [
            _better(metric, f"beats_{other.model}", ours, other.metrics.get(metric.name), other.model) for other in evaluation.baselines
        ]
    if champion is not None:
        rules.append(_against_champion(gate, metric, evaluation, champion))
        rules += _slices(gate, metric, evaluation)
    return tuple(rules)


def _bound(metric: Metric, ours: float | None, bound: float) -> Rule:
    passed = ours is not None and metric.better_by(ours, bound) >= 0
    word = "at least" if metric.higher_is_better else "at most"
    return Rule("bound", passed, ours, bound, f"{metric.name} {shown(ours)} {'is' if passed else 'is not'} {word} {shown(bound)}")


def _better(metric: Metric, name: str, ours: float | None, theirs: float | None, other: str) -> Rule:
    passed = ours is not None and theirs is not None and metric.better_by(ours, theirs) > 0
    return Rule(
        name, passed, ours, theirs, f"{metric.name} {shown(ours)} {'beats' if passed else 'does not beat'} {other}'s {shown(theirs)}"
    )


def _against_champion(gate: Gate, metric: Metric, evaluation: Evaluation, champion: Champion) -> Rule:
    name, found = "beats_champion", evaluation.difference
    if evaluation.champion is None or found is None:
        return Rule(name, False, None, gate.margin, f"champion {champion.version} could not be scored: {evaluation.champion_error}")
    if found.low is None or found.high is None or found.improvement is None:
        return Rule(name, False, None, gate.margin, f"the difference in {metric.name} to champion {champion.version} cannot be computed")
    passed = found.low > gate.margin
    ours, theirs = evaluation.challenger.metrics[metric.name], evaluation.champion.metrics[metric.name]
    interval = f"{found.confidence:.0%} interval [{found.low:+.4g}, {found.high:+.4g}]"
    sentence = (
        f"{metric.name} {shown(ours)} against champion {champion.version}'s {shown(theirs)}: "
        f"{shown(abs(found.improvement))} {'better' if found.improvement >= 0 else 'worse'}, {interval} "
        f"{'lies' if passed else 'does not lie'} above {gate.margin:g}{'' if passed else ', so it is not proven better'}"
    )
    return Rule(name, passed, found.low, gate.margin, sentence)


def _slices(gate: Gate, metric: Metric, evaluation: Evaluation) -> list[Rule]:
    if gate.slice_tolerance is None or evaluation.champion is None:
        return []
    large = [name for name, rows in evaluation.slice_rows.items() if rows >= gate.min_slice_rows]
    return [
        _slice(gate.slice_tolerance, metric, evaluation.challenger.slices[name], evaluation.champion.slices[name], name) for name in large
    ]


def _slice(tolerance: float, metric: Metric, ours: Mapping[str, float | None], theirs: Mapping[str, float | None], name: str) -> Rule:
    new, old = ours[metric.name], theirs[metric.name]
    gain = None if new is None or old is None else metric.better_by(new, old)
    passed = gain is not None and gain >= -tolerance
    sentence = f"on {name} {metric.name} {shown(new)} is {'not ' if passed else ''}worse than the champion's {shown(old)} by more than {tolerance:g}"
    return Rule(f"slice_{name}", passed, gain, -tolerance, sentence)


def shown(value: float | None) -> str:
    """Write a figure for a sentence.

    >>> shown(0.12345), shown(None)
    ('0.1235', 'undefined')
    """
    return "undefined" if value is None else f"{value:.4g}"


def verdict_of(rules: Sequence[Rule]) -> Verdict:
    """Give "promote" only if there are rules and every one passed."""
    return "promote" if rules and all(rule.passed for rule in rules) else "keep"


def sentence_of(verdict: Verdict, rules: Sequence[Rule], challenger: str | None, champion: Champion | None) -> str:
    """Tell the decision in a sentence a person understands."""
    failed = [rule.sentence for rule in rules if not rule.passed]
    in_service = f"Champion {champion.version} stays" if champion else "There is no champion yet"
    if verdict == "promote":
        return f"Promoted {challenger}: {next((rule.sentence for rule in rules if rule.name == 'beats_champion'), 'the first model, it meets every rule')}."
    return f"{in_service}. Not promoted is {challenger}: {'; '.join(failed)}."


def publish(
    pipeline: Pipeline, lease: Lease, decision: Decision, prepared: Prepared, served: Fitted, definition: Path, details: Mapping[str, Any]
) -> Decision:
    """Register the model that is to serve, record decision and champion, then move the alias; `details` are for the report.

    Raises:
        LeaseLost: if the cycle's lease was taken over; the champion is as it was.
        ModelRejected: if the model cannot be stored so that it can be loaded again; the champion is as it was.
        Unreachable: if MLflow does not store it; the champion is as it was.
    """
    estimator = joblib.load(served.uri)
    examples, _ = frames.read_staged(prepared, 0, models.SIGNATURE_ROWS)
    ledger.renew(lease)
    tags = {
        "cycle": str(decision.cycle),
        "candidate": served.candidate,
        "snapshot": str(prepared.snapshot.version),
        "verdict": decision.verdict,
    }
    made = models.register(pipeline.name, estimator, definition, examples, run=decision.mlflow_run or "", tags=tags)
    champion = _crowned(pipeline, decision, prepared, served, made)
    done = replace(decision, champion=made.version, at=ledger.now())
    crash.point("promote.registered")
    try:
        ledger.decide(lease, done, trained_rows=prepared.train, promoted=champion, details=details)
    except Breakdown:  # the version that was made has no decision, and gets none
        retire(pipeline.name)
        raise
    crash.point("promote.decided")
    left = settle_effects(pipeline.name)
    return replace(done, notes=done.notes + left)


def _crowned(pipeline: Pipeline, decision: Decision, prepared: Prepared, served: Fitted, made: Registered) -> Champion:
    return Champion(
        pipeline=pipeline.name,
        version=made.version,
        model_uri=made.model_uri,
        sha256=made.sha256,
        cycle=decision.cycle,
        candidate=served.candidate,
        params=served.params,
        trained_until=prepared.snapshot.last if served.rows == prepared.snapshot.rows else prepared.trained_until,
        trained_version=prepared.snapshot.version,
        since=ledger.now(),
        reason=decision.sentence,
    )


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
        models.point(effect.pipeline, champion.version)
        moved = champion.version
    retire(effect.pipeline)


def retire(pipeline: str) -> None:
    """Mark the versions that never served as orphans.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    models.retire(pipeline, [served.version for served in ledger.champions(pipeline)])


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


def _give_notice(effect: Effect) -> None:
    events.send([events.event(events.DECIDED, effect.pipeline, f"cycle {effect.cycle}", {"cycle": effect.cycle, **effect.payload})])


_EFFECTS: Mapping[str, Callable[[Effect], None]] = {"alias": _move_alias, "notice": _give_notice}


@task(name="promote", task_run_name="promote {decision.challenger}", cache_policy=NO_CACHE, persist_result=False)
def promote(
    pipeline: Pipeline, lease: Lease, decision: Decision, prepared: Prepared, served: Fitted, definition: str, details: Mapping[str, Any]
) -> Decision:
    """Publish the model that the gate let through."""
    return publish(pipeline, lease, decision, prepared, served, Path(definition), details)
