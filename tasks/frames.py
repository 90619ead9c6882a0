"""Frames as users' functions and models see them: the same casts in training, in evaluation and in serving.

Raw rows become a pandas frame without target and hindsight: numbers and booleans as float64, text as `str`, moments as datetime64[us].
"""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pandera.config
import pandera.errors
import pandera.pandas as pa
import polars as pl
from numpy.typing import NDArray
from pandas.api.internals import create_dataframe_from_blocks  # type: ignore[import-not-found]

from tasks import contract
from tasks.errors import BrokenPipeline
from tasks.records import Prepared
from tasks.spec import Pipeline

Features = Callable[[pd.DataFrame], pd.DataFrame]


def known_in_time(pipeline: Pipeline) -> list[str]:
    """Name the contract's columns that are known when a prediction is made."""
    hidden = {pipeline.target, *pipeline.hindsight}
    return [name for name in contract.dtypes(pipeline.contract) if name not in hidden]


def to_pandas(rows: pl.DataFrame) -> pd.DataFrame:
    """Give raw rows as users' functions get them, with a fresh index from 0."""
    numbers = [pl.col(name).cast(pl.Float64) for name, dtype in rows.schema.items() if dtype.is_numeric() or dtype == pl.Boolean]
    dates = [pl.col(name).cast(pl.Datetime("us")) for name, dtype in rows.schema.items() if dtype == pl.Date]
    frame = rows.with_columns(*numbers, *dates)
    return pd.DataFrame({name: _series(frame[name]) for name in frame.columns})


def _series(column: pl.Series) -> "pd.Series[Any]":
    if column.dtype == pl.String:
        return pd.Series(column.to_list(), dtype="str")
    return pd.Series(column.to_numpy())


def of(columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    """Give what `to_pandas` gives, of arrays of one length: numbers as float64, text as objects, moments as datetime64.

    It is put together from blocks: column by column that takes twice as long.

    >>> of({"a": np.array([1.0, np.nan])})["a"].tolist()
    [1.0, nan]
    """
    arrays = list(columns.values())
    kinds = dict.fromkeys(values.dtype for values in arrays if values.dtype != object)  # moments of two units are two
    places = [np.array([place for place, values in enumerate(arrays) if values.dtype == kind]) for kind in kinds]
    blocks = [(np.array([arrays[place] for place in own]), own) for own in places]
    texts = [(pd.array(values, dtype="str"), np.array([place])) for place, values in enumerate(arrays) if values.dtype == object]
    labels = _labels(tuple(columns)).view()  # a name that is set on them stays with this frame
    made: pd.DataFrame = create_dataframe_from_blocks([*blocks, *texts], index=pd.RangeIndex(len(arrays[0])), columns=labels)
    return made


@lru_cache(maxsize=64)
def _labels(names: tuple[str, ...]) -> "pd.Index[str]":
    """Give names as a frame's labels; to make them anew takes nearly as long as the rest of the frame."""
    return pd.Index(names, dtype="str")


def fills(pipeline: Pipeline, columns: Collection[str]) -> list[pl.Expr]:
    """Give what puts the pipeline's constants where a value in one of these columns is missing."""
    return [pl.col(name).fill_null(value) for name, value in pipeline.impute.items() if name in columns]


def target_of(pipeline: Pipeline, rows: pl.DataFrame) -> pl.Series:
    """Give the labels: float64 for a regression, 0/1 for a binary target, else the labels as text."""
    labels = rows[pipeline.target]
    if pipeline.kind == "regression":
        return labels.cast(pl.Float64)
    if pipeline.kind == "binary":
        return pl.Series(labels == pipeline.positive).cast(pl.Int64)
    return labels.cast(pl.String)


def apply_features(features: Features, raw: pd.DataFrame, name: str) -> pd.DataFrame:
    """Run the user's `features` on a raw frame and give its result as models get it: float64 and `str` columns.

    Raises:
        BrokenPipeline: if it raises, or if its result is no frame, has other rows, or has columns that a model cannot be given.
    """
    return cast(run_features(features, raw, name), name)


def run_features(features: Features, raw: pd.DataFrame, name: str) -> pd.DataFrame:
    """Run the user's `features` on a raw frame and give its result as it is.

    Raises:
        BrokenPipeline: if it raises, or if its result is no frame or has other rows.
    """
    try:
        made = features(raw)
    except Exception as error:  # whatever the user's function raises, it is that function which has to be corrected
        raise BrokenPipeline(
            f"features() of {name!r} raised {type(error).__name__}: {error}. Correct the pipeline's file; target and hindsight are kept from it."
        ) from error
    if not isinstance(made, pd.DataFrame):
        raise BrokenPipeline(f"features() of {name!r} gave a {type(made).__name__}; expected a pandas DataFrame.")
    if not made.index.equals(raw.index):
        raise BrokenPipeline(f"features() of {name!r} changed the rows ({len(raw)} in, {len(made)} out); keep each row and the index.")
    return made


def cast(made: pd.DataFrame, name: str) -> pd.DataFrame:
    """Cast what a user's `features` gave to what models get: float64 and `str` columns.

    Raises:
        BrokenPipeline: if a column cannot be given to a model.
    """
    if all(dtype == np.float64 for dtype in made.dtypes) and made.columns.is_unique and all(isinstance(part, str) for part in made.columns):
        return made  # as it is for most; to put it together anew costs a request of one row half a millisecond
    return pd.DataFrame({column: _castable(name, made, column) for column in made.columns}, index=made.index)


def _castable(name: str, made: pd.DataFrame, column: Any) -> "pd.Series[Any]":
    values = made[column]
    if not isinstance(column, str) or not isinstance(values, pd.Series):
        raise BrokenPipeline(f"features() of {name!r} has a column named {column!r} that is no text or is there twice; name each once.")
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        return values.astype("float64")
    if pd.api.types.is_string_dtype(values) or pd.api.types.is_object_dtype(values):
        return values.astype("str")
    raise BrokenPipeline(f"features() of {name!r} gave column {column!r} as {values.dtype}; give a number or text, for example its hour.")


def check_features(columns: Mapping[str, str], features: pd.DataFrame) -> None:
    """Hold a feature frame against the columns and dtypes that the model was trained on.

    Pandera's own switches cannot turn the check off.

    Raises:
        BrokenPipeline: if a column is missing, extra, in another place or of another type.
    """
    schema = pa.DataFrameSchema({name: pa.Column(dtype, nullable=True) for name, dtype in columns.items()}, strict=True, ordered=True)
    try:
        with pandera.config.config_context(validation_enabled=True, validation_depth=pandera.config.ValidationDepth.SCHEMA_AND_DATA):
            schema.validate(features)
    except (pandera.errors.SchemaError, pandera.errors.SchemaErrors) as error:
        raise BrokenPipeline(
            f"The features are not those that the model was trained on: {error}. Retrain, or restore features()."
        ) from error


def read_staged(prepared: Prepared, start: int, stop: int) -> tuple[pd.DataFrame, "pd.Series[Any]"]:
    """Read rows `start` to `stop` of the staged features and their target.

    Raises:
        BrokenPipeline: if they are not the columns that were staged.
    """
    rows = pl.scan_ipc(prepared.features).slice(start, stop - start).collect()
    features = to_pandas(rows.drop("_target"))
    check_features(prepared.columns, features)
    return features, pd.Series(rows["_target"].to_numpy())


def predictions_of(pipeline: Pipeline, model: Any, features: pd.DataFrame) -> pl.DataFrame:
    """Predict: column `predicted` (the label or value) and, where the model has probabilities, `p_<class>` for each class.

    A binary target has one probability, `p_1`. Labels are as in `target_of`. A regression whose model has a method `predict_interval`, which gives
    the lower and the upper end for each row as an array of shape (rows, 2), has the columns `low` and `high`.

    Raises:
        BrokenPipeline: if `predict_interval` gives an array of another shape.
    """
    return pl.DataFrame(answers_of(pipeline, model, features))


def answers_of(pipeline: Pipeline, model: Any, features: Any) -> dict[str, NDArray[Any]]:
    """Give the columns of `predictions_of` as arrays; `features` is whatever the model takes."""
    if pipeline.kind == "regression":
        return {"predicted": np.asarray(model.predict(features), dtype=np.float64), **_interval(pipeline, model, features)}
    if not hasattr(model, "predict_proba"):
        return {"predicted": model.predict(features)}
    chances, classes = model.predict_proba(features), list(model.classes_)
    if pipeline.kind == "binary":
        positive = chances[:, classes.index(1)]
        return {"predicted": (positive >= 0.5).astype(np.int64), "p_1": positive}
    columns = {f"p_{label}": chances[:, place] for place, label in enumerate(classes)}
    return {"predicted": np.array(classes)[chances.argmax(axis=1)], **columns}


def _interval(pipeline: Pipeline, model: Any, features: Any) -> dict[str, NDArray[Any]]:
    if not hasattr(model, "predict_interval"):
        return {}
    ends = np.asarray(model.predict_interval(features), dtype=np.float64)
    if ends.shape != (len(features), 2):
        raise BrokenPipeline(
            f"predict_interval() of {pipeline.name!r} gave an array of shape {ends.shape}; expected {(len(features), 2)}: two ends a row."
        )
    return {"low": ends[:, 0], "high": ends[:, 1]}


def changed(pipeline: Pipeline, truth: NDArray[Any], ours: pl.DataFrame, theirs: pl.DataFrame) -> float | None:
    """Give the share of rows that are predicted otherwise; of a regression by more than a tenth of the target's standard deviation.

    What is not finite counts as changed; None without rows.
    """
    if not len(truth):
        return None
    new, old = (made["predicted"].to_numpy() for made in (ours, theirs))
    if pipeline.kind != "regression":
        return float((new != old).mean())
    return float((~(np.abs(new - old) <= np.std(truth) / 10)).mean())
