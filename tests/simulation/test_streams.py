"""A year of decisions on equal models promotes a wrong one no more often than the budget says, and finds better ones."""

from scipy.stats import binomtest

from tests.simulation import streams
from tests.simulation.streams import LEVEL, Share


def within_budget(share: Share) -> bool:
    """Tell whether so many streams with a wrong promotion are no proof of a broken budget."""
    return bool(binomtest(share.hits, share.trials, LEVEL, alternative="greater").pvalue > 1e-3)


def test_equal_models_are_promoted_within_the_budget_where_naive_rules_always_promote_one() -> None:
    naive, plain, ours = streams.equal_accuracy(300, seed=1).values()
    assert naive.hits == 300
    assert not within_budget(plain)
    assert within_budget(ours)


def test_autocorrelated_losses_with_heavy_tails_stay_within_the_budget() -> None:
    found = streams.equal_losses(100, seed=1)
    assert {name: share for name, share in found.items() if not within_budget(share)} == {}
    assert sum(share.hits for share in found.values()) > 0  # and it is a test: some streams do come to a promotion


def test_a_larger_gain_and_more_rows_promote_sooner() -> None:
    waits = {(gain, rows): streams.median_wait(found) for gain, rows, found in streams.better_accuracy(300, seed=1)}
    assert waits[0.02, 10_000] == 1
    assert waits[0.02, 10_000] <= waits[0.01, 10_000] <= waits[0.005, 10_000]
    assert waits[0.02, 2_000] <= waits[0.02, 500]
