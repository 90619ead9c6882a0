"""Serving: what happens to raw rows between a request and its answer, the same in every process that serves."""

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray

from tasks import boosting, contract, frames
from tasks.admission import Admission, Admitted
from tasks.errors import UserError
from tasks.spec import Pipeline

_NAMES = {np.dtype("float64"): "float64"}  # the name of a dtype takes a microsecond to make


class Model(Protocol):
    """A fitted estimator with the definition that it was made with; `columns` are its features and their dtypes."""

    @property
    def estimator(self) -> Any:
        """What was fitted."""

    @property
    def pipeline(self) -> Pipeline:
        """The definition."""

    @property
    def features(self) -> Callable[[pd.DataFrame], pd.DataFrame]:
        """The definition's features."""

    @property
    def columns(self) -> Mapping[str, str]:
        """The features' names and dtypes, in order."""


def predict(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Predict raw rows of the contract, with or without target and hindsight; columns as in `frames.predictions_of`.

    Raises:
        UserError: if a column is missing or a value is not of the contract's type.
        BrokenPipeline: if the features do not run on these rows, or are not those that the model was trained on.
    """
    return frames.predictions_of(model.pipeline, model.estimator, features_of(model, frames.to_pandas(typed(rows, model.pipeline))))


def features_of(model: Model, raw: pd.DataFrame) -> pd.DataFrame:
    """Give the model inputs of raw rows, as users' functions get them.

    Raises:
        BrokenPipeline: if the features do not run on these rows, or are not those that the model was trained on.
    """
    return _checked(model, frames.run_features(model.features, raw, model.pipeline.name))


def _checked(model: Model, made: pd.DataFrame) -> pd.DataFrame:
    features = frames.cast(made, model.pipeline.name)
    if list(features.columns) != list(model.columns) or [_NAMES.get(dtype) or str(dtype) for dtype in features.dtypes] != list(
        model.columns.values()
    ):
        frames.check_features(model.columns, features)  # says what is wrong; for one row it takes as long as a prediction
    return features


@dataclass(frozen=True)
class Bare:
    """An estimator that takes the matrix of its inputs, and the inputs' names; all of them are numbers."""

    estimator: Any
    names: "pd.Index[str]"

    def matrix(self, model: Model, raw: pd.DataFrame) -> NDArray[np.float64]:
        """Give the model inputs of raw rows as a matrix of float64, equal to `features_of`.

        Raises:
            BrokenPipeline: as `features_of`.
        """
        made = frames.run_features(model.features, raw, model.pipeline.name)
        matrix = made.to_numpy()
        if matrix.dtype == np.float64 and made.columns.equals(self.names):
            return matrix  # to look at the columns one by one takes longer than the trees
        return _checked(model, made).to_numpy()


@dataclass(frozen=True)
class Answerer:
    """A model made ready to answer requests; `bare` stands in for its estimator where that gives the same answers to the rows of its `trial`."""

    model: Model
    admission: Admission
    trial: Admitted
    bare: Bare | None = None

    def answer(self, rows: Admitted) -> dict[str, NDArray[Any]]:
        """Predict admitted rows, see `frames.answers_of`; the answers are those of `predict`: to the last bit on the rows that it was tried on.

        Raises:
            BrokenPipeline: if the features do not run on these rows, or are not those that the model was trained on.
        """
        raw = frames.of(rows)
        if self.bare is None:
            return frames.answers_of(self.model.pipeline, self.model.estimator, features_of(self.model, raw))
        return frames.answers_of(self.model.pipeline, self.bare.estimator, self.bare.matrix(self.model, raw))


def answerer(model: Model, trial: pl.DataFrame) -> Answerer:
    """Make a model ready to answer; on the rows of the `trial` it is seen whether there is a quicker way to the same answers.

    To look names up and to copy a frame takes scikit-learn about as long as to predict one row, most of which is to call a boosting's trees one by one.
    A model that picks its inputs by name, or answers otherwise by the last bit, is given frames.
    """
    admission = Admission(model.pipeline)
    ready = Answerer(model, admission, {} if trial.is_empty() else admission.examine(trial))
    if set(model.columns.values()) != {"float64"} or not ready.trial or not hasattr(model.estimator, "feature_names_in_"):
        return ready
    expected, names = ready.answer(ready.trial), pd.Index(list(model.columns), dtype="str")
    for make in (boosting.quickened, copy.copy):
        with suppress(Exception):  # whatever the user's estimator raises where it is used otherwise, its own way remains
            estimator = make(model.estimator)
            del estimator.feature_names_in_
            quick = replace(ready, bare=Bare(estimator, names))
            if _alike(quick.answer(ready.trial), expected):
                return quick
    return ready


def _alike(ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(ours.values(), theirs.values(), strict=True))


def typed(rows: pl.DataFrame, pipeline: Pipeline) -> pl.DataFrame:
    """Give the columns that are known in time in the contract's types, missing values filled where the pipeline imputes them.

    Raises:
        UserError: if a column is missing or a value is not of the contract's type.
    """
    columns = frames.known_in_time(pipeline)
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise UserError(f"The rows lack {missing}; the model of {pipeline.name!r} needs {columns}.")
    parsed, failures = contract.parse(rows.with_row_index("_row"), pipeline.contract, columns)
    if failures.height:
        first = failures.row(0, named=True)
        raise UserError(f"Row {first['_row']} has {first['value']!r} in {first['column']!r}; the contract wants {first['rule']}.")
    return parsed.drop("_row").with_columns(frames.fills(pipeline, columns))
