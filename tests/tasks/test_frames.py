"""Frames: what a model answers as columns, and what is no answer."""

from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from flows import pipelines
from tasks import frames
from tasks.errors import BrokenPipeline

HIRES = pipelines.get("bike_sharing")
ROWS = pd.DataFrame({"x": [1.0, 2.0, 3.0]})


class Banded(LinearRegression):
    """A line with ends on both sides, of any shape."""

    def __init__(self, ends: Any) -> None:
        super().__init__()
        self.ends = ends

    def predict_interval(self, features: Any) -> Any:
        return self.ends


def test_an_interval_is_two_more_columns() -> None:
    model = Banded([[0, 1], [1, 2], [2, 3]]).fit(ROWS, ROWS["x"])
    made = frames.predictions_of(HIRES, model, ROWS)
    assert made.columns == ["predicted", "low", "high"]
    assert (made["low"].to_list(), made["high"].to_list()) == ([0.0, 1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("ends", [[0, 1, 2], [[0, 1]], [[0, 1, 2]] * 3, np.zeros((3, 2, 1))])
def test_an_interval_of_another_shape_is_told_with_the_shape_that_is_expected(ends: Any) -> None:
    model = Banded(ends).fit(ROWS, ROWS["x"])
    with pytest.raises(BrokenPipeline, match=r"expected \(3, 2\)"):
        frames.predictions_of(HIRES, model, ROWS)


def test_a_frame_of_arrays_is_the_callers_own() -> None:
    columns = {
        "n": np.array([1.0, 2.0]),
        "t": np.array(["a", None], dtype=object),
        "m": np.array([datetime(2026, 1, 1)] * 2, dtype="datetime64[us]"),
    }
    frame = frames.of(columns)
    frame.loc[0, "n"] = 9.0
    frame.columns.name = "mine"
    assert columns["n"].tolist() == [1.0, 2.0]
    again = frames.of(columns)
    assert (again.columns.name, again["n"].tolist(), again["t"].isna().tolist()) == (None, [1.0, 2.0], [False, True])
    assert [str(dtype) for dtype in again.dtypes] == ["float64", "str", "datetime64[us]"]


def test_moments_of_two_units_keep_them() -> None:
    far = np.array(["9999-01-01"], dtype="datetime64[us]")
    frame = frames.of(
        {"far": far, "fine": np.array(["2026-01-01"], dtype="datetime64[ns]"), "rough": np.array(["2026-01-01"], dtype="datetime64[ms]")}
    )
    assert [str(dtype) for dtype in frame.dtypes] == ["datetime64[us]", "datetime64[ns]", "datetime64[ms]"]
    assert frame["far"].dt.year.tolist() == [9999]
