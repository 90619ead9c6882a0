"""Effects: how much a model goes by each of its features, measured on rows that it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import frames, settings
from tasks.metrics import METRICS, score
from tasks.spec import Pipeline

ROWS = 5_000
PREDICTED = 1_000_000  # rows, features and repeats taken together: what bounds the time on a wide frame
TOP = 20


@dataclass(frozen=True)
class Effect:
    """How much worse the gate's metric gets if a feature's values are shuffled: mean and standard deviation over the shuffles."""

    feature: str
    mean: float
    deviation: float


def effects(
    pipeline: Pipeline, model: Any, features: pd.DataFrame, truth: NDArray[Any], *, seed: int = 0, repeats: int = 5
) -> tuple[Effect, ...]:
    """Give the features with the largest effects, at most 20, largest first; none where the metric is undefined.

    Permutation importance (Breiman, "Random forests", Machine Learning 45, 2001; model-agnostic: Fisher et al., JMLR 20, 2019) on at most 5,000
    rows drawn by the seed. Of more than 20 features all are shuffled once, and the 20 that then have the largest effects `repeats` times.
    """
    rows = min(ROWS, len(features), max(1, PREDICTED // max(1, features.shape[1])))
    random = np.random.default_rng(seed)
    drawn = np.sort(random.choice(len(features), rows, replace=False))
    sample, known = features.iloc[drawn].reset_index(drop=True), truth[drawn]
    with threadpool_limits(settings.read().threads):
        first = _measure(pipeline, model, sample, known, list(features.columns), random, 1) if features.shape[1] > TOP else None
        chosen = list(features.columns) if first is None else [effect.feature for effect in first[:TOP]]
        return _measure(pipeline, model, sample, known, chosen, random, repeats)


def _measure(
    pipeline: Pipeline, model: Any, rows: pd.DataFrame, truth: NDArray[Any], names: Sequence[str], random: np.random.Generator, repeats: int
) -> tuple[Effect, ...]:
    metric = METRICS[pipeline.gate.metric]
    whole = score(metric, truth, frames.predictions_of(pipeline, model, rows))
    if whole is None:
        return ()
    whole_rows = pd.concat([rows] * repeats, ignore_index=True)  # one prediction for all shuffles of a feature
    stacked = whole_rows.copy(deep=False)
    found = []
    for name in names:
        order = np.concatenate([random.permutation(len(rows)) for _ in range(repeats)])
        shuffled = rows[name].iloc[order].reset_index(drop=True)
        stacked[name] = shuffled
        made = frames.predictions_of(pipeline, model, stacked)
        stacked[name] = whole_rows[name]
        scores = [score(metric, truth, made.slice(place * len(rows), len(rows))) for place in range(repeats)]
        losses = [metric.better_by(whole, value) for value in scores if value is not None]
        if losses:
            found.append(Effect(name, float(np.mean(losses)), float(np.std(losses, ddof=1)) if len(losses) > 1 else 0.0))
    return tuple(sorted(found, key=lambda effect: (-effect.mean, effect.feature)))
