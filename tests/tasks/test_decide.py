"""Deciding: every rule gives a figure and a sentence, and whatever is undefined, missing or raises passes none."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.against import beyond_reach
from tasks.decide import Circumstances, decide, preconditions, sentence_of, twins, verdict_of
from tasks.evidence import Budget, Difference, Evaluation, Rule, Scores
from tasks.records import Champion, Fitted, Prepared, Snapshot
from tasks.spec import Gate

CHAMPION = Champion("p", 7, "models:/m-7", "sha", 3, "old", {}, None, 1, "2026")
GATE = Gate(metric="log_loss", bound=0.6, slice_tolerance=0.05, min_slice_rows=10)
BUDGET = Budget(0.05, "year", "stream", 0.002, 0.01, 0.002, 4, "level 0.002")


def difference(low: float | None, high: float | None = 0.2, gain: float | None = 0.1) -> Difference:
    return Difference("log_loss", gain, low, high, 0.95, "blocks", 0.002, low, None if low is None else high)


def evaluation(*, ours: float | None = 0.4, theirs: float | None = 0.5, low: float | None = 0.02, part: float | None = 0.1) -> Evaluation:
    return Evaluation(
        rows=500,
        first="a",
        last="b",
        challenger=Scores("new", {"log_loss": ours, "accuracy": 0.8}, {"x=1": {"log_loss": 0.4}}),
        champion=Scores("version 7", {"log_loss": theirs}, {"x=1": {"log_loss": 0.4}}),
        baselines=(Scores("majority", {"log_loss": 0.69}),),
        references=(),
        difference=difference(low),
        slice_rows={"x=1": 50, "x=2": 3},
        predictions="",
        slice_differences={"x=1": difference(part if part is None else part - 0.2, part)},
        changed=0.1,
        golden=difference(-0.1, 0.1),
    )


def laid(gate: Gate = GATE, found: Evaluation | None = None, champion: Champion | None = CHAMPION, **facts: Any) -> tuple[Rule, ...]:
    return decide(gate, found or evaluation(), champion, BUDGET if champion else None, Circumstances(**facts))


def failed(found: tuple[Rule, ...]) -> list[str]:
    return [rule.name for rule in found if not rule.passed]


def test_a_challenger_that_meets_every_rule_is_promoted() -> None:
    rules = laid()
    assert [rule.name for rule in rules] == ["defined", "bound", "beats_majority", "too_good", "budget", "beats_champion", "slice_x=1"]
    assert verdict_of(rules) == "promote"
    assert sentence_of("promote", rules, "new", CHAMPION).startswith("Promoted new: log_loss 0.4 against champion 7's 0.5: 0.1 better")


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (evaluation(low=-0.01), "beats_champion"),
        (evaluation(low=0.0), "beats_champion"),
        (evaluation(low=None), "beats_champion"),
        (replace(evaluation(), champion=None, champion_error="its bytes changed"), "beats_champion"),
        (replace(evaluation(), difference=None), "beats_champion"),
        (evaluation(ours=0.61), "bound"),
        (replace(evaluation(), baselines=(Scores("majority", {"log_loss": 0.3}),)), "beats_majority"),
        (replace(evaluation(), baselines=(Scores("majority", {"log_loss": None}),)), "beats_majority"),
        (evaluation(part=-0.06), "slice_x=1"),
        (evaluation(part=None), "slice_x=1"),
        (replace(evaluation(), slice_differences={}), "slice_x=1"),
    ],
)
def test_one_rule_that_is_not_met_keeps_the_champion_and_says_why(found: Evaluation, rule: str) -> None:
    rules = laid(found=found)
    assert rule in failed(rules)
    assert verdict_of(rules) == "keep"
    assert "Champion 7 stays. Not promoted is new: " in sentence_of("keep", rules, "new", CHAMPION)


def test_no_rules_are_no_proof() -> None:
    assert verdict_of(()) == "keep"


def test_the_first_model_needs_absolute_rules_and_baselines_but_no_champion() -> None:
    rules = laid(found=replace(evaluation(), champion=None, difference=None), champion=None)
    assert [rule.name for rule in rules] == ["defined", "bound", "beats_majority", "too_good"]
    assert verdict_of(rules) == "promote"


@pytest.mark.parametrize(
    ("gate", "facts", "rule", "says"),
    [
        (replace(GATE, bounds={"accuracy": 0.9}), {}, "bound_accuracy", "accuracy 0.8 is not at least 0.9"),
        (replace(GATE, bounds={"brier": 0.2}), {}, "bound_brier", "brier undefined is not at most 0.2"),
        (replace(GATE, max_changed=0.05), {}, "changed", "10.0% of the unseen rows are predicted otherwise than by champion 7"),
        (replace(GATE, label_rate=(0.3, 0.7)), {"label_rate": 0.9}, "label_rate", "90.0% of the unseen labels are positive"),
        (replace(GATE, label_rate=(0.3, 0.7)), {}, "label_rate", "undefined of the unseen labels"),
        (
            replace(GATE, max_quarantine_share=0.1),
            {"quarantine_share": 0.5},
            "quarantine_share",
            "50.0% of the rows that came since the last training",
        ),
        (replace(GATE, max_drift=0.2), {"drift": {"a": 0.1, "b": 0.4}}, "drift", "0.400 is the largest drift of a feature (b)"),
        (replace(GATE, max_drift=0.2), {"drift": {"b": 0.1, "a": math.nan}}, "drift", "inf is the largest drift of a feature (a)"),
        (replace(GATE, max_drift=0.2), {"drift": None}, "drift", "undefined is the largest drift"),
        (replace(GATE, max_fit_seconds=1.0), {"fit_seconds": 2.0}, "fit_seconds", "2.0 s were needed for the fit"),
        (replace(GATE, max_fit_seconds=1.0), {"fit_seconds": None}, "fit_seconds", "undefined were needed"),
    ],
)
def test_what_a_gate_asks_beside_scores_is_laid_too(gate: Gate, facts: dict[str, Any], rule: str, says: str) -> None:
    (unmet,) = [found for found in laid(gate, **facts) if not found.passed]
    assert unmet.name == rule
    assert says in unmet.sentence
    assert verdict_of((unmet,)) == "keep"


@pytest.mark.parametrize(
    ("golden", "passed"), [(difference(-0.3, -0.1), False), (difference(None), False), (None, False), (difference(-0.1, 0.1), True)]
)
def test_a_challenger_that_is_proven_worse_on_the_golden_set_is_kept_out(golden: Difference | None, passed: bool) -> None:
    rules = laid(replace(GATE, golden="g.csv"), replace(evaluation(), golden=golden, golden_error="it is gone"))
    assert [rule.passed for rule in rules if rule.name == "golden"] == [passed]


@pytest.mark.parametrize(
    ("default", "low", "high", "verdict"),
    [
        ("keep", -0.1, 0.1, "keep"),
        ("promote", -0.1, 0.1, "promote"),
        ("hold", -0.1, 0.1, "hold"),
        ("promote", -0.2, -0.1, "keep"),
        ("hold", -0.2, -0.1, "keep"),
        ("keep", 0.1, 0.2, "promote"),
        ("promote", None, None, "keep"),
        ("promote", math.nan, math.nan, "keep"),
        ("hold", -math.inf, math.inf, "keep"),
    ],
)
def test_without_evidence_what_the_gate_declares_is_done(default: Any, low: float | None, high: float | None, verdict: str) -> None:
    found = replace(evaluation(), difference=difference(low, high))
    assert verdict_of(laid(replace(GATE, no_evidence=default), found)) == verdict


@pytest.mark.parametrize(("low", "verdict"), [(-0.04, "promote"), (-0.06, "keep")])
def test_non_inferior_asks_only_that_it_is_proven_not_worse_by_more_than_the_margin(low: float, verdict: str) -> None:
    gate = replace(GATE, against="non_inferior", margin=0.05)
    assert verdict_of(laid(gate, evaluation(low=low))) == verdict


def test_a_margin_is_what_the_improvement_has_to_exceed() -> None:
    assert verdict_of(laid(replace(GATE, margin=0.05), evaluation(low=0.04))) == "keep"
    assert verdict_of(laid(replace(GATE, margin=0.05), evaluation(low=0.06))) == "promote"


def test_a_budget_that_is_spent_promotes_nothing() -> None:
    rules = decide(GATE, evaluation(), CHAMPION, replace(BUDGET, allowed=0.0, sentence="all is spent"), Circumstances())
    assert failed(rules) == ["budget"]
    assert failed(decide(GATE, evaluation(), CHAMPION, None, Circumstances())) == ["budget"]


def test_a_score_too_good_to_be_true_is_held_until_a_person_has_looked() -> None:
    rules = laid(found=evaluation(ours=0.001))
    assert verdict_of(rules) == "hold"
    assert "Held is new: 0.14% of the best baseline's error in log_loss is left, less than 1.00%: too good to be true." in sentence_of(
        "hold", rules, "new", CHAMPION
    )
    assert verdict_of(laid(replace(GATE, too_good=None), evaluation(ours=0.001))) == "promote"


def test_a_rule_that_keeps_has_the_last_word_over_one_that_holds() -> None:
    assert verdict_of(laid(found=evaluation(ours=0.001, low=-0.1))) == "keep"


def test_manual_approval_and_a_moved_alias_hold() -> None:
    assert verdict_of(laid(replace(GATE, approval="manual"))) == "hold"
    gate = replace(GATE, moved_alias="hold")
    assert verdict_of(laid(gate, alias="The registry's alias pointed to version 3")) == "hold"
    assert verdict_of(laid(gate)) == "promote"


def test_rules_that_raise_are_rules_that_are_not_met() -> None:
    broken = replace(evaluation(), challenger=None)  # type: ignore[arg-type]
    rules = laid(found=broken)
    assert "the rules on absolute could not be computed: AttributeError" in rules[0].sentence
    assert verdict_of(rules) == "keep"


@pytest.mark.parametrize(("share", "passed"), [(0.1, True), (0.3, False), (None, False)])
def test_the_model_that_serves_may_not_be_far_from_its_tested_twin(share: float | None, passed: bool) -> None:
    rule = twins(GATE, "binary", share, Fitted("new", {}, "", 1000, 1.0, 1))
    assert rule.passed is passed
    assert rule.sentence.startswith("refitted on all 1,000 rows, the model predicts ")


numbers = st.one_of(st.none(), st.floats(-2, 2), st.sampled_from([math.nan, math.inf, -math.inf]))


BARE = Gate(metric="log_loss", beat_baselines=False, too_good=None, slice_tolerance=None)


@given(numbers, numbers, numbers, numbers, numbers, st.sampled_from(["keep", "promote", "hold"]))
def test_nothing_undefined_is_ever_promoted(
    ours: float | None, theirs: float | None, low: float | None, high: float | None, part: float | None, default: Any
) -> None:
    found = replace(evaluation(ours=ours, theirs=theirs, part=part), difference=difference(low, high))
    rules = laid(replace(GATE, no_evidence=default), found)
    undefined = [value is None or not math.isfinite(value) for value in (ours, low, high)]
    if any(undefined) or part is None or math.isnan(part):
        assert verdict_of(rules) == "keep"
    if undefined[0]:
        assert verdict_of(laid(BARE, replace(found, difference=None), None)) == "keep"
    if verdict_of(rules) == "promote" and default == "keep":
        assert low is not None
        assert low > 0
    assert all(rule.sentence for rule in rules)


def prepared(**changes: object) -> Prepared:
    snapshot = Snapshot("uri", 1, 300, None, None, "digest")
    made = Prepared(snapshot, "", "", {}, 250, 250, (0, 1), (0, 1), (0, 1), None, None)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "rule", "says"),
    [
        ({"train": 10}, "training_rows", "10 rows to train on, too few: at least 200 needed"),
        ({"unseen": 0}, "unseen_rows", "0 rows newer than what the champion was trained on, too few"),
        ({"train_classes": (1,), "unseen_classes": (1,)}, "training_classes", "1 classes in the training rows, too few"),
        ({"unseen_classes": (0, 1, 2)}, "known_classes", "but not ['2']"),
    ],
)
def test_what_the_rows_lack_is_said_before_anything_is_trained(changes: dict[str, object], rule: str, says: str) -> None:
    (unmet,) = [found for found in preconditions(Gate(metric="log_loss"), "binary", prepared(**changes)) if not found.passed]
    assert unmet.name == rule
    assert says in unmet.sentence


def test_enough_rows_meet_all_preconditions() -> None:
    assert all(rule.passed for rule in preconditions(Gate(metric="log_loss"), "binary", prepared()))


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"alpha": 0.0}, "Gate.alpha is 0.0"),
        ({"per": 0}, "expected 'year' or a number of decisions"),
        ({"per": "week"}, "expected 'year' or a number of decisions"),
        ({"per": True}, "expected 'year' or a number of decisions"),
        ({"margin": -0.1}, "write against='non_inferior', margin=0.1"),
        ({"against": "non_inferior"}, "needs a margin above 0"),
        ({"against": "better"}, "expected one of 'superior', 'non_inferior'"),
        ({"label_rate": (0.7, 0.3)}, "expected (least, greatest)"),
        ({"bounds": {"log_loss": 0.5}, "bound": 0.6}, "say it once"),
        ({"bound": math.nan}, "expected a finite number"),
        ({"max_drift": 2.0}, "expected a share from 0 to 1"),
        ({"approval": "manual", "no_evidence": "promote"}, "contradict each other"),
        ({"max_latency_ms": 0.0}, "expected more than 0"),
    ],
)
def test_a_gate_that_contradicts_itself_or_has_no_meaning_is_refused(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match="Gate") as found:
        Gate(**{"metric": "log_loss", **declared})
    assert says in str(found.value)


@pytest.mark.parametrize(
    ("declared", "kind", "says"),
    [
        ({"metric": "accuracy", "against": "non_inferior", "margin": 2}, "binary", "gate.margin is 2"),
        ({"metric": "accuracy", "slice_tolerance": 1.0}, "multiclass", "gate.slice_tolerance is 1"),
        ({"metric": "brier", "bound": -0.1}, "binary", "the gate asks for brier of at most -0.1, and no model is better than 0"),
        ({"metric": "mae", "label_rate": (0.1, 0.9)}, "regression", "a regression target has no positive label"),
        ({"metric": "mae", "margin": 200.0, "bound": 0.0}, "regression", None),
        ({"metric": "accuracy", "margin": 0.02, "bound": 1.0}, "binary", None),
    ],
)
def test_a_gate_that_no_model_or_every_model_meets_is_named(declared: dict[str, Any], kind: Any, says: str | None) -> None:
    found = beyond_reach(Gate(**declared), kind)
    assert found is None if says is None else says in (found or "")
