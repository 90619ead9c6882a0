"""Metrics: those of scikit-learn, at any weights of the rows, and undefined where there is nothing to compute."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from tasks.metrics import METRICS, Ranked, score, score_all

unhurried = settings(deadline=None, max_examples=50)
CLASSES = np.array(["a", "b", "c"])


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


def weighted(name: str, truth: np.ndarray, made: pl.DataFrame, weights: np.ndarray) -> float:
    """Compute a metric of sums with a weight for each row, as resampling does."""
    form = METRICS[name].form
    assert not isinstance(form, Ranked)
    return float(form.of(weights @ form.parts(truth, made)))


@unhurried
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_binary_metrics_are_those_of_scikit_learn(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    truth, made = np.r_[0, 1, random.integers(0, 2, rows)], chances(np.round(random.uniform(0.1, 0.9, rows + 2), 1))
    said, p = made["predicted"].to_numpy(), made["p_1"].to_numpy()
    expected = {
        "accuracy": sk.accuracy_score(truth, said),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said),
        "f1": sk.f1_score(truth, said),
        "roc_auc": sk.roc_auc_score(truth, p),
        "average_precision": sk.average_precision_score(truth, p),
        "log_loss": sk.log_loss(truth, p),
        "brier": sk.brier_score_loss(truth, p),
    }
    found = score_all("binary", truth, made)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


@unhurried
@given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_weights_count_rows_as_scikit_learn_counts_them(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    truth, made = np.r_[0, 1, random.integers(0, 2, rows)], chances(random.uniform(size=rows + 2))
    said, p, weights = made["predicted"].to_numpy(), made["p_1"].to_numpy(), np.r_[1, 1, random.integers(0, 4, rows)].astype(float)
    expected = {
        "accuracy": sk.accuracy_score(truth, said, sample_weight=weights),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, said, sample_weight=weights),
        "f1": sk.f1_score(truth, said, sample_weight=weights, zero_division=np.nan),
        "log_loss": sk.log_loss(truth, p, sample_weight=weights),
        "brier": sk.brier_score_loss(truth, p, sample_weight=weights),
    }
    assert {name: weighted(name, truth, made, weights) for name in expected} == pytest.approx(expected, nan_ok=True)


@unhurried
@given(st.integers(0, 2**32 - 1), st.integers(3, 60))
def test_regression_metrics_are_those_of_scikit_learn_at_any_weights(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    truth, said, weights = (
        random.normal(50, 3, rows),
        random.normal(50, 5, rows),
        np.r_[1, 1, random.integers(0, 4, rows - 2)].astype(float),
    )
    made = pl.DataFrame({"predicted": said})
    for counted in (np.ones(rows), weights):
        expected = {
            "mae": sk.mean_absolute_error(truth, said, sample_weight=counted),
            "rmse": math.sqrt(sk.mean_squared_error(truth, said, sample_weight=counted)),
            "r2": sk.r2_score(truth, said, sample_weight=counted),
            "mape": sk.mean_absolute_percentage_error(truth, said, sample_weight=counted),
            "pinball_10": sk.mean_pinball_loss(truth, said, alpha=0.1, sample_weight=counted),
            "pinball_50": sk.mean_pinball_loss(truth, said, alpha=0.5, sample_weight=counted),
            "pinball_90": sk.mean_pinball_loss(truth, said, alpha=0.9, sample_weight=counted),
        }
        assert {name: weighted(name, truth, made, counted) for name in expected} == pytest.approx(expected)
    assert score_all("regression", truth, made) == pytest.approx({name: weighted(name, truth, made, np.ones(rows)) for name in expected})


@unhurried
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_metrics_of_several_classes_are_those_of_scikit_learn(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.r_[CLASSES, random.choice(CLASSES, rows)].astype(object)
    shares = random.dirichlet(np.ones(3), rows + 3)
    said = CLASSES[shares.argmax(axis=1)]
    made = pl.DataFrame({"predicted": said, **{f"p_{name}": shares[:, place] for place, name in enumerate(CLASSES)}})
    expected = {
        "accuracy": sk.accuracy_score(truth.astype(str), said),
        "balanced_accuracy": sk.balanced_accuracy_score(truth.astype(str), said),
        "f1_macro": sk.f1_score(truth.astype(str), said, average="macro"),
        "roc_auc": sk.roc_auc_score(truth.astype(str), shares, multi_class="ovr"),
        "log_loss": sk.log_loss(truth.astype(str), shares),
        "brier": float(((shares - (truth[:, None] == CLASSES)) ** 2).sum(axis=1).mean()),
    }
    assert score_all("multiclass", truth, made) == pytest.approx(expected)


def test_calibration_error_weighs_each_bins_gap_by_its_rows() -> None:
    truth, made = np.array([1, 1, 0, 0, 1]), chances([0.95, 0.91, 0.92, 0.15, 1.0])
    assert score(METRICS["calibration_error"], truth, made) == pytest.approx((abs(3 - 3.78) + 0.15) / 5)


@pytest.mark.parametrize("value", [0.1, 1e9, -3.7])
def test_r2_of_a_constant_truth_is_undefined_whatever_it_is(value: float) -> None:
    assert score(METRICS["r2"], np.full(7, value), pl.DataFrame({"predicted": np.arange(7.0)})) is None


def test_f1_is_undefined_where_no_row_is_positive_or_taken_for_it() -> None:
    assert score(METRICS["f1"], np.zeros(4, dtype=int), chances([0.1] * 4)) is None
    assert score(METRICS["f1"], np.zeros(4, dtype=int), chances([0.9] + [0.1] * 3)) == 0


def test_two_classes_of_three_do_not_make_a_binary_ranking() -> None:
    made = pl.DataFrame({"predicted": ["a", "b", "a"], "p_a": [0.8, 0.1, 0.5], "p_b": [0.2, 0.9, 0.5]})
    assert score(METRICS["roc_auc"], np.array(["a", "b", "c"], dtype=object), made) is None


def test_numbers_too_large_to_square_are_undefined_and_warn_nobody() -> None:
    assert score(METRICS["rmse"], np.array([1.0, 2.0]), pl.DataFrame({"predicted": [1e200, 1.0]})) is None


@pytest.mark.parametrize(("high", "low", "better"), [("roc_auc", 0.7, 0.2), ("pinball_90", 0.7, -0.2)])
def test_better_is_positive_whatever_the_direction(high: str, low: float, better: Any) -> None:
    assert METRICS[high].better_by(low + 0.2, low) == pytest.approx(better)
