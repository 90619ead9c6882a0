"""The made-up stream: the same for a seed, checkable, and worth retraining on."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.base import clone

from deployments import stream
from flows import pipelines
from tasks import contract, frames
from tasks.metrics import METRICS, score

BEFORE, AFTER = range(stream.ABRUPT), range(stream.ABRUPT, stream.WEEKS)


def filled(week: int) -> pl.DataFrame:
    return stream.visitors(week)[0].with_columns(pl.col("device").fill_null("unknown"))


@cache
def trained_on(*weeks: int) -> Any:
    """Fit the pipeline's first candidate on whole weeks."""
    spec = pipelines.get("visitors")
    rows = pl.concat([filled(week) for week in weeks])
    features = frames.apply_features(spec.features, frames.to_pandas(rows.select(frames.known_in_time(spec))), spec.name)
    return clone(spec.candidates[0].estimator).fit(features, pd.Series(rows["converted"].to_numpy()))


def measured(metric: str, model: Any, week: int) -> float:
    """Score a model on a week."""
    spec = pipelines.get("visitors")
    rows = filled(week)
    features = frames.apply_features(spec.features, frames.to_pandas(rows.select(frames.known_in_time(spec))), spec.name)
    found = score(METRICS[metric], rows["converted"].to_numpy(), frames.predictions_of(spec, model, features))
    assert found is not None
    return found


def best(metric: str, week: int) -> float:
    found = stream.best_possible(week, metric)
    assert found is not None
    return found


def test_a_week_is_the_same_for_the_same_seed_whatever_was_made_before() -> None:
    first = stream.visitors(7)[0]
    for week in (0, 3, 11):
        stream.visitors(week)
    assert_frame_equal(stream.visitors(7)[0], first)


def test_another_seed_and_another_week_are_other_visitors() -> None:
    prices = [stream.visitors(week, seed=seed)[0]["price"].to_list() for week, seed in ((0, 0), (0, 1), (1, 0))]
    assert prices[0] != prices[1] != prices[2] != prices[0]


def test_weeks_follow_each_other_in_time_and_name_every_visitor_once() -> None:
    weeks = pl.concat([stream.visitors(week, rows=300)[0] for week in range(3)])
    assert weeks["at"].is_sorted()
    assert weeks["visitor"].n_unique() == weeks.height == 900


def test_a_week_meets_the_contract_and_misses_values_only_where_it_may() -> None:
    rows = stream.visitors(2)[0]
    columns = list(pipelines.get("visitors").contract.to_schema().columns)
    assert contract.check(rows.with_row_index("_row"), pipelines.get("visitors").contract).is_empty()
    missing = {name: count for name, count in rows.null_count().row(0, named=True).items() if count}
    assert missing.keys() == {"device", "minutes"}
    assert set(columns) == set(rows.columns)


def test_a_landed_week_has_the_stated_numbers_of_broken_and_repeated_rows(tmp_path: Path) -> None:
    path = stream.write(4, tmp_path, rows=500)
    raw = pl.read_csv(path, infer_schema=False).with_row_index("_row").cast({"_row": pl.Int64})
    spec = pipelines.get("visitors")
    typed, unreadable = contract.parse(raw, spec.contract)
    refused = set(unreadable["_row"]) | set(contract.check(typed, spec.contract)["_row"])
    assert len(refused) == stream.BROKEN_ROWS
    assert raw.height == 500 + stream.BROKEN_ROWS + stream.REPEATED_ROWS
    assert raw.height - raw.drop("_row").unique().height == stream.REPEATED_ROWS
    good = typed.filter(~pl.col("_row").is_in(list(refused))).drop("_row").unique(maintain_order=True)
    assert_frame_equal(good, stream.visitors(4, rows=500)[0].select(good.columns))


def test_every_broken_row_breaks_another_rule(tmp_path: Path) -> None:
    raw = pl.read_csv(stream.write(4, tmp_path, rows=50), infer_schema=False).with_row_index("_row").cast({"_row": pl.Int64})
    typed, unreadable = contract.parse(raw, pipelines.get("visitors").contract)
    broken = pl.concat([unreadable, contract.check(typed, pipelines.get("visitors").contract)])
    assert set(broken["column"]) == {"visitor", "segment", "price", "discount"}


def test_a_landed_file_stands_alone_under_its_weeks_name(tmp_path: Path) -> None:
    path = stream.write(3, tmp_path, rows=20)
    assert [found.name for found in tmp_path.iterdir()] == [path.name] == ["week-03.csv"]
    first = path.read_bytes()
    assert stream.write(3, tmp_path, rows=20).read_bytes() == first


def test_the_best_possible_score_is_that_of_the_true_chances() -> None:
    rows, chance = stream.visitors(5)
    truth = rows["converted"].to_numpy()
    expected = -np.where(truth == 1, np.log(chance), np.log(1 - chance))
    assert stream.best_possible(5, "log_loss") == pytest.approx(expected.mean())
    assert stream.best_possible(5, "log_loss", newest=1000) == pytest.approx(expected[-1000:].mean())


@pytest.mark.parametrize("week", range(stream.WEEKS))
def test_the_signal_is_strong_but_not_perfect(week: int) -> None:
    assert 0.80 <= best("roc_auc", week) <= 0.88


@pytest.mark.parametrize("week", [2, stream.ABRUPT + 2])
def test_no_model_trained_before_a_week_beats_the_best_possible(week: int) -> None:
    model = trained_on(week - 2, week - 1)
    assert measured("log_loss", model, week) > best("log_loss", week)
    assert measured("roc_auc", model, week) < best("roc_auc", week) + 0.003  # ranks alone may win by luck


def test_a_model_from_before_the_turn_fails_after_it_and_retraining_repairs_it() -> None:
    old = trained_on(*BEFORE[-2:])
    new = trained_on(*AFTER[:2])
    week = AFTER[2]
    assert measured("log_loss", old, week - 3) < best("log_loss", week - 3) + 0.01
    assert measured("roc_auc", old, week) < best("roc_auc", week) - 0.1
    assert measured("log_loss", old, week) > best("log_loss", week) + 0.2
    assert measured("log_loss", new, week) < best("log_loss", week) + 0.02


def test_the_season_makes_an_early_model_drift_before_the_turn_too() -> None:
    early, late = trained_on(0, 1), trained_on(4, 5)
    assert measured("log_loss", late, 6) < measured("log_loss", early, 6) - 0.003
