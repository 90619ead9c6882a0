"""The order of a pipeline's rows: by its `time`, or else by arrival and place in the file; and how records keep a value of it."""

from datetime import date, datetime
from typing import Any

import polars as pl

from tasks.spec import Pipeline

_FILE_ROWS = 1 << 40


def order_of(pipeline: Pipeline) -> pl.Expr:
    """Give what orders the rows of the lake; rows of equal order follow each other by `_seq` and `_row`."""
    return pl.col("_seq") * _FILE_ROWS + pl.col("_row") if pipeline.time is None else pl.col(pipeline.time)


def as_text(moment: Any) -> str | None:
    """Write a value of the order as records keep it."""
    return None if moment is None else moment.isoformat() if isinstance(moment, date) else str(moment)


def from_text(text: str | None, dtype: pl.DataType) -> Any:
    """Read a value of the order back, in the order's own type.

    Raises:
        ValueError: if it is of another type.
    """
    if text is None:
        return None
    if dtype == pl.Date:
        return date.fromisoformat(text)
    return datetime.fromisoformat(text) if isinstance(dtype, pl.Datetime) else int(text)
