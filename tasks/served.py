"""What was served, as columns: the requests that a server answered, put together for the prediction log.

Ratchet's own columns of the log begin with an underscore, as those of the lake do, so that a contract may have a `time` or a `version`.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks import contract
from tasks.spec import Pipeline

Role = Literal["champion", "canary", "shadow"]
Values = Sequence[Any] | pl.Series | NDArray[Any]
Types = Mapping[str, pa.DataType]

ARROW = {
    pl.Int64: pa.int64(),
    pl.Float64: pa.float64(),
    pl.Boolean: pa.bool_(),
    pl.String: pa.string(),
    pl.Date: pa.date32(),
    pl.Datetime: pa.timestamp("us"),
}
_AS = re.compile(r"_as_[a-z0-9\[\]]+?_(?P<name>.+)")  # see `stores.journal.named`
# Rows and bytes of a batch: larger ones take less of the processor for each row, and hold requests up for longer.
AT_ONCE, LARGE = 2000, 1 << 20


@dataclass(frozen=True, slots=True)
class Served:
    """One request and what a version answered: raw columns as they were served, in the contract's types, and the columns of the answer.

    A missing value is null, in an array NaN too. `request` begins with 12 hex digits of the time in milliseconds; a row's prediction is named
    `<request>-<row>`, from 0. `moment` is in seconds since 1970, `size` the request's bytes if they are known. Nobody may change the columns
    afterwards.
    """

    request: str
    moment: float
    version: int
    cycle: int
    role: Role
    rows: Mapping[str, Values]
    answers: Mapping[str, Values]
    size: int = 0

    @property
    def count(self) -> int:
        """How many rows were answered."""
        return len(next(iter(self.answers.values()), ()))


def types_of(pipeline: Pipeline) -> dict[str, pa.DataType]:
    """Give the Arrow types of the contract's columns and of the answers."""
    raw = {name: ARROW[type(dtype)] for name, dtype in contract.dtypes(pipeline.contract).items()}
    label = {"binary": pa.int64(), "multiclass": pa.string(), "regression": pa.float64()}[pipeline.kind]
    return {**raw, "_predicted": label}


def batch_of(served: Sequence[Served], types: Types, private: Iterable[str], server: str) -> pa.RecordBatch:
    """Make one batch of requests that have the same columns; the `private` ones are left out, answers are named with an underscore before."""
    counts = [part.count for part in served]
    place = pa.array(np.repeat(np.arange(len(served)), counts))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    number = pa.array(np.arange(len(first)) - first).cast(pa.string())
    each = pa.record_batch(
        {
            "_prediction": pa.array([part.request for part in served], pa.string()),
            "_time": pa.array([round(part.moment * 1e6) for part in served], pa.timestamp("us")),
            "_version": pa.array([part.version for part in served], pa.int64()),
            "_cycle": pa.array([part.cycle for part in served], pa.int64()),
            "_role": pa.array([part.role for part in served], pa.string()),
        }
    ).take(place)
    columns = {name: each[name] for name in each.schema.names}
    columns["_prediction"] = pc.binary_join_element_wise(each["_prediction"], number, "-")
    columns["_server"] = pa.repeat(pa.scalar(server, pa.string()), len(first))
    for name in served[0].rows:
        if name not in private:
            columns[name] = array_of([part.rows[name] for part in served], types.get(name))
    for name in served[0].answers:
        columns[f"_{name}"] = array_of([part.answers[name] for part in served], types.get(f"_{name}"))
    return pa.RecordBatch.from_pydict(columns)


def array_of(parts: Sequence[Values], dtype: pa.DataType | None) -> pa.Array:
    """Put the parts of a column together, as `dtype` if that holds every value, else in a type of their own, else as text."""
    values = joined(parts)
    with suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
        found = pa.array(values, from_pandas=isinstance(values, np.ndarray))  # not as `dtype` at once: that would make 1 of 1.5
        if isinstance(values, list) and pa.types.is_temporal(found.type) and not all(isinstance(value, date | None) for value in values):
            raise TypeError("Among dates, Arrow takes a number for one.")
        if dtype is not None and found.type != dtype and _may_become(found.type, dtype):
            with suppress(pa.ArrowException):
                return found.cast(dtype)
        if found.type in ARROW.values():
            return found
    return pa.array([None if value is None else str(value).encode(errors="backslashreplace").decode() for value in values], pa.string())


def _may_become(found: pa.DataType, dtype: pa.DataType) -> bool:
    """Tell whether values of a type may be cast to another: nothing becomes text so, and no number a moment, which may be of no year there is."""
    if pa.types.is_temporal(dtype):
        return bool(pa.types.is_null(found) or pa.types.is_temporal(found) or pa.types.is_string(found))
    return bool(pa.types.is_null(found)) or dtype != pa.string()


def joined(parts: Sequence[Values]) -> list[Any] | NDArray[Any]:
    """Put the parts of a column together: arrays as an array, without making a Python value of each."""
    if all(isinstance(part, np.ndarray) for part in parts):
        return np.concatenate([np.asarray(part) for part in parts])
    return list(itertools.chain.from_iterable(part.to_list() if isinstance(part, pl.Series) else part for part in parts))


def grouped(served: Iterable[Served]) -> Iterator[list[Served]]:
    """Part requests in groups of the same columns, each of at most `AT_ONCE` rows and `LARGE` bytes, as requests, or of one request."""
    open_groups: dict[tuple[str, ...], list[Served]] = {}
    sizes: dict[tuple[str, ...], tuple[int, int]] = {}
    for part in served:
        columns = (*part.rows, "", *part.answers)
        rows, size = sizes.get(columns, (0, 0))
        if columns in open_groups and (rows + part.count > AT_ONCE or size + part.size > LARGE):
            yield open_groups.pop(columns)
            rows, size = 0, 0
        open_groups.setdefault(columns, []).append(part)
        sizes[columns] = rows + part.count, size + part.size
    yield from open_groups.values()


def forms_of(known: Iterable[str], names: Collection[str]) -> list[str]:
    """Give those of the log's columns that have these names, or values of them in a type that the contract had at another time.

    >>> forms_of(["x", "_as_string_x", "_as_timestamp[us]_at", "y"], ["x", "at"])
    ['x', '_as_string_x', '_as_timestamp[us]_at']
    """
    return [name for name in known if name in names or _base(name) in names]


def _base(column: str) -> str:
    """Give the name that a column has, or would have if its type had not changed."""
    found = _AS.fullmatch(column)
    return column if found is None else found["name"]


def column_of(known: Collection[str], name: str, dtype: pl.DataType) -> pl.Expr:
    """Give a column of the log as it was served, also where its type has changed since and part of it lies in a column of its own."""
    forms = forms_of(known, [name])
    return pl.coalesce([pl.col(form).cast(dtype, strict=False) for form in forms] or [pl.lit(None, dtype=dtype)])


def raw_of(rows: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Give columns of the log as they were served: each in the one of its forms that has values; those that were never kept are left out."""
    chosen: dict[str, pl.Series] = {}
    for name in columns:
        forms = forms_of(rows.columns, [name])
        if forms:
            filled = (form for form in forms if rows[form].null_count() < rows.height)
            chosen[name] = rows[next(filled, forms[0])].alias(name)
    return pl.DataFrame(chosen)


def answers_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Give the columns of the answers by the names that models give them; those that no row has are left out."""
    found = raw_of(rows, dict.fromkeys(_base(name) for name in rows.columns if is_answer(name)))
    return found.select(column.alias(column.name[1:]) for column in found if column.null_count() < rows.height)


def is_answer(column: str) -> bool:
    """Tell whether a column of the log is one of the answer.

    >>> is_answer("_p_1"), is_answer("_as_int64__predicted"), is_answer("_prediction"), is_answer("p_1")
    (True, True, False, False)
    """
    return _base(column) in ("_predicted", "_low", "_high") or _base(column).startswith("_p_")
