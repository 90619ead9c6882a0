"""Rows made up from a contract: a small frame that meets it, to try a pipeline on before any data has arrived."""

import math
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
        limits = _limits(schema.columns[name])
        made = _labels(rows, random) if _unlimited_labels(pipeline, name, dtype, limits) else _values(dtype, limits, rows, random)
        nullable = schema.columns[name].nullable and name != pipeline.target
        holes = random.uniform(size=rows) < (_MISSING if nullable else 0)
        columns[name] = pl.Series(name, [None if hole else value for value, hole in zip(made, holes, strict=True)], dtype=dtype)
    return pl.DataFrame(columns)


def _unlimited_labels(pipeline: Pipeline, name: str, dtype: pl.DataType, limits: dict[str, Any]) -> bool:
    return name == pipeline.target and pipeline.kind == "multiclass" and dtype == pl.String and "values" not in limits


def _labels(rows: int, random: np.random.Generator) -> list[Any]:
    return [f"label {place % 3}" for place in random.permutation(rows)]


def _limits(column: Any) -> dict[str, Any]:
    """Collect what pandera's built-in checks say: allowed values, the lower and upper end and whether they are within, no value twice."""
    found: dict[str, Any] = {"unique": column.unique}
    for part in column.checks:
        given = part.statistics or {}
        found |= {"values": list(given["allowed_values"])} if "allowed_values" in given else {}
        found |= {"values": [given["value"]]} if part.name == "equal_to" else {}
        if "min_value" in given and part.name != "str_length":
            found |= {"low": given["min_value"], "open_low": part.name == "greater_than" or not given.get("include_min", True)}
        if "max_value" in given and part.name != "str_length":
            found |= {"high": given["max_value"], "open_high": part.name == "less_than" or not given.get("include_max", True)}
    return found


def _values(dtype: pl.DataType, limits: dict[str, Any], rows: int, random: np.random.Generator) -> list[Any]:
    if "values" in limits:
        return [limits["values"][place % len(limits["values"])] for place in random.permutation(rows)]
    if dtype == pl.Boolean:
        return [bool(value) for value in random.integers(0, 2, rows)]
    if isinstance(dtype, pl.Datetime):
        return _moments(limits, datetime(2024, 1, 1), timedelta(hours=1), rows)
    if dtype == pl.Date:
        return _moments(limits, date(2024, 1, 1), timedelta(days=1), rows)
    if dtype == pl.String:
        return [f"text {number}" for number in range(rows)]
    return _integers(limits, rows, random) if dtype == pl.Int64 else _floats(limits, rows, random)


def _moments(limits: dict[str, Any], usual: Any, step: timedelta, rows: int) -> list[Any]:
    """Give moments one step apart, from just above the lower end or to just below the upper one."""
    first = limits["low"] + step if "low" in limits else limits["high"] - step * (rows + 1) if "high" in limits else usual
    return [first + step * place for place in range(rows)]


def _integers(limits: dict[str, Any], rows: int, random: np.random.Generator) -> list[Any]:
    high = None if "high" not in limits else math.ceil(limits["high"]) - 1 if limits["open_high"] else math.floor(limits["high"])
    low = 0 if high is None else high - rows
    if "low" in limits:
        low = math.floor(limits["low"]) + 1 if limits["open_low"] else math.ceil(limits["low"])
    high = low + rows if high is None else high
    if limits["unique"]:
        return [low + int(place) for place in random.permutation(rows)]
    return [int(value) for value in random.integers(low, high + 1, rows)]


def _floats(limits: dict[str, Any], rows: int, random: np.random.Generator) -> list[Any]:
    low = limits.get("low", limits.get("high", 1) - 1)
    high = limits.get("high", low + max(1, abs(low)))
    return [float(value) for value in low + (high - low) * random.uniform(0.01, 0.99, rows)]
