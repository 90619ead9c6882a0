"""Rows made up from a contract: a small frame that meets it, to try a pipeline on before any data has arrived."""

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from tasks import contract
from tasks.spec import Pipeline

ROWS = 200
_MISSING = 0.1


def made_up(pipeline: Pipeline, rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    """Make rows within the contract's built-in limits, some values missing where they may be, every label there.

    Checks that the contract defines in code are not known here; `check` says so when the rows do not meet them.
    """
    random = np.random.default_rng(seed)
    schema = pipeline.contract.to_schema()
    columns = {}
    for name, dtype in contract.dtypes(pipeline.contract).items():
        made = _values(dtype, _limits(schema.columns[name]), rows, random)
        nullable = schema.columns[name].nullable and name != pipeline.target
        holes = random.uniform(size=rows) < (_MISSING if nullable else 0)
        columns[name] = pl.Series(name, [None if hole else value for value, hole in zip(made, holes, strict=True)], dtype=dtype)
    return pl.DataFrame(columns)


def _limits(column: Any) -> dict[str, Any]:
    """Collect what pandera's built-in checks say: allowed values and the lower and upper end."""
    found: dict[str, Any] = {}
    for part in column.checks:
        given = part.statistics or {}
        found |= {"values": list(given["allowed_values"])} if "allowed_values" in given else {}
        found |= {"values": [given["value"]]} if part.name == "equal_to" else {}
        found |= {"low": given["min_value"]} if "min_value" in given else {}
        found |= {"high": given["max_value"]} if "max_value" in given else {}
    return found


def _values(dtype: pl.DataType, limits: dict[str, Any], rows: int, random: np.random.Generator) -> list[Any]:
    if "values" in limits:
        return [limits["values"][place % len(limits["values"])] for place in random.permutation(rows)]
    if dtype == pl.Boolean:
        return [bool(value) for value in random.integers(0, 2, rows)]
    if isinstance(dtype, pl.Datetime):
        return [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(rows)]
    if dtype == pl.Date:
        return [date(2024, 1, 1) + timedelta(days=day) for day in range(rows)]
    if dtype == pl.String:
        return [f"text {number}" for number in range(rows)]
    low = limits.get("low", limits.get("high", 1) - 1)
    high = limits.get("high", low + max(1, abs(low)))
    inside = low + (high - low) * random.uniform(0.01, 0.99, rows)
    return [int(value) for value in np.clip(np.round(inside), np.ceil(low), np.floor(high))] if dtype == pl.Int64 else inside.tolist()
