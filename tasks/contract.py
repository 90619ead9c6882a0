"""A pipeline's contract applied to rows: text to types, and every row that breaks a rule named with column, rule and value.

A row that breaks the contract is described by one entry for each rule it breaks: `_row` (Int64), `column`, `rule`, `value` (String).
"""

import copy
import functools
from collections.abc import Sequence
from typing import Any

import pandera.config
import pandera.errors
import pandera.polars
import polars as pl

from tasks.errors import BrokenPipeline, Unreadable

FAILURE = {"_row": pl.Int64, "column": pl.String, "rule": pl.String, "value": pl.String}
SUPPORTED = (pl.Int64, pl.Float64, pl.Boolean, pl.String, pl.Date, pl.Datetime)


def dtypes(contract: Any) -> dict[str, pl.DataType]:
    """Map each column of a contract to its polars dtype, in the contract's order.

    Raises:
        BrokenPipeline: if a column's dtype is not int, float, bool, str, date or datetime.
    """
    found = {name: _instance(column.dtype.type) for name, column in contract.to_schema().columns.items()}
    odd = {name: str(dtype) for name, dtype in found.items() if not isinstance(dtype, SUPPORTED)}
    if odd:
        raise BrokenPipeline(
            f"The contract has columns of types that are not supported: {odd}. Use int, float, bool, str, date or datetime."
        )
    return found


def _instance(dtype: Any) -> pl.DataType:
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def parse(raw: pl.DataFrame, contract: Any, columns: Sequence[str] | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give the contract's columns, or those named, in its types and order, and an entry for every cell that has no value of that type.

    NaN becomes missing, an infinity is an entry of rule "finite". `raw` has `_row` and those columns.
    """
    types = {name: dtype for name, dtype in dtypes(contract).items() if columns is None or name in columns}
    typed = raw.select("_row", *(_typed(raw[name], dtype).alias(name) for name, dtype in types.items()))
    failures = [_lost(raw, typed, name, f"dtype({_named(dtype)})") for name, dtype in types.items()]
    floats = [name for name, dtype in types.items() if dtype == pl.Float64]
    failures += [_entries(typed, typed[name].is_infinite(), name, "finite", typed[name]) for name in floats]
    return typed.with_columns(pl.col(floats).fill_nan(None)), pl.concat(failures)


COMPARISONS = ("equal_to", "not_equal_to", "greater_than", "greater_than_or_equal_to", "less_than", "less_than_or_equal_to", "in_range")
ROW_BY_ROW = frozenset((*COMPARISONS, "isin", "notin", "str_matches", "str_contains", "str_startswith", "str_endswith", "str_length"))


def row_by_row(contract: Any) -> bool:
    """Tell whether the contract judges every row by itself, so that it matters not which rows are checked together."""
    schema = contract.to_schema()
    alone = all(part.name in ROW_BY_ROW for column in schema.columns.values() for part in column.checks)
    return alone and not schema.checks and not schema.unique and not any(column.unique for column in schema.columns.values())


def check(typed: pl.DataFrame, contract: Any) -> pl.DataFrame:
    """Give an entry for every rule of the contract that a row breaks.

    Pandera's own switches cannot turn the check off.

    Raises:
        Unreadable: if a rule about the whole frame is broken or fails to run, so that no single row can be blamed.
    """
    cases = _broken(typed, contract.to_schema())
    return pl.DataFrame(schema=FAILURE) if cases is None else _described(cases, typed)


@functools.cache
def for_requests(contract: Any, columns: tuple[str, ...]) -> Any:
    """Give the contract's rules for the columns that a request has; those about several columns, and that values differ, are left out.

    A rule of the user's own is laid to the rows of a request as to those of a file.
    """
    whole = contract.to_schema()
    found = {name: copy.copy(whole.columns[name]) for name in columns}
    for column in found.values():
        column.unique = False
    return pandera.polars.DataFrameSchema(found)


def check_requests(typed: pl.DataFrame, schema: Any) -> pl.DataFrame:
    """Give an entry for every rule that a row breaks; a rule that blames no single row cannot be laid to a request, and is left out."""
    cases = _broken(typed, schema)
    return _described(cases.filter(pl.col("index").is_not_null()), typed) if cases is not None else pl.DataFrame(schema=FAILURE)


def _broken(typed: pl.DataFrame, schema: Any) -> pl.DataFrame | None:
    """Give the failures as pandera describes them, or None if there are none."""
    depth = pandera.config.ValidationDepth.SCHEMA_AND_DATA
    try:
        with pandera.config.config_context(validation_enabled=True, validation_depth=depth):
            schema.validate(typed.drop("_row"), lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases: pl.DataFrame = error.failure_cases
        return cases
    return None


def without(rows: pl.DataFrame, failures: pl.DataFrame) -> pl.DataFrame:
    """Give the rows that no entry is about."""
    return rows.join(failures, on="_row", how="anti", maintain_order="left") if failures.height else rows


def readable(raw: pl.DataFrame, contract: Any, columns: Sequence[str] | None = None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Give what `parse` gives.

    Raises:
        Unreadable: if a column cannot be read as the contract's type at all.
    """
    try:
        return parse(raw, contract, columns)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().partition("\n")[0]
        raise Unreadable(f"Its columns cannot be read as the contract's types: {reason}") from error


def _described(cases: pl.DataFrame, typed: pl.DataFrame) -> pl.DataFrame:
    whole = cases.filter(pl.col("index").is_null())
    if whole.height:
        first = whole.row(0, named=True)
        raise Unreadable(
            f"The contract's rule {first['check']!r} on {first['column']!r} cannot be laid to single rows: {first['failure_case']}."
        )
    rows = typed["_row"].gather(cases["index"])
    values = pl.when(cases["check"] == "not_nullable").then(None).otherwise(cases["failure_case"].cast(pl.String))
    return cases.select(rows.alias("_row"), pl.col("column"), pl.col("check").alias("rule"), value=values).cast(FAILURE)  # type: ignore[arg-type]


def _typed(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Give the column as `dtype`, null where that would change a value: 1.5 is no integer, 2 no boolean, and a number no moment."""
    if column.dtype.is_nested() or column.dtype in (pl.Binary, pl.Duration, pl.Time, pl.Object):
        raise Unreadable(f"Column {column.name!r} is of type {column.dtype}; the contract wants {_named(dtype)}.")
    if column.dtype.is_decimal():
        column = column.cast(pl.Float64)
    if column.dtype in (pl.Categorical, pl.Enum, pl.Null):
        column = column.cast(pl.String)
    if column.dtype == pl.String and dtype != pl.String:
        column = _from_text(column, dtype)
    if column.dtype.is_float() and dtype == pl.Int64:
        column = column.to_frame("n").select(pl.when(pl.col("n") == pl.col("n").round()).then("n")).to_series()
    if column.dtype.is_numeric() and dtype == pl.Boolean:
        column = column.cast(pl.Float64).replace_strict({0.0: False, 1.0: True}, default=None, return_dtype=pl.Boolean)
    if column.dtype.is_numeric() and dtype.is_temporal():
        return pl.Series(column.name, [None] * len(column), dtype=dtype)
    return _in_utc(column).cast(dtype, strict=False)


def _from_text(text: pl.Series, dtype: pl.DataType) -> pl.Series:
    if dtype == pl.Int64:
        return _integers(text)
    if dtype == pl.Boolean:
        return text.str.to_lowercase().replace_strict(
            {"true": True, "1": True, "false": False, "0": False}, default=None, return_dtype=pl.Boolean
        )
    if isinstance(dtype, (pl.Datetime, pl.Date)):
        return _moments(text)
    return text


def _integers(text: pl.Series) -> pl.Series:
    """Read whole numbers, also where a tool that knows no missing integers wrote them as 3.0."""
    whole = text.cast(pl.Int64, strict=False)
    if whole.null_count() == text.null_count():
        return whole
    number = text.cast(pl.Float64, strict=False)
    return (
        whole.to_frame("whole")
        .select(pl.coalesce("whole", pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))))
        .to_series()
    )


def _moments(text: pl.Series) -> pl.Series:
    """Read dates and times as ISO 8601 writes them; whether 01/02 is in January or in February is not guessed."""
    text = text.to_frame("text").select(pl.when(pl.col("text").str.contains(r"^\d{4}-\d")).then("text")).to_series()
    try:
        moments = text.str.to_datetime(strict=False, time_unit="us")
    except pl.exceptions.ComputeError:  # no value looks like a date and time at all
        return pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us"))
    return _in_utc(moments)


def _in_utc(column: pl.Series) -> pl.Series:
    """Write moments of another time zone in UTC, without a zone."""
    zone = column.dtype.time_zone if isinstance(column.dtype, pl.Datetime) else None
    return column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else column


def _lost(raw: pl.DataFrame, typed: pl.DataFrame, name: str, rule: str) -> pl.DataFrame:
    given = raw[name]
    if given.null_count() == typed[name].null_count():
        return pl.DataFrame(schema=FAILURE)
    return _entries(typed, given.is_not_null() & typed[name].is_null(), name, rule, given)


def _entries(typed: pl.DataFrame, broken: pl.Series, name: str, rule: str, values: pl.Series) -> pl.DataFrame:
    if not broken.any():
        return pl.DataFrame(schema=FAILURE)
    rows = pl.DataFrame({"_row": typed["_row"], "value": values}).filter(broken.fill_null(False))
    entry = rows.select("_row", column=pl.lit(name), rule=pl.lit(rule), value=pl.col("value").cast(pl.String, strict=False))
    return entry.cast(FAILURE)  # type: ignore[arg-type]


def _named(dtype: pl.DataType) -> str:
    return str(dtype).partition("(")[0].lower()
