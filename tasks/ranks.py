"""Metrics of ranks, ROC AUC and average precision, each with its influence function: what one row's weight moves.

The influence of row i is the derivative of the metric in that row's weight; influences sum to 0. Their sums over independent groups give
the metric's variance (the infinitesimal jackknife: Efron, "The Jackknife, the Bootstrap and Other Resampling Plans", 1982, chapter 6).
For ROC AUC they are the placements of DeLong et al. (Biometrics 44, 1988), and sums over clusters are Obuchowski's form (Biometrics 53, 1997).
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.sums import Floats, chances_of


def roc_auc(truth: NDArray[Any], predictions: pl.DataFrame) -> tuple[float, Floats]:
    """Compute ROC AUC and the influence of each row; of several classes the plain mean of one class against the rest.

    NaN where a class is missing from the truth, or has no probability.
    """
    labels, chances = chances_of(predictions)
    if set(np.unique(truth)) != set(labels):
        return np.nan, np.full(len(truth), np.nan)
    if len(labels) == 2:
        return _auc(truth == labels[1], chances[:, 1])
    each = [_auc(truth == label, chances[:, place]) for place, label in enumerate(labels)]
    return float(np.mean([value for value, _ in each])), np.mean([influence for _, influence in each], axis=0)


def average_precision(truth: NDArray[Any], predictions: pl.DataFrame) -> tuple[float, Floats]:
    """Compute average precision (mean over the positives of the precision at their score) and the influence of each row."""
    labels, chances = chances_of(predictions)
    positive = truth == labels[1]
    level, ours, everything = _levels(positive, chances[:, 1])
    count = ours.sum()
    with np.errstate(all="ignore"):
        above, hits = _from_top(everything), _from_top(ours)
        precision = hits / above
        value = float((ours * precision).sum() / count)
        # a row changes the precision at every positive that is scored no higher than it
        through = np.where(positive, np.cumsum(ours / above)[level], 0.0) - np.cumsum(ours * hits / above**2)[level]
        return value, np.asarray((positive * (precision[level] - value) + through) / count)


def _auc(positive: NDArray[np.bool_], chance: Floats) -> tuple[float, Floats]:
    """Mean over pairs of 1 where the positive is scored higher and 1/2 where equal, by midranks in O(n log n) (Sun & Xu, IEEE SPL 21, 2014)."""
    level, ours, everything = _levels(positive, chance)
    others = everything - ours
    with np.errstate(all="ignore"):
        beaten = (np.cumsum(others) - others / 2) / others.sum()  # of a positive at this level: share of negatives below it
        beaten_by = (_from_top(ours) - ours / 2) / ours.sum()  # of a negative: share of positives above it
        value = float((ours * beaten).sum() / ours.sum())
        places = np.where(positive, (beaten[level] - value) / ours.sum(), (beaten_by[level] - value) / others.sum())
    return value, places


def _levels(positive: NDArray[np.bool_], chance: Floats) -> tuple[NDArray[np.intp], Floats, Floats]:
    """Give the level (0: lowest score) of each row, and how many positives and how many rows have each level."""
    _, level = np.unique(chance, return_inverse=True)
    size = int(level.max()) + 1 if len(level) else 0
    return level, np.bincount(level[positive], minlength=size).astype(np.float64), np.bincount(level, minlength=size).astype(np.float64)


def _from_top(counts: Floats) -> Floats:
    return np.asarray(np.cumsum(counts[::-1])[::-1])
