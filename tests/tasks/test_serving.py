"""Serving: the quickest way to the same answers is taken, and an estimator that does not bear it is asked as it was trained."""

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flows import pipelines
from tasks import frames, serving
from tasks.stores.kept import Loaded
from tests.stored import sorts_rows

pytestmark = pytest.mark.usefixtures("home")
ROWS = sorts_rows(400)


class Unusual(Exception):
    """What no library raises."""


class Particular(LogisticRegression):
    """An estimator that takes frames alone."""

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        if not isinstance(X, pd.DataFrame):
            raise Unusual
        return super().predict_proba(X)


class Sharpened(HistGradientBoostingClassifier):
    """A boosting that adds its trees up in a way of its own."""

    def _raw_predict(self, X: Any, n_threads: int | None = None) -> Any:  # noqa: N803
        return 2 * super()._raw_predict(X, n_threads)


def loaded(estimator: Any) -> Loaded:
    pipeline = pipelines.get("sorts")
    raw = ROWS.select(frames.known_in_time(pipeline))
    features = frames.apply_features(pipeline.features, frames.to_pandas(raw), pipeline.name)
    fitted = estimator.fit(features, frames.target_of(pipeline, ROWS).to_numpy())
    return Loaded(fitted, pipeline, {name: str(dtype) for name, dtype in features.dtypes.items()}, raw.head(12))


by_name = make_pipeline(make_column_transformer((StandardScaler(), ["width"]), remainder="drop"), LogisticRegression())


@pytest.mark.parametrize(
    ("estimator", "way"),
    [
        (HistGradientBoostingClassifier(max_iter=10), "trees at once"),
        (Sharpened(max_iter=10), "matrix"),
        (LogisticRegression(), "matrix"),
        (Particular(), "frame"),
        (by_name, "frame"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_quickest_way_to_the_same_answers_is_taken(estimator: Any, way: str) -> None:
    model = loaded(estimator)
    ready = serving.answerer(model, model.golden)
    taken = "frame" if ready.bare is None else "trees at once" if "_raw_predict" in vars(ready.bare.estimator) else "matrix"
    assert taken == way
    rows = ready.admission.examine(ROWS)
    expected = serving.predict(model, ROWS)
    assert all(np.array_equal(values, expected[name].to_numpy()) for name, values in ready.answer(rows).items())


def test_without_rows_to_try_it_on_a_model_is_asked_as_it_was_trained() -> None:
    assert serving.answerer(loaded(HistGradientBoostingClassifier(max_iter=5)), pl.DataFrame()).bare is None
