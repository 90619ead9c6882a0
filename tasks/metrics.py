"""The metrics that can be named, each with the kinds of target it is for, its direction, and when it is undefined.

A metric is computed from the truth and a frame of predictions (see `tasks.frames`); where it cannot be computed it is None, never 0.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn import metrics as sk

from tasks.spec import Kind

Compute = Callable[[NDArray[Any], pl.DataFrame], float]
_CLASSES: tuple[Kind, ...] = ("binary", "multiclass")


@dataclass(frozen=True)
class Metric:
    """A named metric; `needs` is the column of the predictions it is computed from ("predicted", or "p" for probabilities)."""

    name: str
    kinds: tuple[Kind, ...]
    higher_is_better: bool
    needs: str
    compute: Compute

    def better_by(self, new: float, old: float) -> float:
        """Give how much better `new` is than `old`: positive is better, whatever the direction."""
        return new - old if self.higher_is_better else old - new


def score(metric: Metric, truth: NDArray[Any], predictions: pl.DataFrame) -> float | None:
    """Compute a metric, or give None where it is undefined: no rows, no probabilities, one class only, or anything that is not finite."""
    if len(truth) == 0 or (metric.needs == "p" and not probability_columns(predictions)):
        return None
    if not all(column.is_finite().all() for column in predictions.get_columns() if column.dtype.is_float()):
        return None
    if metric.name in _NEED_BOTH_CLASSES and len(np.unique(truth)) < 2:
        return None
    value = float(metric.compute(truth, predictions))
    return value if math.isfinite(value) else None


def score_all(kind: Kind, truth: NDArray[Any], predictions: pl.DataFrame) -> dict[str, float | None]:
    """Compute every metric that there is for this kind of target."""
    return {name: score(metric, truth, predictions) for name, metric in METRICS.items() if kind in metric.kinds}


def probability_columns(predictions: pl.DataFrame) -> list[str]:
    """Name the columns with probabilities."""
    return [name for name in predictions.columns if name.startswith("p_")]


def _label(function: Callable[..., float], **options: Any) -> Compute:
    return lambda truth, predictions: function(truth, predictions["predicted"].to_numpy(), **options)


def _value(function: Callable[..., float]) -> Compute:
    return lambda truth, predictions: function(truth, predictions["predicted"].to_numpy())


def _chances(predictions: pl.DataFrame) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Give the class labels, as the truth has them, and the matrix of probabilities (rows x classes)."""
    names = probability_columns(predictions)
    if names == ["p_1"]:
        positive = predictions["p_1"].to_numpy()
        return np.array([0, 1]), np.column_stack([1 - positive, positive])
    return np.array([name.removeprefix("p_") for name in names]), predictions.select(names).to_numpy()


def _roc_auc(truth: NDArray[Any], predictions: pl.DataFrame) -> float:
    labels, chances = _chances(predictions)
    if len(labels) == 2:
        return float(sk.roc_auc_score(truth == labels[1], chances[:, 1]))
    if set(np.unique(truth)) != set(labels):
        return math.nan
    return float(sk.roc_auc_score(truth, chances, multi_class="ovr", labels=labels))


def _average_precision(truth: NDArray[Any], predictions: pl.DataFrame) -> float:
    labels, chances = _chances(predictions)
    return float(sk.average_precision_score(truth == labels[1], chances[:, 1]))


def _log_loss(truth: NDArray[Any], predictions: pl.DataFrame) -> float:
    """Mean of -ln p(true class), p clipped at 1e-15; a class the model never saw has p = 0."""
    labels, chances = _chances(predictions)
    known = truth[:, None] == labels[None, :]
    return float(-np.log(np.clip((chances * known).sum(axis=1), 1e-15, 1)).mean())


def _brier(truth: NDArray[Any], predictions: pl.DataFrame) -> float:
    """Mean squared distance of the positive class's probability (binary), or of all classes' (Brier 1950)."""
    labels, chances = _chances(predictions)
    wrong = (chances - (truth[:, None] == labels[None, :])) ** 2
    return float(wrong[:, 1].mean() if len(labels) == 2 else wrong.sum(axis=1).mean())


def _calibration_error(truth: NDArray[Any], predictions: pl.DataFrame) -> float:
    """Expected calibration error over 10 bins of equal width (Naeini et al., AAAI 2015)."""
    labels, chances = _chances(predictions)
    positive = truth == labels[1]
    bins = np.minimum((chances[:, 1] * 10).astype(int), 9)
    gaps = [abs(positive[bins == place].sum() - chances[bins == place, 1].sum()) for place in range(10)]
    return float(np.sum(gaps) / len(truth))


def _mape(truth: NDArray[Any], predictions: pl.DataFrame) -> float:
    """Mean of |error / truth|; undefined where a true value is 0."""
    if (truth == 0).any():
        return math.nan
    return float(np.abs((predictions["predicted"].to_numpy() - truth) / truth).mean())


def _rmse(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    return math.sqrt(sk.mean_squared_error(truth, predicted))


def _r2(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    return math.nan if len(truth) < 2 or np.ptp(truth) == 0 else float(sk.r2_score(truth, predicted))


_NEED_BOTH_CLASSES = frozenset({"roc_auc", "average_precision"})
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _CLASSES, True, "predicted", _label(sk.accuracy_score)),
        Metric("balanced_accuracy", _CLASSES, True, "predicted", lambda truth, predictions: _recall(truth, predictions)),
        Metric("f1", ("binary",), True, "predicted", _label(sk.f1_score, zero_division=np.nan)),
        Metric("f1_macro", ("multiclass",), True, "predicted", _label(sk.f1_score, average="macro", zero_division=np.nan)),
        Metric("roc_auc", _CLASSES, True, "p", _roc_auc),
        Metric("average_precision", ("binary",), True, "p", _average_precision),
        Metric("log_loss", _CLASSES, False, "p", _log_loss),
        Metric("brier", _CLASSES, False, "p", _brier),
        Metric("calibration_error", ("binary",), False, "p", _calibration_error),
        Metric("mae", ("regression",), False, "predicted", _value(sk.mean_absolute_error)),
        Metric("rmse", ("regression",), False, "predicted", _value(_rmse)),
        Metric("r2", ("regression",), True, "predicted", _value(_r2)),
        Metric("mape", ("regression",), False, "predicted", _mape),
    )
}


def _recall(truth: NDArray[Any], predictions: pl.DataFrame) -> float:
    """Mean recall over the classes that are there."""
    predicted = predictions["predicted"].to_numpy()
    return float(np.mean([(predicted[truth == label] == label).mean() for label in np.unique(truth)]))
