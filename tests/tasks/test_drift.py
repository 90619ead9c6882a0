"""Drift: how far each input has moved, whatever it holds."""

import math
from datetime import datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.drift import drift

numbers = st.one_of(st.none(), st.floats(), st.integers(-3, 3).map(float))
texts = st.one_of(st.none(), st.sampled_from(["", "a", "b", "null"]))
columns = st.one_of(
    st.tuples(st.just(pl.Float64), st.lists(numbers, min_size=1, max_size=40), st.lists(numbers, min_size=1, max_size=40)),
    st.tuples(st.just(pl.String), st.lists(texts, min_size=1, max_size=40), st.lists(texts, min_size=1, max_size=40)),
)


def moved(before: list[object], after: list[object], dtype: type[pl.DataType] | None = None) -> float:
    return drift(pl.DataFrame({"x": pl.Series(before, dtype=dtype)}), pl.DataFrame({"x": pl.Series(after, dtype=dtype)}))["x"]


@given(columns)
def test_a_distance_is_a_share_and_none_from_itself(column: tuple[type[pl.DataType], list[object], list[object]]) -> None:
    dtype, before, after = column
    assert 0 <= moved(before, after, dtype) <= 1
    assert moved(before, before, dtype) == 0
    assert moved(before, before * 2, dtype) == pytest.approx(0)
    assert moved(before, list(reversed(before)), dtype) == 0


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (["a", "a", "b", "b"], ["a", "a", "a", "b"], 0.25),
        (["a", "b"], ["c", "c"], 1.0),  # a value never seen
        (["a", None], ["a", "a"], 0.5),
        ([None, None], [None], 0.0),
        ([1.0] * 10, [1.0] * 5, 0.0),
        ([1.0] * 10, [2.0] * 5, 1.0),  # a constant that changed
        ([1.0] * 10, [0.5] * 5, 1.0),
        ([0.0, 1.0] * 10, [1.0] * 5, 0.5),
        ([1.0, 2.0], [math.nan, 2.0], 0.5),  # NaN and null are both missing
        ([1.0, None], [1.0, math.nan], 0.0),
        ([math.nan] * 3, [1.0], 1.0),
        ([math.inf, -math.inf, 0.0], [math.inf, -math.inf, 0.0], 0.0),
        ([True, False], [True, True], 0.5),
    ],
)
def test_what_is_expected_of_small_columns(before: list[object], after: list[object], expected: float) -> None:
    assert moved(before, after) == pytest.approx(expected)


def test_of_many_numbers_it_is_the_change_of_a_tenth_of_the_reference() -> None:
    before = np.arange(1000.0)
    assert moved(list(before), list(before[:100])) == pytest.approx(0.9, abs=0.02)  # all in the first tenth
    assert moved(list(before), list(before + 5000)) == pytest.approx(1.0, abs=0.11)
    random = np.random.default_rng(0)
    same = moved(list(random.normal(size=5000)), list(random.normal(size=5000)))
    shifted = moved(list(random.normal(size=5000)), list(random.normal(1, 1, size=5000)))
    assert same < 0.03 < 0.15 < shifted


def test_moments_and_columns_of_one_side_alone() -> None:
    day = datetime(2024, 1, 1)
    found = drift(pl.DataFrame({"at": [day] * 3, "left": [1, 2, 3]}), pl.DataFrame({"at": [day.replace(year=2025)], "right": ["x"]}))
    assert found == {"at": 1.0}


def test_without_rows_there_is_nothing_to_compare() -> None:
    some = pl.DataFrame({"x": [1.0]})
    assert drift(some.clear(), some) == drift(some, some.clear()) == {}
