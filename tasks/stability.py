"""Stability: how far the model that is to serve is from its twin that was tested, on the unseen rows."""

import joblib
import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import frames
from tasks.records import Fitted, Prepared
from tasks.spec import Kind, Pipeline

SPREAD = 0.1  # of the target's standard deviation: a smaller change of a predicted number is none


def share_changed(kind: Kind, new: pl.DataFrame, old: pl.DataFrame, truth: pl.Series) -> float | None:
    """Give the share of rows that two frames of predictions answer otherwise: another label, or a number farther off than a tenth of the spread of `truth`.

    None where there is no row, or a prediction is not finite.

    >>> share_changed("binary", pl.DataFrame({"predicted": [0, 1]}), pl.DataFrame({"predicted": [0, 0]}), pl.Series([0, 1]))
    0.5
    """
    if not new.height or new.height != old.height:
        return None
    if kind != "regression":
        return float((new["predicted"] != old["predicted"]).sum() / new.height)
    apart = np.abs(new["predicted"].to_numpy() - old["predicted"].to_numpy())
    spread = float(np.std(truth.to_numpy()))
    return float((apart > SPREAD * spread).mean()) if np.isfinite(apart).all() else None


def compare(pipeline: Pipeline, prepared: Prepared, tested: Fitted, served: Fitted) -> float | None:
    """Give the share of the unseen rows that two fitted models predict otherwise."""
    features, truth = frames.read_staged(prepared, prepared.train, prepared.train + prepared.unseen)
    new, old = (frames.predictions_of(pipeline, joblib.load(model.uri), features) for model in (served, tested))
    return share_changed(pipeline.kind, new, old, pl.Series(truth.to_numpy()))


@task(name="stability", task_run_name="hold {served.candidate} against its tested twin", cache_policy=NO_CACHE, persist_result=False)
def stability(pipeline: Pipeline, prepared: Prepared, tested: Fitted, served: Fitted) -> float | None:
    """Compare the model that is to serve with its tested twin."""
    return compare(pipeline, prepared, tested, served)
