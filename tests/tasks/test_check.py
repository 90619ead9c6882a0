"""The public contract of a pipeline: the shipped ones keep it, and every way to break it is found with what to change."""

import re
from dataclasses import replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.polars as pa
import polars as pl
import pytest
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from flows import pipelines
from tasks import contract, sample
from tasks.check import RULES, Finding, check
from tasks.spec import Candidate, Gate, Pipeline, Slice

LINEAR = [Candidate("linear", LogisticRegression())]


@pytest.fixture
def toy(home: Path) -> Pipeline:
    return replace(pipelines.get("toy"), candidates=LINEAR, features=one_number)


def failed(pipeline: Pipeline, rows: pl.DataFrame | None = None) -> dict[str, str]:
    """Give the sentence of each rule that did not pass."""
    return {finding.rule: finding.sentence for finding in check(pipeline, rows) if not finding.passed}


def one_number(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]]


def writes_into_its_input(rows: pd.DataFrame) -> pd.DataFrame:
    rows["x"] = rows["x"] * 2
    return rows[["x"]]


def drops_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.loc[rows["x"] > 0, ["x"]]


def sorts_rows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]].sort_values("x")


def forgets_the_index(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]].set_axis(range(1, len(rows) + 1))


def gives_an_array(rows: pd.DataFrame) -> Any:
    return rows[["x"]].to_numpy()


def names_twice(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x", "x"]]


def names_by_number(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]].set_axis([0], axis=1)


def gives_a_moment(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x", "at"]]


def gives_the_target(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]].assign(label=1.0)


def gives_infinity(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]].assign(ratio=1 / (rows["x"] * 0))


def reads_the_target(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]].assign(known=rows["label"] == "yes")


def reads_hindsight(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x", "after"]]


def centres(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]] - rows[["x"]].mean()


def looks_at_the_row_before(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["x"]].assign(before=rows["x"].shift(1))


def depends_on_the_colours_there(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.get_dummies(rows[["x", "colour"]])


def whole_numbers(rows: pd.DataFrame) -> "pd.Series[Any]":
    return rows["x"].round()


def one_too_few(rows: pd.DataFrame) -> Any:
    return (rows["x"] > 0).to_numpy()[1:]


class Centred(ClassifierMixin, BaseEstimator):
    """A classifier that predicts from how a row stands to the mean of its batch."""

    def fit(self, features: pd.DataFrame, target: "pd.Series[Any]") -> "Centred":
        self.classes_ = np.unique(target)
        return self

    def predict(self, features: pd.DataFrame) -> NDArray[Any]:
        return np.asarray(self.predict_proba(features).argmax(axis=1))

    def predict_proba(self, features: pd.DataFrame) -> NDArray[np.float64]:
        chance = 1 / (1 + np.exp(features["x"].mean() - features["x"].to_numpy()))
        return np.column_stack([1 - chance, chance])


class Unsure(Centred):
    """A classifier whose probabilities are not numbers."""

    def predict_proba(self, features: pd.DataFrame) -> NDArray[np.float64]:
        return np.full((len(features), 2), np.nan)


@pytest.mark.parametrize("name", ["bike_sharing", "electricity", "toy", "visitors"])
def test_a_pipeline_that_is_right_passes_every_rule(name: str, home: Path) -> None:
    found = check(pipelines.get(name))
    assert [finding for finding in found if not finding.passed] == []
    assert [finding.rule for finding in found] == [rule.__name__ for rule in RULES]
    assert all(finding.sentence for finding in found)


@pytest.mark.parametrize(
    ("features", "rule", "remedy"),
    [
        (writes_into_its_input, "features_leave_their_input_alone", r"changed its input in \['x'\]; work on rows.assign"),
        (drops_rows, "features_keep_the_rows", r"changed the rows \(200 in, \d+ out\); keep each row and the index"),
        (sorts_rows, "features_keep_the_rows", "keep each row and the index"),
        (forgets_the_index, "features_keep_the_rows", "keep each row and the index"),
        (gives_an_array, "features_keep_the_rows", "gave a ndarray; expected a pandas DataFrame"),
        (names_twice, "features_keep_the_rows", "'x' that is no text or is there twice; name each once"),
        (names_by_number, "features_keep_the_rows", "named 0 that is no text"),
        (gives_a_moment, "features_keep_the_rows", r"'at' as datetime64\[us\]; give a number or text, for example its hour"),
        (gives_the_target, "features_keep_the_rows", "named like the target, 'label'; leave it out"),
        (gives_infinity, "features_keep_the_rows", r"infinite values in \['ratio'\]; guard the division"),
        (reads_the_target, "features_keep_the_rows", "raised KeyError: 'label'. Correct the pipeline's file"),
        (reads_hindsight, "features_keep_the_rows", "raised KeyError: .*after.* Correct the pipeline's file"),
        (centres, "one_row_equals_batch", r"other values in \['x'\] than in the batch; what needs other rows"),
        (looks_at_the_row_before, "one_row_equals_batch", r"other values in \['before'\] than in the batch"),
        (depends_on_the_colours_there, "one_row_equals_batch", r"other columns .*\['colour_(green|red)'.*belongs into a candidate"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_features_that_break_a_rule_are_found_with_what_to_change(features: Any, rule: str, remedy: str, toy: Pipeline) -> None:
    assert re.search(remedy, failed(replace(toy, features=features)).get(rule, ""))


def test_only_the_rule_that_is_broken_fails(toy: Pipeline) -> None:
    broken = replace(toy, features=looks_at_the_row_before, candidates=[Candidate("tree", DecisionTreeClassifier(max_depth=2))])
    assert failed(broken).keys() == {"one_row_equals_batch"}


def test_a_function_without_a_name_of_its_own_cannot_be_found_again(toy: Pipeline) -> None:
    def inner(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[["x"]]

    for features in (inner, lambda rows: rows[["x"]]):
        assert "define it at the top of the file" in failed(replace(toy, features=features))["can_be_imported_by_name"]


def test_an_estimator_whose_class_is_inside_a_function_cannot_be_found_again(toy: Pipeline) -> None:
    class Inner(Centred):
        pass

    assert "Inner" in failed(replace(toy, candidates=[Candidate("inner", Inner())]))["can_be_imported_by_name"]


@pytest.mark.parametrize("function", [lambda features: features * 2, partial(np.multiply, 2)], ids=["lambda", "partial"])
def test_a_function_inside_an_estimator_has_to_be_found_again_too(function: Any, toy: Pipeline) -> None:
    nested = make_pipeline(FunctionTransformer(function), LogisticRegression())
    assert "at the top of the file" in failed(replace(toy, candidates=[Candidate("nested", nested)]))["can_be_imported_by_name"]


@pytest.mark.parametrize(
    ("candidates", "features", "remedy"),
    [
        (LINEAR, None, "'linear' raised ValueError: could not convert string to float.*Does it encode text"),
        (LINEAR, looks_at_the_row_before, "'linear' raised ValueError: Input X contains NaN.*stand missing values"),
        ([Candidate("centred", Centred())], one_number, "'centred' predicts a row differently when it is alone"),
        ([Candidate("unsure", Unsure())], one_number, "'unsure' predicts values that are not finite"),
    ],
    ids=["text", "missing values", "predicts by batch", "predicts NaN"],
)
def test_a_candidate_that_does_not_work_is_named(candidates: list[Candidate], features: Any, remedy: str, toy: Pipeline) -> None:
    broken = replace(toy, candidates=candidates, features=features or pipelines.get("toy").features)
    assert re.search(remedy, failed(broken)["candidates_fit_and_predict"], re.DOTALL)


@pytest.mark.parametrize("metric", ["mae", "auc"])
def test_a_metric_that_cannot_be_computed_lists_those_that_can(metric: str, toy: Pipeline) -> None:
    sentence = failed(replace(toy, gate=Gate(metric=metric)))["gate_can_be_computed"]
    assert f"gate.metric is {metric!r}; for a binary target it may be one of accuracy, " in sentence


def test_a_metric_of_probabilities_needs_candidates_that_give_them(toy: Pipeline) -> None:
    svc = replace(toy, candidates=[*LINEAR, Candidate("svc", SVC())])
    assert "needs probabilities, which ['svc'] do not give; choose another metric or estimator" in failed(svc)["gate_can_be_computed"]
    assert failed(replace(svc, gate=Gate(metric="accuracy"))) == {}


@pytest.mark.parametrize("where", [whole_numbers, one_too_few])
def test_a_slice_that_is_no_mask_is_named(where: Any, toy: Pipeline) -> None:
    sentence = failed(replace(toy, slices=(Slice("odd", where),)))["slices_are_masks"]
    assert re.search("slice 'odd' gives .*; expected one boolean a row", sentence)


def test_what_a_users_function_raises_is_a_finding(toy: Pipeline) -> None:
    def missing(rows: pd.DataFrame) -> Any:
        return rows["nothing"] > 0

    sentence = failed(replace(toy, slices=(Slice("odd", missing),)))["slices_are_masks"]
    assert "it raised KeyError: 'nothing'. Correct the pipeline's file" in sentence


@pytest.mark.parametrize(
    ("value", "remedy"),
    [("many", "not of the column's type"), (99.0, "that the contract refuses: less_than_or_equal_to")],
)
def test_a_value_to_impute_has_to_fit_the_contract(value: Any, remedy: str, toy: Pipeline) -> None:
    assert remedy in failed(replace(toy, impute={"x": value}))["imputed_values_fit"]


class Loose(pa.DataFrameModel):
    """A contract that lets a row's key be missing."""

    at: datetime
    x: float = pa.Field(nullable=True)
    id: str = pa.Field(nullable=True)
    label: str = pa.Field(isin=["yes", "no"])


class Patterned(pa.DataFrameModel):
    """A contract with a rule that made-up rows cannot know."""

    at: datetime
    x: float
    id: str = pa.Field(str_matches=r"^v\d+$")
    label: str = pa.Field(isin=["yes", "no"])


class Taken(pa.DataFrameModel):
    """A contract with a column that predictions have too."""

    at: datetime
    x: float
    p_1: float
    id: str
    label: str = pa.Field(isin=["yes", "no"])


def laid_on(toy: Pipeline, model: Any) -> Pipeline:
    return replace(toy, contract=model, key=("id",), hindsight=(), impute={}, slices=())


def test_a_key_that_may_be_missing_is_found(toy: Pipeline) -> None:
    assert "['id']" in failed(laid_on(toy, Loose))["time_and_key_are_never_missing"]


def test_a_column_that_predictions_have_too_is_found(toy: Pipeline) -> None:
    assert (
        "columns named ['p_1'], as the predictions of candidate 'linear' have" in failed(laid_on(toy, Taken))["candidates_fit_and_predict"]
    )


def test_rows_of_ones_own_are_taken_where_made_up_ones_do_not_do(toy: Pipeline) -> None:
    pipeline = laid_on(toy, Patterned)
    assert "Try it with rows of your own: check(pipeline, rows)" in failed(pipeline)["sample_meets_contract"]
    own = sample.made_up(pipeline).with_columns(id=pl.concat_str(pl.lit("v"), pl.int_range(pl.len()).cast(pl.String)))
    assert failed(pipeline, own) == {}


class Limits(pa.DataFrameModel):
    """Every built-in limit that made-up rows know."""

    whole: int = pa.Field(ge=1, le=7)
    share: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    above: float = pa.Field(gt=0)
    below: float = pa.Field(lt=-5, nullable=True)
    word: str = pa.Field(isin=["a", "b"], nullable=True)
    flag: bool
    day: date
    at: datetime
    same: str = pa.Field(eq="this")
    target: int = pa.Field(isin=[1, 2, 3])


def test_made_up_rows_meet_the_limits_miss_values_only_where_they_may_and_show_every_label(toy: Pipeline) -> None:
    pipeline = replace(toy, contract=Limits, target="target", kind="multiclass", positive=None, key=(), hindsight=(), impute={}, slices=())
    rows = sample.made_up(pipeline)
    assert contract.check(rows.with_row_index("_row"), Limits).is_empty()
    assert {name for name, count in rows.null_count().row(0, named=True).items() if count} == {"below", "word"}
    assert set(rows["target"]) == {1, 2, 3}
    assert rows.equals(sample.made_up(pipeline))


class Numbered(pa.DataFrameModel):
    """Limits that whole numbers, moments and labels have of their own."""

    id: int = pa.Field(unique=True)
    count: int = pa.Field(gt=0)
    between: int = pa.Field(gt=0, lt=2)
    inside: int = pa.Field(in_range={"min_value": 3, "max_value": 6, "include_min": False, "include_max": False})
    at: datetime = pa.Field(ge=datetime(2025, 1, 1))
    until: date = pa.Field(lt=date(2020, 1, 1))
    kind: str


def test_made_up_whole_numbers_moments_and_labels_meet_their_limits(toy: Pipeline) -> None:
    pipeline = replace(toy, contract=Numbered, target="kind", kind="multiclass", positive=None, key=(), hindsight=(), impute={}, slices=())
    rows = sample.made_up(pipeline)
    assert contract.check(rows.with_row_index("_row"), Numbered).is_empty()
    assert rows["kind"].n_unique() == 3


class Holes(pa.DataFrameModel):
    """A contract with a number that may be missing."""

    id: str
    at: datetime
    x: float = pa.Field(nullable=True)
    label: str = pa.Field(isin=["yes", "no"])


def test_candidates_get_the_imputed_values_as_in_a_cycle(toy: Pipeline) -> None:
    assert "Input X contains NaN" in failed(laid_on(toy, Holes))["candidates_fit_and_predict"]
    assert failed(replace(laid_on(toy, Holes), impute={"x": 0.0})) == {}


def test_a_finding_says_which_rule_and_how_it_went(toy: Pipeline) -> None:
    assert check(toy)[0] == Finding("sample_meets_contract", True, "200 made-up rows meet the contract")
