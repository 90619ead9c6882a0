"""Stability: how far the model that is to serve is from its twin that was tested, on the unseen rows."""

import joblib
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import frames
from tasks.records import Fitted, Prepared
from tasks.spec import Pipeline


def compare(pipeline: Pipeline, prepared: Prepared, tested: Fitted, served: Fitted) -> float | None:
    """Give the share of the unseen rows that two fitted models predict otherwise (see `frames.changed`)."""
    features, truth = frames.read_staged(prepared, prepared.train, prepared.train + prepared.unseen)
    new, old = (frames.predictions_of(pipeline, joblib.load(model.uri), features) for model in (served, tested))
    return frames.changed(pipeline, truth.to_numpy(), new, old)


@task(name="stability", task_run_name="hold {served.candidate} against its tested twin", cache_policy=NO_CACHE, persist_result=False)
def stability(pipeline: Pipeline, prepared: Prepared, tested: Fitted, served: Fitted) -> float | None:
    """Compare the model that is to serve with its tested twin."""
    return compare(pipeline, prepared, tested, served)
