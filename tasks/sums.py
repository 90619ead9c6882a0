"""Metrics that follow from sums over rows: a few figures for each row, and the metric as a function of their totals.

Written so, a metric of any weighting of the rows costs one product of matrices, which is what resampling needs (see `tasks.intervals`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10  # of the calibration error


@dataclass(frozen=True)
class Sums:
    """A metric by sums: `parts` gives the figures of each row (rows x k), `value` the metric of totals (... x k -> ...), NaN where undefined."""

    parts: Callable[[NDArray[Any], pl.DataFrame], Floats]
    value: Callable[[Floats], Floats]

    def of(self, totals: Floats) -> Floats:
        """Compute the metric of totals (... x k); what is undefined is not finite."""
        with np.errstate(all="ignore"):
            return self.value(totals)

    def compute(self, truth: NDArray[Any], predictions: pl.DataFrame) -> float:
        """Compute the metric of all rows."""
        with np.errstate(all="ignore"):
            return float(self.of(self.parts(truth, predictions).sum(axis=0)))


def probability_columns(predictions: pl.DataFrame) -> list[str]:
    """Name the columns with probabilities."""
    return [name for name in predictions.columns if name.startswith("p_")]


def chances_of(predictions: pl.DataFrame) -> tuple[NDArray[Any], Floats]:
    """Give the class labels, as the truth has them, and the matrix of probabilities (rows x classes)."""
    names = probability_columns(predictions)
    if names == ["p_1"]:
        positive = predictions["p_1"].to_numpy()
        return np.array([0, 1]), np.column_stack([1 - positive, positive])
    return np.array([name.removeprefix("p_") for name in names]), predictions.select(names).to_numpy()


def mean_of(losses: Callable[[NDArray[Any], pl.DataFrame], Floats]) -> Sums:
    """Make the metric that is the mean of a figure of each row."""
    return Sums(lambda truth, predictions: _counted(losses(truth, predictions)), lambda totals: totals[..., 0] / totals[..., 1])


def _counted(losses: Floats) -> Floats:
    return np.column_stack([losses, np.ones(len(losses))])


def right(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    """Tell which labels are right (1.0) or wrong (0.0)."""
    return np.asarray(truth == predictions["predicted"].to_numpy(), dtype=np.float64)


def log_losses(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    """Give -ln p(true class), p clipped at 1e-15; a class the model never saw has p = 0."""
    labels, chances = chances_of(predictions)
    known = truth[:, None] == labels[None, :]
    return np.asarray(-np.log(np.clip((chances * known).sum(axis=1), 1e-15, 1)))


def brier_losses(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    """Give the squared distance of the positive class's probability (binary), or of all classes' (Brier 1950)."""
    labels, chances = chances_of(predictions)
    wrong = (chances - (truth[:, None] == labels[None, :])) ** 2
    return np.asarray(wrong[:, 1] if len(labels) == 2 else wrong.sum(axis=1))


def _errors(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    return np.asarray(truth - predictions["predicted"].to_numpy(), dtype=np.float64)


def _pinball(quantile: float) -> Sums:
    def losses(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
        error = _errors(truth, predictions)
        return np.maximum(quantile * error, (quantile - 1) * error)

    return mean_of(losses)


def _recall_parts(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    there = np.asarray(truth[:, None] == np.unique(truth)[None, :], dtype=np.float64)
    return np.column_stack([there * right(truth, predictions)[:, None], there])


def _recall(totals: Floats) -> Floats:
    """Mean recall over the classes that are there."""
    classes = totals.shape[-1] // 2
    return np.asarray(np.nanmean(totals[..., :classes] / totals[..., classes:], axis=-1))


def _confusion(truth: NDArray[Any], predicted: NDArray[Any], labels: NDArray[Any]) -> Floats:
    """Count true positives, and the sum of false positives and false negatives, of each label (rows x 2 labels)."""
    true, said = truth[:, None] == labels[None, :], predicted[:, None] == labels[None, :]
    return np.column_stack([true & said, true ^ said]).astype(np.float64)


def _f1_parts(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    return _confusion(truth, predictions["predicted"].to_numpy(), np.array([1]))


def _f1_macro_parts(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    predicted = predictions["predicted"].to_numpy()
    return _confusion(truth, predicted, np.union1d(truth, predicted))


def _f1(totals: Floats) -> Floats:
    """Mean of 2 TP / (2 TP + FP + FN) over the labels that are there or were predicted; NaN if there is none."""
    labels = totals.shape[-1] // 2
    hits, misses = totals[..., :labels], totals[..., labels:]
    scored = 2 * hits + misses > 0
    each = np.where(scored, 2 * hits / (2 * hits + misses), 0.0)
    return np.asarray(each.sum(axis=-1) / scored.sum(axis=-1))


def _calibration_parts(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    labels, chances = chances_of(predictions)
    bins = np.minimum((chances[:, 1] * BINS).astype(int), BINS - 1)
    gaps = np.zeros((len(truth), BINS))
    gaps[np.arange(len(truth)), bins] = (truth == labels[1]) - chances[:, 1]
    return np.column_stack([gaps, np.ones(len(truth))])


def _calibration_error(totals: Floats) -> Floats:
    """Expected calibration error over 10 bins of equal width (Naeini et al., AAAI 2015)."""
    return np.asarray(np.abs(totals[..., :BINS]).sum(axis=-1) / totals[..., BINS])


def _r2_parts(truth: NDArray[Any], predictions: pl.DataFrame) -> Floats:
    about = truth - np.median(truth)  # so that the spread is exactly 0 where all are equal, and no digits are lost where it is not
    return np.column_stack([_errors(truth, predictions) ** 2, about, about**2, np.ones(len(truth))])


def _r2(totals: Floats) -> Floats:
    wrong, total, square, rows = np.moveaxis(totals, -1, 0)
    return np.asarray(1 - wrong / (square - total**2 / rows))


ACCURACY = mean_of(right)
BALANCED_ACCURACY = Sums(_recall_parts, _recall)
F1 = Sums(_f1_parts, _f1)
F1_MACRO = Sums(_f1_macro_parts, _f1)
LOG_LOSS = mean_of(log_losses)
BRIER = mean_of(brier_losses)
CALIBRATION_ERROR = Sums(_calibration_parts, _calibration_error)
MAE = mean_of(lambda truth, predictions: np.abs(_errors(truth, predictions)))
RMSE = Sums(lambda truth, predictions: _counted(_errors(truth, predictions) ** 2), lambda totals: np.sqrt(totals[..., 0] / totals[..., 1]))
R2 = Sums(_r2_parts, _r2)
MAPE = mean_of(lambda truth, predictions: np.abs(_errors(truth, predictions) / truth))  # a true value of 0 makes it infinite: undefined
PINBALL_10, PINBALL_50, PINBALL_90 = _pinball(0.1), _pinball(0.5), _pinball(0.9)
