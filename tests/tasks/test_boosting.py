"""Boosting: what is looked up in all trees at once is what scikit-learn finds tree by tree, to the last bit."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from tasks import boosting

WIDTH = 3
RANDOM = np.random.default_rng(7)
# few values of their own, so that a value asked for is often a threshold, and often missing or infinite
LATTICE = np.array([-math.inf, -2.0, -0.5, 0.0, 0.25, 1.0, 3.0, math.inf, math.nan])
TRAINED = np.column_stack([RANDOM.choice(LATTICE, 600), RANDOM.normal(size=600), RANDOM.choice([0.0, 1.0, math.nan], 600)])
SCORE = np.nan_to_num(TRAINED[:, 0], posinf=4, neginf=-4) + TRAINED[:, 1] ** 2 - np.isnan(TRAINED[:, 2])


def fitted(target: Any, kind: Any = HistGradientBoostingClassifier, **options: Any) -> Any:
    return kind(max_iter=12, min_samples_leaf=5, random_state=0, **options).fit(TRAINED, target)


MODELS = {
    "binary": fitted(SCORE > 1),
    "three classes": fitted(np.digitize(SCORE, [0, 2])),
    "nine classes": fitted(np.digitize(SCORE, np.quantile(SCORE, np.linspace(0.1, 0.9, 8)))),
    "regression": fitted(SCORE, HistGradientBoostingRegressor),
    "poisson": fitted(np.abs(SCORE), HistGradientBoostingRegressor, loss="poisson"),
    "stopped early": fitted(SCORE > 1, early_stopping=True, n_iter_no_change=2),
    "64 leaves": fitted(SCORE, HistGradientBoostingRegressor, max_leaf_nodes=64),
    "stumps": fitted(SCORE > 1, max_leaf_nodes=2),
    "leaves alone": HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=400).fit(TRAINED, SCORE > 1),
    "one feature": fitted(SCORE > 1, max_features=0.01),
}
QUICK = {name: boosting.quickened(model) for name, model in MODELS.items()}


def asked(model: Any, rows: Any) -> Any:
    return model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=30)  # scikit-learn's threads wait for each other on a machine that is busy
@given(
    rows=arrays.arrays(
        np.float64, st.tuples(st.integers(1, 5), st.just(WIDTH)), elements=st.one_of(st.sampled_from(LATTICE.tolist()), st.floats())
    )
)
def test_any_rows_are_predicted_to_the_same_bit(name: str, rows: Any) -> None:
    assert np.array_equal(asked(QUICK[name], rows), asked(MODELS[name], rows))


@pytest.mark.parametrize("count", [1, boosting.ROWS - 1, boosting.ROWS, boosting.ROWS + 1, 3 * boosting.ROWS])
@pytest.mark.parametrize("name", MODELS)
def test_many_rows_are_predicted_to_the_same_bit(name: str, count: int) -> None:
    rows = TRAINED[RANDOM.integers(0, len(TRAINED), count)]
    assert np.array_equal(asked(QUICK[name], rows), asked(MODELS[name], rows))
    assert np.array_equal(QUICK[name].predict(np.asfortranarray(rows)), MODELS[name].predict(rows))


def test_the_estimator_itself_stays_as_it_is() -> None:
    model = MODELS["binary"]
    boosting.quickened(model)
    assert "_raw_predict" not in vars(model)


def test_a_boosting_that_encodes_categories_is_left_alone() -> None:
    frame = pd.DataFrame({"shop": pd.Categorical(["a", "b"] * 50), "size": np.arange(100.0)})
    model = HistGradientBoostingClassifier(max_iter=3, categorical_features="from_dtype").fit(frame, np.arange(100) % 3 == 0)
    with pytest.raises(ValueError, match="encodes categories"):
        boosting.quickened(model)


def test_trees_of_more_leaves_than_a_mask_has_bits_are_left_alone() -> None:
    model = fitted(RANDOM.normal(size=600), HistGradientBoostingRegressor, max_leaf_nodes=100)
    assert max(tree.get_n_leaf_nodes() for (tree,) in model._predictors) > boosting.LEAVES
    with pytest.raises(ValueError, match="more than 64 leaves"):
        boosting.quickened(model)


def test_more_trees_than_there_is_room_for_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting, "LARGEST", 1000)
    with pytest.raises(ValueError, match="more than 1,000 bytes"):
        boosting.quickened(MODELS["binary"])


class Clipped(HistGradientBoostingRegressor):
    """A boosting whose sums are its own."""

    def _raw_predict(self, X: Any, n_threads: int | None = None) -> Any:  # noqa: N803
        return np.clip(super()._raw_predict(X, n_threads), -1, 1)


def test_a_boosting_that_adds_its_trees_up_by_itself_is_left_alone() -> None:
    with pytest.raises(ValueError, match="Clipped adds its trees up"):
        boosting.quickened(fitted(SCORE, Clipped))


def test_a_frame_is_predicted_as_well() -> None:
    model = MODELS["regression"]
    assert np.array_equal(boosting.quickened(model).predict(pd.DataFrame(TRAINED)), model.predict(TRAINED))


def test_another_estimator_is_left_alone() -> None:
    with pytest.raises(AttributeError):
        boosting.quickened(LogisticRegression().fit(np.nan_to_num(TRAINED, posinf=9, neginf=-9), SCORE > 1))
