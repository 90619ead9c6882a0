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

from tasks import ranks, sums
from tasks.spec import Kind
from tasks.sums import Floats, Sums, probability_columns

__all__ = ["METRICS", "WEIGH_CLASSES", "Metric", "Ranked", "probability_columns", "score", "score_all"]

_CLASSES: tuple[Kind, ...] = ("binary", "multiclass")
_NUMBERS: tuple[Kind, ...] = ("regression",)
WEIGH_CLASSES = frozenset(
    {"balanced_accuracy", "f1", "f1_macro", "roc_auc", "average_precision"}
)  # a rare class counts for more than its rows


@dataclass(frozen=True)
class Ranked:
    """A metric of ranks, which no sums over rows give: `linear` gives its value and the influence of each row (see `tasks.ranks`)."""

    linear: Callable[[NDArray[Any], pl.DataFrame], tuple[float, Floats]]

    def compute(self, truth: NDArray[Any], predictions: pl.DataFrame) -> float:
        """Compute the metric of all rows."""
        return self.linear(truth, predictions)[0]


@dataclass(frozen=True)
class Metric:
    """A named metric; `needs` is the column of the predictions it is computed from ("predicted", or "p" for probabilities).

    `span` is the greatest possible distance of two scores; infinite where a loss has no limit.
    """

    name: str
    kinds: tuple[Kind, ...]
    higher_is_better: bool
    needs: str
    form: Sums | Ranked
    span: float = math.inf

    def better_by(self, new: float, old: float) -> float:
        """Give how much better `new` is than `old`: positive is better, whatever the direction."""
        return new - old if self.higher_is_better else old - new


def score(metric: Metric, truth: NDArray[Any], predictions: pl.DataFrame) -> float | None:
    """Compute a metric, or give None where it is undefined: no rows, no probabilities, one class only, or anything that is not finite."""
    if len(truth) == 0 or (metric.needs == "p" and not probability_columns(predictions)):
        return None
    if not all(column.is_finite().all() for column in predictions.get_columns() if column.dtype.is_float()):
        return None
    if isinstance(metric.form, Ranked) and len(np.unique(truth)) < 2:
        return None
    value = metric.form.compute(truth, predictions)
    return value if math.isfinite(value) else None


def score_all(kind: Kind, truth: NDArray[Any], predictions: pl.DataFrame) -> dict[str, float | None]:
    """Compute every metric that there is for this kind of target."""
    return {name: score(metric, truth, predictions) for name, metric in METRICS.items() if kind in metric.kinds}


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _CLASSES, True, "predicted", sums.ACCURACY, 1),
        Metric("balanced_accuracy", _CLASSES, True, "predicted", sums.BALANCED_ACCURACY, 1),
        Metric("f1", ("binary",), True, "predicted", sums.F1, 1),
        Metric("f1_macro", ("multiclass",), True, "predicted", sums.F1_MACRO, 1),
        Metric("roc_auc", _CLASSES, True, "p", Ranked(ranks.roc_auc), 1),
        Metric("average_precision", ("binary",), True, "p", Ranked(ranks.average_precision), 1),
        Metric("log_loss", _CLASSES, False, "p", sums.LOG_LOSS, -math.log(1e-15)),
        Metric("brier", _CLASSES, False, "p", sums.BRIER, 2),
        Metric("calibration_error", ("binary",), False, "p", sums.CALIBRATION_ERROR, 1),
        Metric("mae", _NUMBERS, False, "predicted", sums.MAE),
        Metric("rmse", _NUMBERS, False, "predicted", sums.RMSE),
        Metric("r2", _NUMBERS, True, "predicted", sums.R2),
        Metric("mape", _NUMBERS, False, "predicted", sums.MAPE),
        Metric("pinball_10", _NUMBERS, False, "predicted", sums.PINBALL_10),
        Metric("pinball_50", _NUMBERS, False, "predicted", sums.PINBALL_50),
        Metric("pinball_90", _NUMBERS, False, "predicted", sums.PINBALL_90),
    )
}
