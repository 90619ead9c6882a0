"""Resampling: how much a difference of two metrics varies over draws of the rows, where the draws are groups of rows.

`Draws` are the groups: blocks of time, entities, or single rows. Everything here is a pure function of the rows and of a fixed seed.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.metrics import WEIGH_CLASSES, Metric, Ranked
from tasks.sums import Floats, Sums, probability_columns

RESAMPLES = 2_000
MOST_GROUPS = 2_000
SEED = 20_260_101


@dataclass(frozen=True)
class Draws:
    """Rows in groups: `codes` names the group of each row, from 0 to `count` - 1; `single` tells that every row is a draw of its own."""

    codes: NDArray[np.intp]
    count: int
    single: bool

    @cached_property
    def merged(self) -> tuple[NDArray[np.intp], int]:
        """Give codes of at most 2,000 groups: more are put together at random.

        Sums of independent draws, put together at random, are independent draws too, and their sums vary as the single ones do (the method of
        random groups: Wolter, "Introduction to Variance Estimation", 2007, chapter 2). The standard error is then known to 1.6 %.
        """
        if self.count <= MOST_GROUPS:
            return self.codes, self.count
        return np.random.default_rng(SEED).permutation(self.count)[self.codes] % MOST_GROUPS, MOST_GROUPS

    @cached_property
    def counts(self) -> Floats:
        """Give how often each merged group is drawn in each resample (resamples x groups)."""
        return resample_counts(self.merged[1])

    @property
    def effective(self) -> float:
        """Give the number of groups that these are worth, unequal as they are: (sum of sizes)^2 / sum of squares (Kish 1965)."""
        sizes = np.bincount(self.codes, minlength=self.count).astype(float)
        return float(sizes.sum() ** 2 / (sizes**2).sum())

    @property
    def consecutive(self) -> bool:
        """Tell whether the groups follow each other in the order of the rows, as blocks of time do."""
        return not self.single and bool((np.diff(self.codes) >= 0).all())

    def holding(self, rows: NDArray[np.bool_]) -> int:
        """Count the groups that hold at least one of the rows."""
        return len(np.unique(self.codes[rows]))


def draws_of(groups: NDArray[Any] | None, rows: int) -> Draws:
    """Make draws of group labels, or of single rows where there are none."""
    if groups is None:
        return Draws(np.arange(rows), rows, single=True)
    labels, codes = np.unique(groups, return_inverse=True)
    return Draws(codes, len(labels), single=False)


def resample_counts(groups: int, resamples: int = RESAMPLES) -> Floats:
    """Draw as many groups as there are, with replacement, again and again; give how often each was drawn (resamples x groups)."""
    drawn = np.random.default_rng(SEED).integers(groups, size=(resamples, groups))
    places = (drawn + groups * np.arange(resamples)[:, None]).ravel()
    return np.bincount(places, minlength=resamples * groups).reshape(resamples, groups).astype(np.float64)


def standard_error(metric: Metric, truth: NDArray[Any], new: pl.DataFrame, old: pl.DataFrame, draws: Draws) -> float:
    """Give the standard error of how much better `new` is, over draws of the groups; not finite where it is undefined.

    Metrics of sums by the paired bootstrap (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993): both models are scored on the same
    2,000 resamples of the groups. Metrics of ranks by the groups' influences. Groups that follow each other in the rows' order are taken for
    blocks of time, see `neighbours`.
    """
    if isinstance(metric.form, Ranked):
        influence = metric.form.linear(truth, new)[1] - metric.form.linear(truth, old)[1]
        moved, count = _grouped(influence[:, None], draws.codes, draws.count)[:, 0], draws.count
        error = _by_class(truth, influence) if draws.single else float(np.sqrt(count / (count - 1) * (moved**2).sum()))
    else:
        codes, count = draws.merged
        ours, theirs = (_grouped(metric.form.parts(truth, made), codes, count) for made in (new, old))
        error, moved = bootstrap_error(metric.form, ours, theirs, draws.counts), left_out(metric.form, ours, theirs)
    return error * neighbours(moved) if draws.consecutive else error


def bootstrap_error(form: Sums, ours: Floats, theirs: Floats, counts: Floats) -> float:
    """Give the standard deviation over resamples of the difference, from each group's sums (groups x k) and `resample_counts`.

    Times sqrt(G / (G - 1)): a resample of G groups varies about their mean, which lies nearer to them than the truth does.
    """
    groups = counts.shape[1]
    resampled = form.of(counts @ ours) - form.of(counts @ theirs)
    return float(resampled.std(ddof=1) * np.sqrt(groups / (groups - 1))) if np.isfinite(resampled).all() else np.nan


def _grouped(parts: Floats, codes: NDArray[np.intp], count: int) -> Floats:
    return np.column_stack([np.bincount(codes, weights=column, minlength=count) for column in parts.T])


def _by_class(truth: NDArray[Any], influence: Floats) -> float:
    """Give the root of the sum of squares of the rows' influences, each class about a mean of its own, as DeLong et al. do."""
    classes = [influence[truth == label] for label in np.unique(truth)]
    return float(np.sqrt(sum(len(each) / (len(each) - 1) * float((each**2).sum()) for each in classes)))


def left_out(form: Sums, ours: Floats, theirs: Floats) -> Floats:
    """Give how the difference moves with each group: what it is without the group (groups x k sums), about the mean, turned round."""
    without = form.of(ours.sum(axis=0) - ours) - form.of(theirs.sum(axis=0) - theirs)
    return np.asarray(without.mean() - without)


def neighbours(moved: Floats) -> float:
    """Give the factor by which blocks of time that are like their neighbours widen the standard error: sqrt(1 + 2 r), never less than 1.

    r is the correlation of each block's influence with the next one's, plus 1 / G, by which it is underestimated; 2 r is the first term of the
    long-run variance (Newey & West, Econometrica 55, 1987). Without it, losses of autocorrelation 0.5 in 20 blocks of 25 rows miss bounds at
    level 0.001 1.2 times as often as they may, with it 0.8 times (400,000 draws, known to 0.1; `make simulate` plays a year with it). Of
    autocorrelation 0.8 it is 2.3 and 1.4 times; in 20 blocks of 15 rows 3.8 and 2.1 times, in blocks of 50 rows 1.5 times and as often as they may.
    """
    spread = float((moved**2).sum())
    together = float((moved[1:] * moved[:-1]).sum()) / spread if spread else 0.0
    return float(np.sqrt(1 + 2 * max(0.0, together + 1 / len(moved))))


def scored_otherwise(metric: Metric, new: pl.DataFrame, old: pl.DataFrame) -> NDArray[np.bool_]:
    """Tell on which rows the two models give the metric something else to go by."""
    ours, theirs = (["predicted"] if metric.needs == "predicted" else probability_columns(made) for made in (new, old))
    if set(ours) != set(theirs):
        return np.ones(new.height, dtype=bool)
    return np.asarray(np.any([(new[name] != old[name]).fill_null(True).to_numpy() for name in ours], axis=0))


def rarest(metric: Metric, truth: NDArray[Any], draws: Draws) -> tuple[float, float]:
    """Give, of the class that is rarest, its share of the rows and the number of groups that hold it.

    All rows and all groups for a metric that does not weigh classes.
    """
    if metric.name not in WEIGH_CLASSES:
        return 1.0, float(draws.count)
    holding = [(float((truth == label).mean()), float(draws.holding(truth == label))) for label in np.unique(truth)]
    return min(share for share, _ in holding), min(groups for _, groups in holding)
