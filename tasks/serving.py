"""Serving: what happens to raw rows between a request and its answer, the same in every process that serves."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pandas as pd
import polars as pl

from tasks import contract, frames
from tasks.errors import UserError
from tasks.spec import Pipeline


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
    raw = frames.to_pandas(typed(rows, model.pipeline))
    features = frames.apply_features(model.features, raw, model.pipeline.name)
    if {name: str(dtype) for name, dtype in features.dtypes.items()} != model.columns or list(features) != list(model.columns):
        frames.check_features(model.columns, features)  # says what is wrong; for one row it takes as long as a prediction
    return frames.predictions_of(model.pipeline, model.estimator, features)


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
