"""Deciding: every rule gives a figure and a sentence, and whatever is undefined passes none."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.evidence import Difference, Evaluation, Rule, Scores
from tasks.promote import decide, preconditions, sentence_of, verdict_of
from tasks.records import Champion, Prepared, Snapshot
from tasks.spec import Gate

CHAMPION = Champion("p", 7, "models:/m-7", "sha", 3, "old", {}, None, 1, "2026")
GATE = Gate(metric="log_loss", bound=0.6, slice_tolerance=0.05, min_slice_rows=10)


def evaluation(*, ours: float | None = 0.4, theirs: float | None = 0.5, low: float | None = 0.02, part: float | None = 0.4) -> Evaluation:
    made = Difference("log_loss", 0.1, low, None if low is None else 0.2, 0.95, "jackknife")
    return Evaluation(
        rows=500,
        first="a",
        last="b",
        challenger=Scores("new", {"log_loss": ours}, {"x=1": {"log_loss": part}}),
        champion=Scores("version 7", {"log_loss": theirs}, {"x=1": {"log_loss": 0.4}}),
        baselines=(Scores("majority", {"log_loss": 0.69}),),
        references=(),
        difference=made,
        slice_rows={"x=1": 50},
        predictions="",
    )


def failed(found: tuple[Rule, ...]) -> list[str]:
    return [rule.name for rule in found if not rule.passed]


def test_a_challenger_that_meets_every_rule_is_promoted() -> None:
    rules = decide(GATE, evaluation(), CHAMPION)
    assert [rule.name for rule in rules] == ["defined", "bound", "beats_majority", "beats_champion", "slice_x=1"]
    assert verdict_of(rules) == "promote"
    assert sentence_of("promote", rules, "new", CHAMPION).startswith("Promoted new: log_loss 0.4 against champion 7's 0.5")


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
        (evaluation(part=0.46), "slice_x=1"),
        (evaluation(part=None), "slice_x=1"),
    ],
)
def test_one_rule_that_is_not_met_keeps_the_champion_and_says_why(found: Evaluation, rule: str) -> None:
    rules = decide(GATE, found, CHAMPION)
    assert rule in failed(rules)
    assert verdict_of(rules) == "keep"
    assert "Champion 7 stays. Not promoted is new: " in sentence_of("keep", rules, "new", CHAMPION)


def test_no_rules_are_no_proof() -> None:
    assert verdict_of(()) == "keep"


def test_the_first_model_needs_absolute_rules_and_baselines_but_no_champion() -> None:
    rules = decide(GATE, replace(evaluation(), champion=None, difference=None), None)
    assert [rule.name for rule in rules] == ["defined", "bound", "beats_majority"]
    assert verdict_of(rules) == "promote"


@given(
    st.sampled_from([None, 0.1, 0.5, 0.9]),
    st.sampled_from([None, 0.5]),
    st.sampled_from([None, -1.0, 0.0, 1e-9, 0.5]),
    st.sampled_from([None, 0.2, 0.9]),
)
def test_nothing_undefined_is_ever_promoted(ours: float | None, theirs: float | None, low: float | None, part: float | None) -> None:
    rules = decide(GATE, evaluation(ours=ours, theirs=theirs, low=low, part=part), CHAMPION) if theirs is not None else ()
    if None in (ours, low, part, theirs):
        assert verdict_of(rules) == "keep"
    assert all(rule.figure is None or math.isfinite(rule.figure) for rule in rules)
    assert all(rule.sentence for rule in rules)


def prepared(**changes: object) -> Prepared:
    snapshot = Snapshot("uri", 1, 300, None, None, "digest")
    made = Prepared(snapshot, "", "", {}, 250, 250, (0, 1), (0, 1), (0, 1), None, None)
    return replace(made, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "rule", "says"),
    [
        ({"train": 10}, "training_rows", "10 rows to train on, too few: at least 200 needed"),
        ({"unseen": 0}, "unseen_rows", "0 rows newer than every training, too few"),
        ({"train_classes": (1,), "unseen_classes": (1,)}, "training_classes", "1 classes in the training rows, too few"),
        ({"unseen_classes": (0, 1, 2)}, "known_classes", "but not \\['2'\\]"),
    ],
)
def test_what_the_rows_lack_is_said_before_anything_is_trained(changes: dict[str, object], rule: str, says: str) -> None:
    (unmet,) = [found for found in preconditions(Gate(metric="log_loss"), "binary", prepared(**changes)) if not found.passed]
    assert unmet.name == rule
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(unmet.sentence)


def test_enough_rows_meet_all_preconditions() -> None:
    assert all(rule.passed for rule in preconditions(Gate(metric="log_loss"), "binary", prepared()))
