"""Train: try every setting of every candidate inside the training rows, choose one, and fit it.

The choice is made on the newest part of the training rows, which the trial was not fitted on; the unseen rows are left for one
comparison, that of the chosen challenger with the champion.
"""

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE
from sklearn.base import clone
from sklearn.model_selection import ParameterSampler
from threadpoolctl import threadpool_limits

from tasks import frames, settings
from tasks.metrics import METRICS, Metric, score
from tasks.records import Fitted, Prepared, Trial
from tasks.spec import Candidate, Pipeline
from tasks.stores import tracking

VALIDATION_SHARE = 0.2


def drawn_settings(candidate: Candidate, seed: int) -> list[dict[str, Any]]:
    """Draw the settings to try, without repeats: one of the estimator's own where there is no search.

    >>> from sklearn.linear_model import Ridge
    >>> drawn_settings(Candidate("ridge", Ridge(), {"alpha": [1.0, 2.0]}, trials=5), seed=0)
    [{'alpha': 1.0}, {'alpha': 2.0}]
    """
    if not candidate.search:
        return [{}]
    possible = math.prod(len(values) for values in candidate.search.values())
    return [dict(params) for params in ParameterSampler(candidate.search, min(candidate.trials, possible), random_state=seed)]


def seeded(candidate: Candidate, params: Mapping[str, Any], seed: int) -> Any:
    """Give an unfitted copy with these parameters; every random state that is left open is set to the seed."""
    estimator = clone(candidate.estimator).set_params(**params)
    open_states = {name: seed for name, value in estimator.get_params().items() if name.split("__")[-1] == "random_state" and value is None}
    return estimator.set_params(**open_states)


def validate(pipeline: Pipeline, prepared: Prepared, candidate: Candidate, params: Mapping[str, Any]) -> float | None:
    """Fit on the older training rows and score on the newer ones, by the gate's metric."""
    older = prepared.train - max(1, round(prepared.train * VALIDATION_SHARE))
    model = _fit(seeded(candidate, params, pipeline.seed), *frames.read_staged(prepared, 0, older))
    features, truth = frames.read_staged(prepared, older, prepared.train)
    return score(METRICS[pipeline.gate.metric], truth.to_numpy(), frames.predictions_of(pipeline, model, features))


def _fit(estimator: Any, features: pd.DataFrame, target: "pd.Series[Any]") -> Any:
    with threadpool_limits(settings.read().threads):
        return estimator.fit(features, target)


def best_of(trials: Sequence[Trial], metric: Metric) -> Trial:
    """Give the trial with the best score; the earlier one of equals. An undefined score loses to every other.

    Raises:
        ValueError: if there is no trial.
    """
    worst = -math.inf
    return max(trials, key=lambda trial: worst if trial.score is None else metric.better_by(trial.score, 0.0))


def fit_rows(pipeline: Pipeline, prepared: Prepared, candidate: Candidate, params: Mapping[str, Any], rows: int, into: Path) -> Fitted:
    """Fit a setting on the first `rows` rows and stage the model in `into`."""
    features, target = frames.read_staged(prepared, 0, rows)
    started = time.perf_counter()
    model = _fit(seeded(candidate, params, pipeline.seed), features, target)
    seconds = time.perf_counter() - started
    path = into / f"{candidate.name}-{rows}.joblib"
    joblib.dump(model, path)
    return Fitted(
        candidate=candidate.name,
        params=dict(params),
        uri=str(path),
        rows=rows,
        seconds=seconds,
        threads=settings.read().threads,
    )


@task(name="train", task_run_name="train {candidate.name} #{number}", cache_policy=NO_CACHE, persist_result=False)
def train(pipeline: Pipeline, prepared: Prepared, candidate: Candidate, number: int, params: dict[str, Any], parent: str) -> Trial:
    """Try one setting of a candidate and record it as a run below `parent`."""
    started = time.perf_counter()
    run = tracking.start(
        pipeline.name, f"{candidate.name} #{number}", parent=parent, tags={"candidate": candidate.name, "trial": str(number)}
    )
    with tracking.finished(run):
        result = validate(pipeline, prepared, candidate, params)
        seconds = time.perf_counter() - started
        shown = {
            name: value for name, value in seeded(candidate, params, pipeline.seed).get_params().items() if not hasattr(value, "get_params")
        }
        tracking.log(run, params=shown, metrics={f"validation_{pipeline.gate.metric}": result, "seconds": seconds})
    return Trial(candidate=candidate.name, number=number, params=params, score=result, seconds=seconds, run=run)


@task(name="fit", task_run_name="fit {candidate.name} on {rows} rows", cache_policy=NO_CACHE, persist_result=False)
def fit(pipeline: Pipeline, prepared: Prepared, candidate: Candidate, params: dict[str, Any], rows: int, into: str) -> Fitted:
    """Fit the chosen setting on the first `rows` rows."""
    return fit_rows(pipeline, prepared, candidate, params, rows, Path(into))
