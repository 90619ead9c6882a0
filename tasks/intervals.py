"""Intervals for how much better one model predicts than another on the same rows.

Every bound is one-sided at a level of its own; the interval that is shown is two of them. In this order:

1. Accuracy on independent rows: the exact test of McNemar (Psychometrika 12, 1947), see `mcnemar`.
2. ROC AUC on independent rows: DeLong et al. (Biometrics 44, 1988).
3. All else: the standard error over resampled groups (`tasks.resample`) times Student's t. A percentile of 2,000 resamples says nothing
   at the small levels of an error budget, and undercovers with few groups; t of G - 1 degrees of freedom is what G independent means ask for
   (Cameron & Miller, J. of Human Resources 50, 2015). G is the effective number of groups (Kish), or the groups that hold the rarest class
   where the metric weighs classes. Blocks of time that are like their neighbours widen the error (`tasks.resample.neighbours`). A loss with
   rare, huge values on one side only is still judged too kindly: prefer a bounded metric there.
4. Where fewer than 10 groups are scored otherwise by the two models, or no resample differs from another, there is no spread to go by: the
   bound is what the groups that could differ unseen would make of it (the rule of three, Clopper & Pearson).

Undefined, and None, is everything where the metric is undefined, where there are fewer than 10 groups (below nine degrees of freedom t leans on
the normal shape of so few sums), where a class that the metric weighs is in fewer than 10 groups, or where a figure is not finite.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import beta
from scipy.stats import t as student

from tasks import resample
from tasks.evidence import Difference
from tasks.metrics import Metric, Ranked, score
from tasks.resample import Draws
from tasks.sums import Floats

LEAST_GROUPS = 10

Bounds = tuple[float, float]
Bounding = Callable[[float], Bounds]  # from a one-sided level to the lower and the upper bound


def difference(
    metric: Metric,
    truth: NDArray[Any],
    new: pl.DataFrame,
    old: pl.DataFrame,
    *,
    groups: NDArray[Any] | None,
    confidence: float,
    alpha: float,
) -> Difference:
    """Give how much better `new` predicts than `old` on the same rows, with bounds.

    `groups` labels the rows that may be alike (blocks of time, entities): groups are then the independent draws; None: every row is one.
    `low` and `high` are at `confidence`, two-sided; `proven_low` and `proven_high` each at level `alpha`.
    """
    return differences([metric], truth, new, old, groups=groups, confidence=confidence, alpha=alpha)[metric.name]


def differences(
    metrics: Iterable[Metric],
    truth: NDArray[Any],
    new: pl.DataFrame,
    old: pl.DataFrame,
    *,
    groups: NDArray[Any] | None,
    confidence: float,
    alpha: float,
) -> dict[str, Difference]:
    """Give the `difference` in each metric, all on the same resamples."""
    draws = resample.draws_of(groups, len(truth))
    return {metric.name: _one(metric, truth, new, old, draws, confidence, alpha) for metric in metrics}


def _one(
    metric: Metric, truth: NDArray[Any], new: pl.DataFrame, old: pl.DataFrame, draws: Draws, confidence: float, alpha: float
) -> Difference:
    ours, theirs = score(metric, truth, new), score(metric, truth, old)
    method = method_of(metric, draws)
    if ours is None or theirs is None:
        return Difference(metric.name, None, None, None, confidence, method, alpha)
    improvement = metric.better_by(ours, theirs)
    bounds = _bounding(metric, truth, new, old, draws, improvement)
    (low, high), (proven_low, proven_high) = (_finite(bounds, level) for level in ((1 - confidence) / 2, alpha))
    return Difference(metric.name, improvement, low, high, confidence, method, alpha, proven_low, proven_high)


def _finite(bounds: Bounding | None, level: float) -> tuple[float | None, float | None]:
    low, high = bounds(level) if bounds else (math.nan, math.nan)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def method_of(metric: Metric, draws: Draws) -> str:
    """Say how the bounds are found."""
    if draws.single and metric.name == "accuracy":
        return "exact McNemar test, independent rows"
    what = f"{draws.count:,} independent rows" if draws.single else f"{draws.count:,} groups"
    if isinstance(metric.form, Ranked):
        how = ("DeLong" if draws.single else "DeLong, clustered") if metric.name == "roc_auc" else "infinitesimal jackknife"
        return f"{how}, {what}"
    return f"paired bootstrap ({resample.RESAMPLES:,} resamples), Student's t, {what}"


def _bounding(
    metric: Metric, truth: NDArray[Any], new: pl.DataFrame, old: pl.DataFrame, draws: Draws, improvement: float
) -> Bounding | None:
    """Choose how the bounds are found; None where they are undefined."""
    if draws.single and metric.name == "accuracy":
        gained, lost = discordant(truth, new, old)
        return lambda level: _pair(mcnemar(gained, lost, len(truth), level))
    share, holding = resample.rarest(metric, truth, draws)
    if min(draws.count, holding) < LEAST_GROUPS:
        return None
    apart = draws.holding(resample.scored_otherwise(metric, new, old))
    if apart < LEAST_GROUPS:
        return lambda level: _few(improvement, metric.span, apart, draws.count, share, level)
    error = resample.standard_error(metric, truth, new, old, draws)
    if error <= 1e-10 * abs(improvement):
        return lambda level: _unseen(improvement, metric.span, holding, level)
    freedom = min(draws.effective, holding) - 1
    return lambda level: student_bounds(improvement, error, freedom, level)


def student_bounds(improvement: float, error: float, freedom: float, level: float) -> Bounds:
    """Give the lower and the upper bound, each missed with probability `level`, of a figure with a standard error of so many degrees of freedom."""
    reach = float(student.isf(level, freedom)) * error if freedom > 0 else math.nan
    return improvement - reach, improvement + reach


def _few(improvement: float, span: float, apart: int, count: int, share: float, level: float) -> Bounds:
    """Bound by the share of groups that may be scored otherwise; each moves the metric by `span`, or by more if it holds a rare class."""
    if apart == 0 and math.isinf(span):
        return 0.0, 0.0
    reach = span * min(1.0, float(beta.ppf(1 - level, apart + 1, count - apart)) / share)
    return min(-reach, improvement), max(reach, improvement)


def _unseen(improvement: float, span: float, count: float, level: float) -> Bounds:
    """Bound by groups of another sort than the `count` that all agree: more than 1 - level^(1 / count) of them would have shown up."""
    if improvement == 0 and math.isinf(span):
        return 0.0, 0.0
    hidden = 1 - level ** (1 / count)
    return improvement - hidden * (improvement + span), improvement + hidden * (span - improvement)


def discordant(truth: NDArray[Any], new: pl.DataFrame, old: pl.DataFrame) -> tuple[int, int]:
    """Count the rows that only `new` has right, and those that only `old` has."""
    ours, theirs = (truth == made["predicted"].to_numpy() for made in (new, old))
    return int((ours & ~theirs).sum()), int((~ours & theirs).sum())


def mcnemar(gained: Any, lost: Any, rows: Any, level: float) -> tuple[Floats, Floats]:
    """Bound the difference of two accuracies from the rows that only the one (`gained`) or only the other (`lost`) has right.

    The share of gains among those rows is bounded exactly (Clopper & Pearson, Biometrika 26, 1934), so that the lower bound is above 0 exactly
    when the one-sided exact test of McNemar has p < level. The share of such rows is bounded at the same level, and the end of it is taken
    that draws the bound out: then it holds too where it is held against a margin. Without any such row, the share of them alone is left:
    at most 1 - level^(1 / rows), about -ln(level) / rows (the rule of three), in either direction.

    Takes arrays too, and gives arrays of lower and upper bounds.
    """
    gained, lost = np.asarray(gained, dtype=float), np.asarray(lost, dtype=float)
    low, high = (2 * bound - 1 for bound in clopper_pearson(gained, gained + lost, level))
    fewest, most = clopper_pearson(gained + lost, np.asarray(rows, dtype=float), level)
    return np.where(low > 0, low * fewest, low * most), np.where(high < 0, high * fewest, high * most)


def clopper_pearson(hits: Floats, trials: Floats, level: float) -> tuple[Floats, Floats]:
    """Bound a share from `hits` of `trials`, exactly, from below and from above, each at `level`; 0 and 1 without a trial."""
    low = np.where(hits > 0, beta.ppf(level, np.maximum(hits, 1), trials - hits + 1), 0.0)
    high = np.where(hits < trials, beta.isf(level, hits + 1, np.maximum(trials - hits, 1)), 1.0)
    return low, high


def _pair(bounds: tuple[Floats, Floats]) -> Bounds:
    return float(bounds[0]), float(bounds[1])
