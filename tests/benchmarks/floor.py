"""The floor: a bare scikit-learn script that does the same work on the same rows with the same candidates, and nothing else.

`python -m tests.benchmarks.floor PIPELINE DIRECTORY OUT`: read the directory's files, refuse what breaks the ranges, drop repeats, order by time,
make the features, try every setting on the newest fifth of the training rows, fit the best on all of them, score it with the baseline
on the holdout, refit on everything, and dump that. The pipeline's file gives features and candidates; nothing else of Ratchet is used.
"""

import importlib
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)
from sklearn.model_selection import ParameterSampler
from threadpoolctl import threadpool_limits

STARTED = time.process_time()


def read(directory: Path) -> pd.DataFrame:
    """Read every file of the directory into one frame."""
    parts = [pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path) for path in sorted(directory.iterdir())]
    return pd.concat(parts, ignore_index=True)


def sound(rows: pd.DataFrame, pipeline: Any) -> pd.DataFrame:
    """Keep the rows within the contract's ranges, checked by hand, once each, in order of time."""
    rows[pipeline.time] = pd.to_datetime(rows[pipeline.time])
    good = np.ones(len(rows), dtype=bool)
    for name in rows.select_dtypes("number"):
        values = rows[name].to_numpy()
        good &= np.isfinite(values) & (values >= -1e9) & (values <= 1e9)
    return rows[good].drop_duplicates(list(pipeline.key) or None).sort_values(pipeline.time, kind="stable", ignore_index=True)


def tried(pipeline: Any, features: pd.DataFrame, target: np.ndarray) -> Any:
    """Fit every setting of every candidate on the older rows, and give the one with the least log loss on the newer."""
    older = len(features) - max(1, round(len(features) * 0.2))
    best: tuple[float, Any] = (math.inf, None)
    for candidate in pipeline.candidates:
        size = math.prod(len(values) for values in candidate.search.values())
        settings = (
            list(ParameterSampler(candidate.search, min(candidate.trials, size), random_state=pipeline.seed)) if candidate.search else [{}]
        )
        for params in settings:
            model = clone(candidate.estimator).set_params(**params).fit(features[:older], target[:older])
            loss = log_loss(target[older:], model.predict_proba(features[older:])[:, 1])
            best = min(best, (loss, clone(candidate.estimator).set_params(**params)), key=lambda pair: pair[0])
    return best[1]


def scores(truth: np.ndarray, chance: np.ndarray) -> dict[str, float]:
    """Score probabilities by the usual metrics."""
    label = chance >= 0.5
    found = {metric.__name__: float(metric(truth, label)) for metric in (accuracy_score, balanced_accuracy_score, f1_score)}
    return found | {
        metric.__name__: float(metric(truth, chance)) for metric in (roc_auc_score, average_precision_score, log_loss, brier_score_loss)
    }


def main(name: str, directory: str, out: str) -> None:
    """Do all of it."""
    import flows.pipelines

    flows.pipelines.__path__.append(os.environ.get("RATCHET_PIPELINES", "."))
    pipeline = importlib.import_module(name).PIPELINE
    rows = sound(read(Path(directory)), pipeline)
    features = pipeline.features(rows.drop(columns=[pipeline.target, *pipeline.hindsight])).astype("float64")
    target = (rows[pipeline.target] == pipeline.positive).to_numpy().astype(int)
    cut = int((rows[pipeline.time] <= rows[pipeline.time].iloc[-1] - pipeline.holdout.span).sum())
    with threadpool_limits(1):
        chosen = tried(pipeline, features[:cut], target[:cut])
        fitted = clone(chosen).fit(features[:cut], target[:cut])
        shown = {
            "model": scores(target[cut:], fitted.predict_proba(features[cut:])[:, 1]),
            "training": scores(target[:cut], fitted.predict_proba(features[:cut])[:, 1]),
            "majority": scores(
                target[cut:], DummyClassifier(strategy="prior").fit(features[:cut], target[:cut]).predict_proba(features[cut:])[:, 1]
            ),
        }
        joblib.dump(clone(chosen).fit(features, target), out)
    print(shown["model"], f"work {time.process_time() - STARTED:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
