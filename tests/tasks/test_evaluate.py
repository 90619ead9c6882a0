"""Comparing: metrics that know when they are undefined, differences with intervals, and honest baselines."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import pipelines
from tasks.evaluate import constant, difference, lagged
from tasks.feature import split
from tasks.metrics import METRICS, score, score_all
from tasks.spec import Holdout, Pipeline


def chances(values: list[float] | np.ndarray) -> pl.DataFrame:
    values = np.asarray(values, dtype=float)
    return pl.DataFrame({"predicted": (values >= 0.5).astype(int), "p_1": values})


def test_a_metric_that_cannot_be_computed_is_none_and_never_zero() -> None:
    one_class = np.ones(5, dtype=int)
    assert score(METRICS["roc_auc"], one_class, chances([0.1] * 5)) is None
    assert score(METRICS["accuracy"], np.array([], dtype=int), chances([])) is None
    assert score(METRICS["log_loss"], one_class, pl.DataFrame({"predicted": one_class})) is None
    assert score(METRICS["mape"], np.array([0.0, 1.0]), pl.DataFrame({"predicted": [1.0, 1.0]})) is None
    assert score(METRICS["r2"], np.array([2.0, 2.0]), pl.DataFrame({"predicted": [1.0, 1.0]})) is None
    assert score(METRICS["mae"], np.array([1.0, 2.0]), pl.DataFrame({"predicted": [math.nan, 1.0]})) is None
    assert score(METRICS["log_loss"], np.array([0, 1]), chances([math.inf, 0.5])) is None


def test_figures_agree_with_their_definitions() -> None:
    truth, made = np.array([1, 0, 1, 0]), chances([0.9, 0.2, 0.4, 0.6])
    found = score_all("binary", truth, made)
    assert found["accuracy"] == 0.5
    assert found["brier"] == pytest.approx(np.mean([0.01, 0.04, 0.36, 0.36]))
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.8, 0.4, 0.4])))
    assert found["roc_auc"] == 0.75
    errors = score_all("regression", np.array([1.0, 3.0]), pl.DataFrame({"predicted": [2.0, 1.0]}))
    assert (errors["mae"], errors["rmse"]) == (1.5, pytest.approx(math.sqrt(2.5)))


def test_several_classes_have_metrics_too() -> None:
    truth = np.array(["a", "b", "c", "a"])
    made = pl.DataFrame(
        {"predicted": ["a", "b", "a", "a"], "p_a": [0.8, 0.1, 0.5, 0.6], "p_b": [0.1, 0.8, 0.2, 0.2], "p_c": [0.1, 0.1, 0.3, 0.2]}
    )
    found = score_all("multiclass", truth, made)
    assert found["accuracy"] == 0.75
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.8, 0.8, 0.3, 0.6])))
    assert found["roc_auc"] is not None


@given(st.integers(0, 2**32 - 1))
def test_equal_models_differ_by_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    made = chances(random.uniform(size=200))
    found = difference(METRICS["log_loss"], random.integers(0, 2, 200), made, made, 0.95)
    assert (found.improvement, found.low, found.high) == (0, 0, 0)


def test_swapping_the_models_turns_the_interval_round() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 2, 500)
    good, bad = chances(np.clip(truth * 0.4 + random.uniform(0.1, 0.5, 500), 0, 1)), chances(random.uniform(size=500))
    there, back = difference(METRICS["log_loss"], truth, good, bad, 0.9), difference(METRICS["log_loss"], truth, bad, good, 0.9)
    assert there.low is not None
    assert there.low > 0
    assert (there.improvement, there.low, there.high) == pytest.approx((-(back.improvement or 0), -(back.high or 0), -(back.low or 0)))


def test_the_interval_holds_what_it_promises() -> None:
    """Of 400 comparisons of equally good models, about one in twenty leaves zero out, on either side together."""
    random, missed = np.random.default_rng(0), 0
    for _ in range(400):
        truth = random.integers(0, 2, 400)
        ours, theirs = (chances(np.clip(0.5 + (truth - 0.5) * 0.4 + random.normal(0, 0.2, 400), 0.01, 0.99)) for _ in range(2))
        found = difference(METRICS["brier"], truth, ours, theirs, 0.95)
        missed += not (found.low or 0) <= 0 <= (found.high or 0)
    assert 8 <= missed <= 36  # a binomial of 400 and 0.05 is outside with probability 0.001


def test_an_interval_is_undefined_where_the_metric_is_undefined_without_some_block() -> None:
    truth = np.array([1] + [0] * 99)
    found = difference(METRICS["roc_auc"], truth, chances(np.linspace(1, 0, 100)), chances(np.linspace(0, 1, 100)), 0.95)
    assert found.improvement == 1
    assert found.low is None


def test_baselines_know_only_the_past() -> None:
    toy = pipelines_toy()
    target = pl.Series([0, 0, 1, 1, 0, 1, 1, 1])
    flat = constant(toy, target.head(4), 4)
    assert flat["p_1"].to_list() == [0.5] * 4
    last = lagged(toy, target, 4, 1)
    assert last is not None
    assert last["predicted"].to_list() == [1, 0, 1, 1]
    assert last["p_1"].to_list() == pytest.approx([2 / 3, 1 / 2, 2 / 3, 2 / 3])  # 0 was followed by 0, 1; 1 by 1; each count raised by one
    assert lagged(toy, target, 4, 5) is None


def pipelines_toy() -> Pipeline:
    return pipelines.get("visitors")


@given(st.lists(st.integers(0, 20), min_size=2, max_size=40).map(sorted), st.integers(1, 10), st.integers(-1, 21))
def test_no_row_of_the_comparison_is_as_old_as_any_training(order: list[int], rows: int, trained_until: int) -> None:
    parts = split(pl.Series(order), Holdout(rows=rows), trained_until)
    assert parts.train + parts.unseen == len(order)
    unseen = order[parts.train :]
    assert all(value > trained_until for value in unseen)
    assert not unseen or not parts.train or unseen[0] > order[parts.train - 1]
