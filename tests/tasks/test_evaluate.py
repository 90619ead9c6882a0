"""Comparing: honest baselines, slices that share their levels, and what changed."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from flows import pipelines
from tasks import frames
from tasks.errors import BrokenPipeline
from tasks.evaluate import _Unseen, constant, lagged, scores_of, slice_differences, slices_of
from tasks.evidence import Difference
from tasks.feature import split
from tasks.spec import Holdout, Pipeline, Slice
from tests.pipelines.toy import PIPELINE as TOY


def test_baselines_know_only_the_past() -> None:
    toy = pipelines_toy()
    target = pl.Series([0, 0, 1, 1, 0, 1, 1, 1])
    flat = constant(toy, target.head(4), 4)
    assert flat["p_1"].to_list() == [0.5] * 4
    last = lagged(toy, target, 4, 1)
    assert last is not None
    assert last["predicted"].to_list() == [1, 0, 1, 1]
    assert last["p_1"].to_list() == pytest.approx([2 / 3, 1 / 2, 2 / 3, 2 / 3])  # 0 was followed by 0, 1; 1 by 1; each count raised by one
    assert lagged(toy, target, 4, 5) is None


def pipelines_toy() -> Pipeline:
    return pipelines.get("visitors")


@given(st.lists(st.integers(0, 20), min_size=2, max_size=40).map(sorted), st.integers(1, 10), st.integers(-1, 21))
def test_no_row_of_the_comparison_is_as_old_as_any_training(order: list[int], rows: int, trained_until: int) -> None:
    parts = split(pl.Series(order), Holdout(rows=rows), trained_until)
    assert parts.train + parts.unseen == len(order)
    unseen = order[parts.train :]
    assert all(value > trained_until for value in unseen)
    assert not unseen or not parts.train or unseen[0] > order[parts.train - 1]


def unseen(rows: int, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray, pl.DataFrame, pl.DataFrame]:
    """Rows of the toy pipeline with their truth and two models' predictions; the newer one is worse where the colour is green."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, rows)
    raw = pl.DataFrame({"x": random.normal(size=rows), "colour": random.choice(["red", "green"], rows)})
    hidden = (raw["colour"] == "green").to_numpy()
    old = np.clip(0.5 + (truth - 0.5) * 0.6 + random.normal(0, 0.1, rows), 0.01, 0.99)
    new = np.where(hidden, np.clip(old + random.normal(0, 0.3, rows), 0.01, 0.99), 0.5 + (old - 0.5) * 1.2)
    return raw, truth, chances(np.clip(new, 0.01, 0.99)), chances(old)


def chances(values: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"predicted": (values >= 0.5).astype(int), "p_1": values})


def sliced(pipeline: Pipeline, rows: int) -> dict[str, Difference]:
    raw, truth, new, old = unseen(rows)
    return slice_differences(pipeline, _Unseen(raw, truth, slices_of(pipeline, frames.to_pandas(raw))), new, old)


def test_a_model_that_is_worse_on_one_slice_alone_is_proven_worse_there() -> None:
    found = sliced(TOY, 2000)
    assert set(found) == {"colour=red", "colour=green", "positive_x"}
    green, red = found["colour=green"], found["colour=red"]
    assert green.proven_high is not None and red.proven_low is not None
    assert green.proven_high < 0 < red.proven_low


def test_the_levels_of_slices_are_parted_among_those_that_are_large_enough() -> None:
    assert {part.alpha for part in sliced(TOY, 2000).values()} == {0.05 / 3}
    assert [part.confidence for part in sliced(TOY, 2000).values()] == pytest.approx([1 - 0.05 / 3] * 3)
    some = replace(TOY, slices=("colour", Slice("few", lambda rows: rows["x"] > 2.5)))
    assert {name: part.alpha for name, part in sliced(some, 2000).items()} == {"colour=red": 0.025, "colour=green": 0.025}


def test_with_equal_models_any_slice_is_proven_worse_in_one_of_twenty_comparisons_at_most() -> None:
    random, wrong = np.random.default_rng(1), 0
    pipeline = replace(TOY, slices=("colour",), blocks="rows", gate=replace(TOY.gate, metric="accuracy"))
    for _ in range(300):
        raw = pl.DataFrame({"x": random.normal(size=400), "colour": random.choice([f"c{place}" for place in range(5)], 400)})
        truth = random.integers(0, 2, 400)
        new, old = (chances(np.where(random.uniform(size=400) < 0.8, truth, 1 - truth).astype(float)) for _ in range(2))
        found = slice_differences(pipeline, _Unseen(raw, truth, slices_of(pipeline, frames.to_pandas(raw))), new, old)
        assert len(found) == 5
        wrong += any((part.proven_high or 0) < 0 for part in found.values())
    assert binomtest(wrong, 300, 0.05, alternative="greater").pvalue > 1e-3


def test_an_empty_slice_and_one_never_seen_are_shown_with_no_rows_and_not_compared() -> None:
    pipeline = replace(TOY, slices=(Slice("nobody", lambda rows: rows["x"] > 99), Slice("blue", lambda rows: rows["colour"] == "blue")))
    raw, truth, new, old = unseen(300)
    parts = slices_of(pipeline, frames.to_pandas(raw))
    assert {name: int(mask.sum()) for name, mask in parts.items()} == {"nobody": 0, "blue": 0}
    assert slice_differences(pipeline, _Unseen(raw, truth, parts), new, old) == {}
    assert scores_of(pipeline, "new", _Unseen(raw, truth, parts), new).slices == {"nobody": {"log_loss": None}, "blue": {"log_loss": None}}


def test_a_value_that_is_new_to_a_slices_column_is_a_slice_of_its_own() -> None:
    raw = frames.to_pandas(pl.DataFrame({"x": [1.0, 2.0, 3.0], "colour": ["red", "blue", None]}))
    found = slices_of(replace(TOY, slices=("colour",)), raw)
    assert {name: mask.tolist() for name, mask in found.items()} == {
        "colour=blue": [False, True, False],
        "colour=red": [True, False, False],
    }


@pytest.mark.parametrize(
    ("where", "told"), [(lambda rows: rows["gone"] > 0, "raised KeyError"), (lambda rows: [True], r"gave \(1,\) values for 3 rows")]
)
def test_a_slice_that_fails_is_named(where: Any, told: str) -> None:
    raw = frames.to_pandas(pl.DataFrame({"x": [1.0, 2.0, 3.0]}))
    with pytest.raises(BrokenPipeline, match=rf"Slice 'bad' of 'toy' {told}"):
        slices_of(replace(TOY, slices=(Slice("bad", where),)), raw)


def test_changed_counts_other_labels_and_other_numbers_by_more_than_a_tenth_of_the_spread() -> None:
    one, other = pl.DataFrame({"predicted": [0, 1, 1, 0]}), pl.DataFrame({"predicted": [0, 1, 0, 0]})
    assert frames.changed(TOY, np.zeros(4), one, other) == 0.25
    assert frames.changed(TOY, np.zeros(0), one.head(0), other.head(0)) is None
    amounts = replace(TOY, kind="regression", positive=None, gate=replace(TOY.gate, metric="mae"))
    truth, zeros = np.array([-10.0, 10.0, -10.0, 10.0]), pl.DataFrame({"predicted": [0.0] * 4})
    assert frames.changed(amounts, truth, zeros, pl.DataFrame({"predicted": [0.99, -1.01, math.nan, 0.0]})) == 0.5
    assert frames.changed(amounts, np.ones(4), zeros, pl.DataFrame({"predicted": [1e-9, 0.0, 0.0, 0.0]})) == 0.25
