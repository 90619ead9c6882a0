"""Effects: a model is seen to go by what it goes by, with noise told apart from nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression

from flows import pipelines
from tasks import effects as module
from tasks.effects import effects
from tasks.spec import Gate, Pipeline


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, home: Any) -> Pipeline:
    return pipelines.get("toy")


def rows(count: int, width: int = 3, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    features = pd.DataFrame(random.normal(size=(count, width)), columns=[f"f{place}" for place in range(width)])
    return features, (2 * features["f0"] + 0.5 * features["f1"] + random.normal(size=count) > 0).to_numpy().astype(int)


def test_the_feature_that_decides_comes_first_and_one_that_says_nothing_is_within_its_noise(toy: Pipeline) -> None:
    features, truth = rows(2000)
    model = LogisticRegression().fit(features, truth)
    found = effects(toy, model, features, truth)
    assert [effect.feature for effect in found] == ["f0", "f1", "f2"]
    assert found[0].mean > found[1].mean > 5 * found[1].deviation
    assert abs(found[2].mean) < 0.005
    assert all(effect.deviation > 0 for effect in found)


def test_it_agrees_with_scikit_learns(toy: Pipeline) -> None:
    features, truth = rows(1500)
    model = RandomForestClassifier(20, min_samples_leaf=20, random_state=0).fit(features, truth)
    theirs = permutation_importance(model, features, truth, scoring="neg_log_loss", n_repeats=20, random_state=1)
    ours = {effect.feature: effect for effect in effects(toy, model, features, truth, repeats=20)}
    for name, mean, deviation in zip(features.columns, theirs.importances_mean, theirs.importances_std, strict=True):
        assert ours[name].mean == pytest.approx(mean, abs=4 * deviation)
        assert ours[name].deviation == pytest.approx(deviation, rel=0.6)


def test_the_same_seed_gives_the_same_and_the_callers_frame_is_left_alone(toy: Pipeline) -> None:
    features, truth = rows(300)
    before = features.copy()
    model = LogisticRegression().fit(features, truth)
    assert effects(toy, model, features, truth, seed=3) == effects(toy, model, features, truth, seed=3)
    assert effects(toy, model, features, truth, seed=3) != effects(toy, model, features, truth, seed=4)
    pd.testing.assert_frame_equal(features, before)


def test_a_wide_frame_costs_a_bounded_number_of_predictions_and_gives_twenty(toy: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    features, truth = rows(6000, width=40)
    features = features.rename(columns={"f39": "self"})  # a name that is an argument's elsewhere
    model = LogisticRegression().fit(features, truth)
    predicted: list[int] = []
    real = module.frames.predictions_of
    monkeypatch.setattr(module.frames, "predictions_of", lambda *given: predicted.append(len(given[2])) or real(*given))
    found = effects(toy, model, features, truth)
    assert len(found) == 20
    assert [effect.feature for effect in found[:2]] == ["f0", "f1"]
    assert max(predicted) == 5 * module.ROWS
    assert sum(predicted) <= module.ROWS * (40 + 2 + 20 * 5)


def test_a_regression_and_missing_values_and_text(toy: Pipeline) -> None:
    features, _ = rows(400)
    truth = (3 * features["f0"]).to_numpy()
    regression = replace(pipelines.get("amounts"), gate=Gate(metric="mae"))
    found = effects(regression, LinearRegression().fit(features, truth), features, truth)
    assert found[0].feature == "f0"
    mixed = pd.DataFrame({"x": features["f0"].where(features["f0"] < 1), "colour": pd.Series(["red", None] * 200, dtype="str")})
    assert {effect.feature for effect in effects(toy, ByColour(), mixed, np.array([1, 0] * 200))} == {"x", "colour"}


class ByColour:
    """A model with a rule of its own, that takes text and missing values."""

    classes_ = (0, 1)

    def predict_proba(self, given: pd.DataFrame) -> np.ndarray:
        assert list(given.columns) == ["x", "colour"]
        red = (given["colour"] == "red").to_numpy().astype(float) * 0.8 + 0.1
        return np.column_stack([1 - red, red])


def test_without_a_metric_there_is_no_effect(toy: Pipeline) -> None:
    features, truth = rows(100)
    model = LogisticRegression().fit(features, truth)
    auc = replace(toy, gate=Gate(metric="roc_auc"))
    assert effects(auc, model, features, np.ones(100, dtype=int)) == ()
