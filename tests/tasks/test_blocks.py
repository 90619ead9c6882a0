"""Which rows are one draw: blocks of time of equal length, or entities."""

from datetime import date

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.blocks import BLOCKS, LEAST_ROWS, entities, time_blocks


@given(st.integers(0, 1000))
def test_blocks_of_time_follow_each_other_and_are_of_equal_length(rows: int) -> None:
    found = time_blocks(rows)
    assert len(found) == rows
    assert (np.diff(found) >= 0).all()
    sizes = np.bincount(found)
    assert len(sizes) <= BLOCKS
    assert rows < LEAST_ROWS or (sizes.min() >= LEAST_ROWS and sizes.max() - sizes.min() <= 1)
    assert rows < BLOCKS * LEAST_ROWS or len(sizes) == BLOCKS


def test_missing_values_are_one_entity_each_column_for_itself() -> None:
    names = pl.DataFrame({"who": ["a", None, "a", None, "b", None], "shop": [1, 2, 1, 2, None, None]})
    found = entities(names)
    assert found[0] == found[2] and found[1] == found[3]
    assert len(set(found.tolist())) == 4


@pytest.mark.parametrize("values", [[1.5, None, 1.5], [True, None, True], [date(2026, 1, 1), None, date(2026, 1, 1)], ["x", None, "x"]])
def test_an_entity_may_be_of_any_type(values: list[object]) -> None:
    found = entities(pl.DataFrame({"who": values}))
    assert found[0] == found[2] != found[1]
