"""Intervals for a difference: exact where they can be, right at small levels, and undefined rather than wrong."""

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as sk

from tasks import intervals, resample
from tasks.blocks import time_blocks
from tasks.evidence import Difference
from tasks.intervals import difference, differences, mcnemar
from tasks.metrics import METRICS, Ranked

SEEDS = st.integers(0, 2**32 - 1)
unhurried = settings(deadline=None, max_examples=20)
BINARY = sorted(name for name, metric in METRICS.items() if "binary" in metric.kinds)
NUMBERS = sorted(name for name, metric in METRICS.items() if "regression" in metric.kinds)


def chances(values: Any) -> pl.DataFrame:
    values = np.asarray(values, dtype=float)
    return pl.DataFrame({"predicted": (values >= 0.5).astype(int), "p_1": values})


def labels(values: Any) -> pl.DataFrame:
    return pl.DataFrame({"predicted": np.asarray(values)})


def guesses(random: np.random.Generator, truth: np.ndarray, noise: float = 0.2) -> pl.DataFrame:
    return chances(np.clip(0.5 + (truth - 0.5) * 0.3 + random.normal(0, noise, len(truth)), 0.01, 0.99))


def compared(
    name: str, truth: np.ndarray, new: pl.DataFrame, old: pl.DataFrame, groups: np.ndarray | None = None, **levels: float
) -> Difference:
    return difference(METRICS[name], truth, new, old, groups=groups, **{"confidence": 0.95, "alpha": 0.001, **levels})


def bounds(found: Difference) -> tuple[float | None, ...]:
    return found.low, found.high, found.proven_low, found.proven_high


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(1, 1000), st.sampled_from([0.2, 0.05, 0.001, 1e-6]))
def test_accuracy_is_proven_better_exactly_when_mcnemars_exact_test_says_so(gained: int, lost: int, alike: int, level: float) -> None:
    low, high = mcnemar(gained, lost, gained + lost + alike, level)
    for bound, wins in ((low, gained), (-high, lost)):
        p = binomtest(wins, gained + lost, 0.5, alternative="greater").pvalue if gained + lost else 1.0
        assert bool(bound > 0) == (p < level)
    assert low <= (gained - lost) / (gained + lost + alike) <= high


def test_two_models_that_agree_on_every_row_may_still_differ_on_three_in_n() -> None:
    truth = np.array([0, 1] * 150)
    made = labels(truth)
    found = compared("accuracy", truth, made, made, alpha=0.05)
    assert found.improvement == 0
    assert found.proven_low == pytest.approx(-3 / 300, rel=0.01)
    assert found.proven_high == pytest.approx(3 / 300, rel=0.01)


def test_the_bound_of_accuracy_holds_against_a_margin() -> None:
    """A challenger that is worse by exactly the margin is passed as not worse with no more than the level's probability."""
    random = np.random.default_rng(0)
    margin, rows, level = 0.02, 400, 0.05
    rare = random.multinomial(rows, [0.001, 0.021, 0.978], size=20_000)
    often = random.multinomial(rows, [0.10, 0.12, 0.78], size=20_000)
    for drawn in (rare, often):
        low, _ = mcnemar(drawn[:, 0], drawn[:, 1], rows, level)
        assert (low > -margin).mean() <= level * 1.1


@unhurried
@given(SEEDS)
def test_delong_agrees_with_its_definition_over_all_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.r_[np.ones(12, dtype=int), np.zeros(17, dtype=int)]
    new, old = (np.round(random.uniform(size=29) + truth * 0.3, 1) for _ in range(2))  # with ties
    pairs = [(p[truth == 1][:, None] > p[truth == 0]) + 0.5 * (p[truth == 1][:, None] == p[truth == 0]) for p in (new, old)]
    apart = pairs[0] - pairs[1]
    error = math.sqrt(apart.mean(axis=1).var(ddof=1) / 12 + apart.mean(axis=0).var(ddof=1) / 17)
    draws = resample.draws_of(None, 29)
    found = resample.standard_error(METRICS["roc_auc"], truth, chances(new), chances(old), draws)
    assert found == pytest.approx(error, abs=1e-12)


@unhurried
@given(SEEDS, st.sampled_from(["roc_auc", "average_precision"]))
def test_an_influence_is_what_a_little_more_weight_of_a_row_moves(seed: int, name: str) -> None:
    random = np.random.default_rng(seed)
    truth, made = np.r_[1, 0, random.integers(0, 2, 30)], np.round(random.uniform(size=32), 1)
    form = METRICS[name].form
    assert isinstance(form, Ranked)
    value, influence = form.linear(truth, chances(made))
    row, step = int(random.integers(32)), 1e-6
    weights = np.ones(32)
    weights[row] += step
    weighted = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}[name](truth, made, sample_weight=weights)
    assert (weighted - value) / step == pytest.approx(influence[row], abs=1e-4)
    assert influence.sum() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", [name for name in BINARY if name != "accuracy"])
def test_standard_errors_are_what_fresh_data_shows(name: str) -> None:
    """Over 600 fresh data sets the improvements spread as the intervals of 12 of them say, for single rows as for groups."""
    random, metric = np.random.default_rng(3), METRICS[name]
    made: list[float] = []
    said: list[list[float]] = []
    for number in range(600):
        truth = random.integers(0, 2, 300)
        new, old = guesses(random, truth), guesses(random, truth)
        made.append(metric.better_by(metric.form.compute(truth, new), metric.form.compute(truth, old)))
        if number < 12:
            draws = [resample.draws_of(groups, 300) for groups in (None, random.permutation(300) // 6)]
            said.append([resample.standard_error(metric, truth, new, old, part) for part in draws])
    assert np.mean(said, axis=0) == pytest.approx(np.full(2, np.std(made)), rel=0.15)


def test_blocks_that_are_like_their_neighbours_widen_the_interval() -> None:
    alike, turning = np.repeat([1.0, -1.0], 10), np.tile([1.0, -1.0], 10)
    assert resample.neighbours(alike) == pytest.approx(math.sqrt(1 + 2 * (17 / 20 + 1 / 20)))
    assert resample.neighbours(turning) == 1
    assert resample.neighbours(np.zeros(20)) >= 1


@pytest.mark.parametrize("name", NUMBERS)
def test_regressions_have_intervals_of_every_metric(name: str) -> None:
    random = np.random.default_rng(1)
    truth = random.uniform(5, 15, 600)
    new, old = labels(truth + random.normal(0, 1, 600)), labels(truth + random.normal(0, 2, 600))
    for groups in (None, time_blocks(600)):
        found = compared(name, truth, new, old, groups)
        assert found.improvement is not None and found.proven_low is not None and found.low is not None
        assert 0 < found.proven_low < found.low < found.improvement


def test_several_classes_have_intervals_too() -> None:
    random = np.random.default_rng(1)
    truth = random.choice(["a", "b", "c"], 900)

    def made(weight: float) -> pl.DataFrame:
        raw = random.uniform(size=(900, 3)) + weight * (truth[:, None] == np.array(["a", "b", "c"]))
        shares = raw / raw.sum(axis=1, keepdims=True)
        return pl.DataFrame(
            {"predicted": np.array(["a", "b", "c"])[shares.argmax(axis=1)], **{f"p_{c}": shares[:, i] for i, c in enumerate("abc")}}
        )

    kind = [metric for metric in METRICS.values() if "multiclass" in metric.kinds]
    for groups in (None, time_blocks(900)):
        found = differences(kind, truth, made(1.0), made(0.3), groups=groups, confidence=0.95, alpha=1e-6)
        assert all(one.proven_low is not None and one.proven_low > 0 for one in found.values()), found


@unhurried
@given(SEEDS, st.sampled_from(BINARY), st.booleans())
def test_swapping_the_models_turns_the_interval_round(seed: int, name: str, blocks: bool) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, 160)
    new, old, groups = guesses(random, truth), guesses(random, truth), time_blocks(160) if blocks else None
    there, back = compared(name, truth, new, old, groups), compared(name, truth, old, new, groups)
    assert there.low is not None and there.proven_low is not None
    turned = (-(back.high or 0), -(back.low or 0), -(back.proven_high or 0), -(back.proven_low or 0))
    assert bounds(there) == pytest.approx(turned, abs=1e-9)


@unhurried
@given(SEEDS, st.sampled_from(BINARY))
def test_a_smaller_level_proves_less_down_to_one_in_a_million(seed: int, name: str) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, 160)
    new, old = guesses(random, truth), guesses(random, truth)
    lows = [compared(name, truth, new, old, time_blocks(160), alpha=alpha).proven_low for alpha in (0.05, 1e-3, 1e-6)]
    assert all(low is not None for low in lows)
    assert lows == sorted(lows, reverse=True)  # type: ignore[type-var]
    assert len(set(lows)) == 3


@pytest.mark.parametrize("name", BINARY)
def test_one_class_alone_leaves_ranks_undefined_and_nothing_else(name: str) -> None:
    random = np.random.default_rng(0)
    found = compared(
        name, np.ones(300, dtype=int), chances(random.uniform(0.5, 1, 300)), chances(random.uniform(size=300)), time_blocks(300)
    )
    if name in ("roc_auc", "average_precision"):
        assert (found.improvement, *bounds(found)) == (None,) * 5
    else:
        assert found.improvement is not None and found.low is not None


@pytest.mark.parametrize("name", BINARY)
def test_a_class_of_fewer_than_ten_groups_is_too_rare_for_a_metric_that_weighs_it(name: str) -> None:
    random = np.random.default_rng(0)
    truth = np.r_[np.ones(9, dtype=int), np.zeros(291, dtype=int)]
    found = compared(name, truth, guesses(random, truth), guesses(random, truth))
    assert found.improvement is not None
    assert (found.low is None) == (name in ("balanced_accuracy", "f1", "roc_auc", "average_precision"))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("groups", [None, time_blocks(300)], ids=["rows", "blocks"])
def test_constant_and_perfect_predictions_are_never_proven_beyond_what_n_rows_can_show(name: str, groups: np.ndarray | None) -> None:
    truth = np.random.default_rng(0).integers(0, 2, 300)
    flat, perfect = chances(np.full(300, 0.5)), chances(truth)
    for new, old in ((flat, flat), (perfect, perfect), (perfect, flat), (flat, perfect)):
        found = compared(name, truth, new, old, groups)
        assert found.improvement is not None and found.proven_low is not None and found.proven_high is not None
        assert found.proven_low < found.improvement < found.proven_high


@pytest.mark.parametrize("name", BINARY + NUMBERS)
def test_a_prediction_that_is_not_finite_proves_nothing(name: str) -> None:
    truth = np.random.default_rng(0).integers(0, 2, 300).astype(float if name in NUMBERS else int)
    good, bad = np.linspace(0.1, 0.9, 300), np.r_[math.nan, np.linspace(0.1, 0.9, 299)]
    broken = chances(bad) if name in BINARY else labels(bad)
    whole = chances(good) if name in BINARY else labels(good)
    for new, old in ((broken, whole), (whole, broken)):
        found = compared(name, truth, new, old, time_blocks(300))
        assert (found.improvement, *bounds(found)) == (None,) * 5


def test_without_probabilities_only_labels_are_compared() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 300)
    whole = guesses(random, truth)
    assert compared("log_loss", truth, whole.select("predicted"), whole).low is None
    assert compared("accuracy", truth, whole.select("predicted"), whole).low is not None


@pytest.mark.parametrize("rows", [0, 1, 49])
def test_fewer_than_ten_blocks_of_five_rows_prove_nothing(rows: int) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, rows)
    found = compared("brier", truth, guesses(random, truth), guesses(random, truth), time_blocks(rows))
    assert bounds(found) == (None,) * 4
    assert (found.improvement is None) == (rows == 0)


def test_ten_blocks_of_five_rows_are_enough() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 50)
    assert compared("brier", truth, guesses(random, truth), guesses(random, truth), time_blocks(50)).low is not None


def test_rows_of_one_entity_are_not_taken_for_many() -> None:
    """The same 20 customers repeated 50 times tell as much as 20 rows do, and not what 1,000 would."""
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 20)
    new, old = guesses(random, truth), guesses(random, truth)
    once = compared("brier", truth, new, old)
    often = compared("brier", np.tile(truth, 50), pl.concat([new] * 50), pl.concat([old] * 50), np.tile(np.arange(20), 50))
    alone = compared("brier", np.tile(truth, 50), pl.concat([new] * 50), pl.concat([old] * 50))
    assert bounds(often) == pytest.approx(bounds(once))
    assert alone.high is not None and alone.low is not None and once.high is not None and once.low is not None
    assert alone.high - alone.low < (once.high - once.low) / 4


def test_an_entity_that_has_most_rows_leaves_fewer_draws_than_there_are_entities() -> None:
    even, uneven = (resample.draws_of(groups, 200) for groups in (np.arange(200) % 20, np.minimum(np.arange(200), 19)))
    assert even.effective == pytest.approx(20)
    assert uneven.effective < 1.3


def test_more_than_two_thousand_groups_are_merged_and_tell_the_same() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 12_000)
    new, old = guesses(random, truth), guesses(random, truth)
    draws = resample.draws_of(None, 12_000)
    assert draws.merged[1] == resample.MOST_GROUPS
    assert np.bincount(draws.merged[0]).tolist() == [6] * 2000
    exact = float(np.std((new["p_1"] - truth).to_numpy() ** 2 - (old["p_1"] - truth).to_numpy() ** 2) / math.sqrt(12_000))
    assert resample.standard_error(METRICS["brier"], truth, new, old, draws) == pytest.approx(exact, rel=0.06)


def test_the_same_rows_give_the_same_bounds() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 3000)
    new, old = guesses(random, truth), guesses(random, truth)
    assert compared("f1", truth, new, old) == compared("f1", truth, new, old)


def test_a_loss_without_a_limit_that_few_blocks_show_is_undefined() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=300)
    same, once = truth + 1, np.r_[truth[:5] + 2, truth[5:] + 1]
    assert bounds(compared("mae", truth, labels(same), labels(once), time_blocks(300))) == (None,) * 4
    assert bounds(compared("mae", truth, labels(same), labels(same), time_blocks(300))) == (0, 0, 0, 0)
    steady = compared("mae", truth, labels(truth + 1), labels(truth + 2), time_blocks(300))
    assert steady.improvement == pytest.approx(1)
    assert bounds(steady) == (None,) * 4


def test_labels_that_few_blocks_see_otherwise_prove_nothing() -> None:
    truth = np.ones(300, dtype=int)
    once = truth.copy()
    once[:5] = 0
    found = compared("accuracy", truth, labels(truth), labels(once), time_blocks(300), alpha=0.2)
    assert found.improvement == pytest.approx(5 / 300)
    assert found.proven_low is not None and found.proven_low < 0


def test_a_method_is_named_with_what_it_took_for_independent() -> None:
    draws = resample.draws_of(None, 500)
    assert intervals.method_of(METRICS["accuracy"], draws) == "exact McNemar test, independent rows"
    assert intervals.method_of(METRICS["roc_auc"], draws) == "DeLong, 500 independent rows"
    blocks = resample.draws_of(time_blocks(500), 500)
    assert intervals.method_of(METRICS["mae"], blocks) == "paired bootstrap (2,000 resamples), Student's t, 20 groups"
