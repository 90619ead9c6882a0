"""Decide: lay the gate's rules to the evidence. Pure, and it fails closed: what is undefined, missing or raises passes no rule.

A challenger is promoted if every rule passed. If the only ones that did not are such that a person may overrule (`Rule.holds`), it is held.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tasks import against
from tasks.evidence import Budget, Evaluation, Rule, Verdict
from tasks.facts import shown
from tasks.metrics import METRICS, Metric
from tasks.records import Champion, Fitted, Prepared
from tasks.spec import Gate, Kind


@dataclass(frozen=True)
class Circumstances:
    """What the gate judges beside scores: share of positive labels in the unseen rows, share of the rows since the last training in quarantine, drift of each
    feature (0 to 1), seconds of the fit, and what was found wrong with the registry's alias."""

    label_rate: float | None = None
    quarantine_share: float | None = None
    drift: Mapping[str, float] | None = field(default_factory=dict)
    fit_seconds: float | None = None
    alias: str | None = None


def preconditions(gate: Gate, kind: Kind, prepared: Prepared) -> tuple[Rule, ...]:
    """Give the rules that the rows must meet before it makes sense to train at all."""
    rules = [
        _at_least("training_rows", prepared.train, gate.min_train_rows, "rows to train on"),
        _at_least("unseen_rows", prepared.unseen, gate.min_rows, "rows newer than what the champion was trained on"),
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


def decide(gate: Gate, evaluation: Evaluation, champion: Champion | None, budget: Budget | None, facts: Circumstances) -> tuple[Rule, ...]:
    """Lay all rules of the gate that need no stored model; `budget` is the error budget as this comparison found it, None without a champion."""
    metric = METRICS[gate.metric]
    steps: list[Callable[[], Iterable[Rule]]] = [partial(_absolute, gate, metric, evaluation), partial(_data, gate, facts)]
    if gate.too_good is not None:
        steps.append(partial(_too_good, gate.too_good, metric, evaluation))
    if champion is not None:
        steps.append(partial(against.rules, gate, metric, evaluation, champion, budget))
    steps.append(partial(_people, gate, facts))
    return tuple(rule for step in steps for rule in _laid(step))


def _laid(step: Callable[[], Iterable[Rule]]) -> list[Rule]:
    """Give the rules of one step; should computing them fail, that is a rule that is not met."""
    name = getattr(step, "func", step).__name__.strip("_")
    try:
        return list(step())
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        return [Rule(name, False, None, None, f"the rules on {name} could not be computed: {type(error).__name__}: {error}")]


def _absolute(gate: Gate, metric: Metric, evaluation: Evaluation) -> Iterable[Rule]:
    found = evaluation.challenger.metrics
    ours = _known(found.get(metric.name))
    told = f"{metric.name} {'is' if ours is not None else 'cannot be computed, it is not'} defined on the unseen rows"
    yield Rule("defined", ours is not None, ours, None, told)
    if gate.bound is not None:
        yield _bound("bound", metric, ours, gate.bound)
    for name, bound in gate.bounds.items():
        yield _bound(f"bound_{name}", METRICS[name], _known(found.get(name)), bound)
    for other in evaluation.baselines if gate.beat_baselines else ():
        yield _better(metric, f"beats_{other.model}", ours, other.metrics.get(metric.name), other.model)


def _known(figure: float | None) -> float | None:
    """Give a figure, or None if it is none that can be compared."""
    return figure if figure is not None and math.isfinite(figure) else None


def _bound(name: str, metric: Metric, ours: float | None, bound: float) -> Rule:
    passed = ours is not None and metric.better_by(ours, bound) >= 0
    word = "at least" if metric.higher_is_better else "at most"
    return Rule(name, passed, ours, bound, f"{metric.name} {shown(ours)} {'is' if passed else 'is not'} {word} {shown(bound)}")


def _better(metric: Metric, name: str, ours: float | None, theirs: float | None, other: str) -> Rule:
    passed = ours is not None and theirs is not None and metric.better_by(ours, theirs) > 0
    return Rule(
        name, passed, ours, theirs, f"{metric.name} {shown(ours)} {'beats' if passed else 'does not beat'} {other}'s {shown(theirs)}"
    )


def _too_good(share: float, metric: Metric, evaluation: Evaluation) -> Iterable[Rule]:
    """Suspect a leak where next to nothing is left of the best baseline's error."""
    baselines = [_error(metric, value) for other in evaluation.baselines if (value := other.metrics.get(metric.name)) is not None]
    ours = evaluation.challenger.metrics.get(metric.name)
    if ours is None or not baselines or min(baselines) <= 0:
        return
    left = _error(metric, ours) / min(baselines)
    passed = left >= share
    sentence = f"{left:.2%} of the best baseline's error in {metric.name} is left"
    if not passed:
        sentence += (
            f", less than {share:.2%}: too good to be true. Is the answer among the features (a leak), or known only afterwards (hindsight)? "
            "It is held until a person has looked"
        )
    yield Rule("too_good", passed, left, share, sentence, holds=True)


def _error(metric: Metric, value: float) -> float:
    """Give what is missing to a perfect score."""
    return 1.0 - value if metric.higher_is_better else value


def _data(gate: Gate, facts: Circumstances) -> Iterable[Rule]:
    if gate.label_rate is not None:
        low, high = gate.label_rate
        yield _within("label_rate", facts.label_rate, low, high, "of the unseen labels are positive")
    if gate.max_quarantine_share is not None:
        yield _most(
            "quarantine_share",
            facts.quarantine_share,
            gate.max_quarantine_share,
            "of the rows that came since the last training went to quarantine",
            "{:.1%}",
        )
    if gate.max_drift is not None:
        drift = {name: math.inf if math.isnan(figure) else figure for name, figure in (facts.drift or {}).items()}
        worst = max(drift, key=lambda name: drift[name], default=None)
        figure = None if facts.drift is None else drift[worst] if worst is not None else 0.0
        yield _most("drift", figure, gate.max_drift, f"is the largest drift of a feature{f' ({worst})' if worst else ''}", "{:.3f}")
    if gate.max_fit_seconds is not None:
        yield _most("fit_seconds", facts.fit_seconds, gate.max_fit_seconds, "were needed for the fit", "{:.1f} s")


def _within(name: str, figure: float | None, low: float, high: float, what: str) -> Rule:
    passed = figure is not None and low <= figure <= high
    told = "undefined" if figure is None else f"{figure:.1%}"
    return Rule(
        name, passed, figure, low if figure is None or figure < low else high, f"{told} {what}; expected from {low:.1%} to {high:.1%}"
    )


def _most(name: str, figure: float | None, most: float, what: str, form: str) -> Rule:
    told = "undefined" if figure is None else form.format(figure)
    return Rule(name, figure is not None and figure <= most, figure, most, f"{told} {what}; at most {form.format(most)} allowed")


def _people(gate: Gate, facts: Circumstances) -> Iterable[Rule]:
    if gate.moved_alias == "hold":
        yield Rule("alias", facts.alias is None, None, None, facts.alias or "the registry's alias is where the ledger says", holds=True)
    if gate.approval == "manual":
        yield Rule(
            "approval",
            False,
            None,
            None,
            "a person has to approve it: `ratchet approve`, or the waiting run in Prefect (Gate.approval)",
            holds=True,
        )


def verdict_of(rules: Sequence[Rule]) -> Verdict:
    """Give "promote" only if there are rules and every one passed, and "hold" if a person may overrule all that did not."""
    unmet = [rule for rule in rules if not rule.passed]
    if not rules or any(not rule.holds for rule in unmet):
        return "keep"
    return "hold" if unmet else "promote"


def sentence_of(verdict: Verdict, rules: Sequence[Rule], challenger: str | None, champion: Champion | None) -> str:
    """Tell the decision in a sentence a person understands."""
    unmet = "; ".join(rule.sentence for rule in rules if not rule.passed)
    in_service = f"Champion {champion.version} stays" if champion else "There is no champion yet"
    if verdict == "promote":
        return f"Promoted {challenger}: {next((rule.sentence for rule in rules if rule.name == 'beats_champion'), 'the first model, it meets every rule')}."
    return f"{in_service}. {'Held' if verdict == 'hold' else 'Not promoted'} is {challenger}: {unmet}."


def twins(gate: Gate, kind: Kind, share: float | None, served: Fitted) -> Rule:
    """Bound how far the model that is to serve may be from its twin that was tested; `share` of the unseen rows are predicted otherwise."""
    passed = share is not None and share <= gate.max_refit_change
    told = "an undefined share" if share is None else f"{share:.1%}"
    how = "otherwise" if kind != "regression" else "otherwise by more than a tenth of the target's spread"
    sentence = (
        f"refitted on all {served.rows:,} rows, the model predicts {told} of the unseen rows {how} than its tested twin; "
        f"at most {gate.max_refit_change:.1%} allowed"
    )
    return Rule("refit_change", passed, share, gate.max_refit_change, sentence)
