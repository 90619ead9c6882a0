"""Admission: the rows of a request held against the contract, as `contract` does it, and quick where there are few of them.

What was admitted is a mapping from column to array, in the contract's order: numbers and truth values as float64, text as objects, moments as
datetime64[us]; missing values are NaN, None and NaT, filled in where the pipeline imputes them. `frames.of` makes of it what users' functions get.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pandera.api.function_dispatch import Dispatcher

from tasks import contract, frames
from tasks.errors import UserError
from tasks.spec import Pipeline

Admitted = Mapping[str, NDArray[Any]]
Given = Mapping[str, Sequence[Any]]
Plain = Callable[[Sequence[Any]], NDArray[Any] | None]
Judge = Callable[[NDArray[Any]], bool]
_EXACT = 2**53  # above it, a float64 does not tell whole numbers apart
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_SHOWN = 100


@dataclass(frozen=True)
class Fault:
    """One value that may not be asked about: its row from 0, its column, the rule it breaks, and itself as text."""

    row: int
    column: str
    rule: str
    value: str | None


class Refused(UserError):
    """Rows that break the contract; `faults` names the first hundred values."""

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class Admission:
    """A pipeline's contract, made ready for requests: the columns that are known in time, and how each is read.

    `admit` reads plain values of the right types at once, and leaves all else, and whatever looks wrong, to `examine`, which gives reasons.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        types = contract.dtypes(pipeline.contract)
        self.pipeline = pipeline
        self.types = {name: types[name] for name in frames.known_in_time(pipeline)}
        self.schema = contract.for_requests(pipeline.contract, tuple(self.types))
        self._judges = {name: _judge(dtype, self.schema.columns[name]) for name, dtype in self.types.items()}
        self._readers = {
            name: _reader(_PLAIN[type(self.types[name])], judge, filled=name in pipeline.impute) for name, judge in self._judges.items()
        }

    def admit(self, given: Given) -> Admitted:
        """Admit columns of plain values; columns that are not the contract's are left out.

        Raises:
            Refused: if columns are missing or of other lengths, or a value breaks the contract.
        """
        read = {}
        for name, reader in self._readers.items():
            values = reader(given[name]) if reader is not None and name in given else None
            if values is None:
                return self.examine(_frame(given, self.types))
            read[name] = values
        sizes = {len(values) for values in read.values()}
        return read if len(sizes) == 1 else self.examine(_frame(given, self.types))

    def examine(self, rows: pl.DataFrame) -> Admitted:
        """Admit a frame with at least the columns that are known in time.

        Raises:
            Refused: if columns are missing, or a value breaks the contract.
        """
        missing = [name for name in self.types if name not in rows.columns]
        if missing:
            raise Refused(f"The rows lack {missing}; the model of {self.pipeline.name!r} needs {list(self.types)}.")
        typed, failures = contract.parse(rows.select(*self.types).with_row_index("_row"), self.pipeline.contract, list(self.types))
        read = arrays(typed.drop("_row"))
        if failures.height or not self._keep(read):
            broken = failures if failures.height else contract.check_requests(typed, self.schema)
            if broken.height:
                faults = [Fault(*row) for row in broken.sort("_row").head(_SHOWN).iter_rows()]
                raise Refused(_told(faults[0], broken["_row"].n_unique(), rows.height), faults)
        fills = frames.fills(self.pipeline, list(self.types))
        return arrays(typed.drop("_row").with_columns(fills)) if fills else read

    def _keep(self, read: Admitted) -> bool:
        """Tell whether values in the contract's types are known to keep it; pandera, which takes far longer, has to be asked otherwise."""
        return all(judge is not None and judge(read[name]) for name, judge in self._judges.items())


def joined(parts: Sequence[Admitted]) -> Admitted:
    """Put the rows of several requests one after the other."""
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def count(rows: Admitted) -> int:
    """Give the number of rows.

    >>> count({"a": np.zeros(3)})
    3
    """
    return len(next(iter(rows.values())))


def _frame(given: Given, types: Mapping[str, Any]) -> pl.DataFrame:
    sizes = {name: len(values) for name, values in given.items() if name in types}
    if len(set(sizes.values())) > 1:
        raise Refused(f"The columns are of different lengths: {sizes}; give each row a value, or null, in every column.")
    odd = next((name for name in sizes if any(isinstance(value, list | dict) for value in given[name])), None)
    if odd is not None:
        raise Refused(f"Column {odd!r} holds a list or an object; expected a single value of the contract's type in each row.")
    return pl.DataFrame({name: _series(name, given[name]) for name in sizes})


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    """Give values of whatever types; where they are mixed, as text, so that each is judged by itself."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) <= 1:
        wide = float in kinds or any(isinstance(value, int) and abs(value) >= 2**63 for value in values)
        return pl.Series(name, [float(value) if wide and value is not None else value for value in values], strict=False)
    return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)


def _told(first: Fault, rows: int, of: int) -> str:
    return (
        f"{rows} of {of} rows break the contract; the first is row {first.row}, with {first.value!r} in {first.column!r}, where the contract "
        f"wants {first.rule}. Nothing was predicted."
    )


def arrays(typed: pl.DataFrame) -> Admitted:
    """Give rows that are in the contract's types already as what was admitted."""
    frame = frames.to_pandas(typed)
    text = {name for name, dtype in typed.schema.items() if dtype == pl.String}
    return {name: np.array(typed[name].to_list(), dtype=object) if name in text else frame[name].to_numpy() for name in typed.columns}


def _judge(dtype: pl.DataType, column: Any) -> Judge | None:
    """Give what tells whether all values of a column keep the contract; None where that asks for more than is known here."""
    known = [_rule(check) for check in column.checks]
    rules = [rule for rule in known if rule is not None]
    ruled = bool(rules) and isinstance(dtype, pl.Datetime | pl.Date | pl.Boolean)
    if len(rules) < len(known) or ruled or (isinstance(dtype, pl.Datetime) and dtype.time_unit != "us"):
        return None
    if isinstance(dtype, pl.Int64):
        rules.append(lambda array: np.abs(array) < _EXACT)

    def judge(array: NDArray[Any]) -> bool:
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            missing = _missing(array)
            if missing.any() and not column.nullable or array.dtype.kind == "f" and np.isinf(array).any():
                return False
            array = array[~missing]
        return all(rule(array).all() for rule in rules)

    return judge


def _reader(plain: Plain, judge: Judge | None, *, filled: bool) -> Plain | None:
    """Give what reads a column's plain values, or None for what is not plain or may not keep the contract, or is `filled` in where it is missing."""
    if judge is None:
        return None

    def read(values: Sequence[Any]) -> NDArray[Any] | None:
        array = plain(values)
        if array is None or not judge(array) or (filled and _missing(array).any()):
            return None
        return array

    return read


def _missing(array: NDArray[Any]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (
        array == None if array.dtype == object else np.isnat(array) if array.dtype.kind == "M" else np.isnan(array)  # noqa: E711
    )
    return found


def _floats(values: Sequence[Any]) -> NDArray[Any] | None:
    return _numbers_of(values, {float, int, NoneType})


def _whole(values: Sequence[Any]) -> NDArray[Any] | None:
    return _numbers_of(values, {int, NoneType})


def _numbers_of(values: Sequence[Any], kinds: set[type]) -> NDArray[Any] | None:
    if not set(map(type, values)) <= kinds:
        return None
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        return None


def _truth(values: Sequence[Any]) -> NDArray[Any] | None:
    return _numbers_of(values, {bool, NoneType})


def _texts(values: Sequence[Any]) -> NDArray[Any] | None:
    if not set(map(type, values)) <= {str, NoneType}:
        return None
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _moments(values: Sequence[Any], form: re.Pattern[str] = _MOMENT) -> NDArray[Any] | None:
    if not all(value is None or (type(value) is str and form.fullmatch(value)) for value in values):
        return None
    try:
        return np.array(values, dtype="datetime64[us]")
    except ValueError:
        return None


def _days(values: Sequence[Any]) -> NDArray[Any] | None:
    return _moments(values, _DAY)


_PLAIN: Mapping[type, Plain] = {
    pl.Float64: _floats,
    pl.Int64: _whole,
    pl.Boolean: _truth,
    pl.String: _texts,
    pl.Datetime: _moments,
    pl.Date: _days,
}


def _rule(check: Any) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    """Give a check of pandera as what judges an array of values, none of them missing; None for one that is not known here."""
    if not isinstance(check._check_fn, Dispatcher) or not check.ignore_na:  # a user's own may have the name of one of pandera's
        return None
    given = check.statistics or {}
    if check.name == "in_range":
        low, high = given["min_value"], given["max_value"]
        above = np.greater_equal if given.get("include_min", True) else np.greater
        below = np.less_equal if given.get("include_max", True) else np.less
        return _numbers(lambda array: above(array, low) & below(array, high), low, high)
    if check.name in _COMPARED:
        compare, name = _COMPARED[check.name]
        return _numbers(lambda array: compare(array, given[name]), given[name])
    if check.name == "isin":
        allowed = frozenset(given["allowed_values"])
        return lambda array: np.array([value in allowed for value in array])
    return None


def _numbers(rule: Callable[[NDArray[Any]], NDArray[Any]], *bounds: Any) -> Callable[[NDArray[Any]], NDArray[Any]] | None:
    plain = all(isinstance(bound, int | float) and not isinstance(bound, bool) and math.isfinite(bound) for bound in bounds)
    return rule if plain else None


_COMPARED: Mapping[str, tuple[Any, str]] = {
    "greater_than": (np.greater, "min_value"),
    "greater_than_or_equal_to": (np.greater_equal, "min_value"),
    "less_than": (np.less, "max_value"),
    "less_than_or_equal_to": (np.less_equal, "max_value"),
}
