"""How sure one model's score is: the interval of a metric on rows that are a sample of those to come.

The standard error over groups of rows, as for differences of two models (`tasks.intervals`), times Student's t: metrics of sums by resampling the
groups, metrics of ranks by their influences. Accuracy on independent rows has the exact interval of Clopper & Pearson (Biometrika 26, 1934).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import resample
from tasks.intervals import LEAST_GROUPS, clopper_pearson, student_bounds
from tasks.metrics import Metric, Ranked, score
from tasks.resample import Draws, draws_of
from tasks.sums import Floats, right


@dataclass(frozen=True)
class Estimate:
    """A metric with the ends of its two-sided interval; None is what cannot be computed, as an interval from fewer than 10 groups."""

    value: float | None
    low: float | None
    high: float | None


def estimate(metric: Metric, truth: NDArray[Any], predictions: pl.DataFrame, groups: NDArray[Any] | None, confidence: float) -> Estimate:
    """Score predictions, with an interval at `confidence`; rows of the same group may be alike, None: every row is a draw of its own."""
    value = score(metric, truth, predictions)
    if value is None:
        return Estimate(None, None, None)
    draws, level = draws_of(groups, len(truth)), (1 - confidence) / 2
    if metric.name == "accuracy" and draws.single:
        hits = np.asarray(right(truth, predictions).sum())
        low, high = (float(bound) for bound in clopper_pearson(hits, np.asarray(float(len(truth))), level))
        return Estimate(value, low, high)
    _, holding = resample.rarest(metric, truth, draws)
    if min(draws.count, holding) < LEAST_GROUPS:
        return Estimate(value, None, None)
    error = standard_error(metric, truth, predictions, draws)
    low, high = student_bounds(value, error, min(draws.effective, holding) - 1, level)
    alike = error <= 1e-10 * abs(value)  # rows that are all alike show no spread to go by
    return Estimate(value, low, high) if math.isfinite(low) and math.isfinite(high) and not alike else Estimate(value, None, None)


def standard_error(metric: Metric, truth: NDArray[Any], predictions: pl.DataFrame, draws: Draws) -> float:
    """Give the standard error of the metric over draws of the groups; not finite where it is undefined."""
    if isinstance(metric.form, Ranked):
        codes, count = draws.codes, draws.count
        influence = metric.form.linear(truth, predictions)[1]
        moved = np.bincount(codes, weights=influence, minlength=count).astype(np.float64)
        error = float(np.sqrt(count / (count - 1) * (moved**2).sum()))
    else:
        codes, count = draws.merged
        sums: Floats = np.column_stack(
            [np.bincount(codes, weights=part, minlength=count) for part in metric.form.parts(truth, predictions).T]
        )
        resampled, without = metric.form.of(draws.counts @ sums), metric.form.of(sums.sum(axis=0) - sums)
        error, moved = float(resampled.std(ddof=1) * np.sqrt(count / (count - 1))), without.mean() - without
    return error * resample.neighbours(moved) if draws.consecutive else error
