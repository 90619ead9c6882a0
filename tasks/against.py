"""The rules that hold a challenger against the champion: the comparison within the error budget, slices, changed predictions, the golden set."""

import math
from collections.abc import Iterable

from tasks.evidence import Budget, Difference, Evaluation, Rule
from tasks.facts import shown
from tasks.metrics import METRICS, Metric
from tasks.records import Champion
from tasks.spec import Gate, Kind


def rules(gate: Gate, metric: Metric, evaluation: Evaluation, champion: Champion, budget: Budget | None) -> Iterable[Rule]:
    """Give all rules that need a champion."""
    yield _budget(budget)
    yield _comparison(gate, metric, evaluation, champion)
    yield from _slices(gate, metric, evaluation, champion)
    if gate.max_changed is not None:
        share = evaluation.changed
        told = "an undefined share" if share is None else f"{share:.1%}"
        sentence = (
            f"{told} of the unseen rows are predicted otherwise than by champion {champion.version}; at most {gate.max_changed:.1%} allowed"
        )
        yield Rule("changed", share is not None and share <= gate.max_changed, share, gate.max_changed, sentence)
    if gate.golden is not None:
        yield _golden(gate, metric, evaluation, champion)


def _budget(budget: Budget | None) -> Rule:
    if budget is None:
        return Rule("budget", False, None, None, "the error budget is not known")
    return Rule("budget", budget.allowed > 0, budget.allowed, 0.0, budget.sentence)


def _comparison(gate: Gate, metric: Metric, evaluation: Evaluation, champion: Champion) -> Rule:
    name, least, found = "beats_champion", gate.margin if gate.against == "superior" else -gate.margin, evaluation.difference
    if evaluation.champion is None or found is None:
        why = f"champion {champion.version} could not be scored, so nothing can be proven against it: {evaluation.champion_error}"
        return Rule(name, False, None, least, why)
    figures = (found.improvement, found.proven_low, found.proven_high, found.alpha)
    if found.improvement is None or found.proven_low is None or found.proven_high is None or not _finite(*figures):
        return Rule(name, False, None, least, f"the difference in {metric.name} to champion {champion.version} cannot be computed")
    ours, theirs = evaluation.challenger.metrics.get(metric.name), evaluation.champion.metrics.get(metric.name)
    told = (
        f"{metric.name} {shown(ours)} against champion {champion.version}'s {shown(theirs)}: {shown(abs(found.improvement))} "
        f"{'better' if found.improvement >= 0 else 'worse'}, between {found.proven_low:+.4g} and {found.proven_high:+.4g} at level {found.alpha:.2g}"
    )
    if found.proven_low > least:
        return Rule(name, True, found.proven_low, least, f"{told}, which is {_asked(gate)}")
    if found.proven_high < least:
        return Rule(name, False, found.proven_low, least, f"{told}, which is proven not to be {_asked(gate)}")
    default = {"keep": "so the champion is kept", "promote": "so it is promoted", "hold": "so a person has to decide"}[gate.no_evidence]
    sentence = f"{told}, which proves neither that it is {_asked(gate)} nor the opposite, {default}"
    return Rule(name, gate.no_evidence == "promote", found.proven_low, least, sentence, holds=gate.no_evidence == "hold")


def _finite(*figures: float | None) -> bool:
    return all(figure is not None and math.isfinite(figure) for figure in figures)


def _asked(gate: Gate) -> str:
    if gate.against == "non_inferior":
        return f"no worse than by {gate.margin:g}"
    return f"better by more than {gate.margin:g}" if gate.margin else "better"


def _slices(gate: Gate, metric: Metric, evaluation: Evaluation, champion: Champion) -> Iterable[Rule]:
    if gate.slice_tolerance is None or evaluation.champion is None:
        return
    for name, rows in evaluation.slice_rows.items():
        if rows >= gate.min_slice_rows:
            yield _slice(gate.slice_tolerance, metric, evaluation.slice_differences.get(name), name, rows, champion)


def _slice(tolerance: float, metric: Metric, found: Difference | None, name: str, rows: int, champion: Champion) -> Rule:
    if found is None or found.improvement is None or found.proven_high is None or found.proven_low is None:
        return Rule(
            f"slice_{name}", False, None, -tolerance, f"on {name} ({rows:,} rows) the difference in {metric.name} cannot be computed"
        )
    passed = found.proven_high >= -tolerance
    sentence = (
        f"on {name} ({rows:,} rows) {metric.name} is {shown(abs(found.improvement))} {'better' if found.improvement >= 0 else 'worse'} "
        f"than champion {champion.version}'s, between {found.proven_low:+.4g} and {found.proven_high:+.4g}: {'not ' if passed else ''}proven worse"
    )
    return Rule(f"slice_{name}", passed, found.proven_high, -tolerance, sentence + (f" by more than {tolerance:g}" if tolerance else ""))


def _golden(gate: Gate, metric: Metric, evaluation: Evaluation, champion: Champion) -> Rule:
    found = evaluation.golden
    if found is None or found.improvement is None or found.proven_high is None:
        return Rule("golden", False, None, -gate.margin, f"the golden set could not be scored: {evaluation.golden_error or 'undefined'}")
    passed = found.proven_high >= -gate.margin
    sentence = (
        f"on the golden set {metric.name} is {shown(abs(found.improvement))} {'better' if found.improvement >= 0 else 'worse'} than champion "
        f"{champion.version}'s: {'not ' if passed else ''}proven worse" + (f" by more than {gate.margin:g}" if gate.margin else "")
    )
    return Rule("golden", passed, found.proven_high, -gate.margin, sentence)


def misnamed(gate: Gate, kind: Kind) -> str | None:
    """Say which metric of a gate does not exist for this kind of target, and which do, or None if all do.

    >>> misnamed(Gate(metric="auc"), "regression")
    "gate.metric is 'auc'; for a regression target it may be one of mae, mape, pinball_10, pinball_50, pinball_90, r2, rmse"
    """
    fitting = sorted(metric.name for metric in METRICS.values() if kind in metric.kinds)
    named = {"gate.metric": gate.metric, **{f"a metric of gate.bounds (number {place})": name for place, name in enumerate(gate.bounds, 1)}}
    wrong = next(((where, name) for where, name in named.items() if name not in fitting), None)
    return wrong and f"{wrong[0]} is {wrong[1]!r}; for a {kind} target it may be one of {', '.join(fitting)}"


def beyond_reach(gate: Gate, kind: Kind) -> str | None:
    """Say what a gate, whose metrics exist, asks for that no model can give, or allows that every model does; None if there is no such thing.

    >>> beyond_reach(Gate(metric="accuracy", margin=2), "binary")
    "gate.margin is 2, but two models' accuracy is never further apart than 1; two points are 0.02"
    >>> beyond_reach(Gate(metric="mae", bounds={"r2": 1.5}), "regression")
    'the gate asks for r2 of at least 1.5, and no model is better than 1'
    """
    for name, bound in {gate.metric: gate.bound, **gate.bounds}.items():
        metric, best = METRICS[name], 1.0 if METRICS[name].higher_is_better else 0.0
        if bound is not None and metric.better_by(bound, best) > 0:
            word = "at least" if metric.higher_is_better else "at most"
            return f"the gate asks for {name} of {word} {bound:g}, and no model is better than {best:g}"
    span = METRICS[gate.metric].span
    for name, distance in (("margin", gate.margin), ("slice_tolerance", gate.slice_tolerance)):
        if distance is not None and distance >= span:
            return f"gate.{name} is {distance:g}, but two models' {gate.metric} is never further apart than {span:g}; two points are 0.02"
    if gate.label_rate is not None and kind != "binary":
        return f"gate.label_rate is {gate.label_rate}, but a {kind} target has no positive label; leave it out"
    return None
