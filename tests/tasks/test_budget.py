"""The error budget: whatever the comparisons and their times, their levels together stay within alpha."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.budget import STREAM, YEAR, Spending, allot
from tasks.evidence import Budget
from tasks.spec import Gate

START = datetime(2024, 1, 1)


def spend(gate: Gate, moments: list[datetime], golden: str | None = None) -> list[Spending]:
    """Compare at each of the moments, and spend what is allowed."""
    spent: list[Spending] = []
    for cycle, moment in enumerate(moments):
        found = allot(gate, spent, golden=golden, moment=moment)
        if found.allowed:
            spent.append(Spending(cycle, found.evidence, found.allowed, moment.isoformat()))
    return spent


def test_a_number_of_decisions_share_alpha_evenly_and_then_nothing_is_left() -> None:
    gate = Gate(metric="accuracy", alpha=0.04, per=4)
    spent = spend(gate, [START] * 10)
    assert [part.level for part in spent] == pytest.approx([0.01] * 4)
    found = allot(gate, spent, golden=None, moment=START)
    assert (found.allowed, found.left) == (0.0, 0.0)
    assert "Give a fresh golden set" in found.sentence


def test_a_fresh_golden_set_begins_a_new_budget_and_the_old_one_stays_spent() -> None:
    gate = Gate(metric="accuracy", alpha=0.04, per=2, golden="golden.csv")
    spent = spend(gate, [START] * 5, golden="first")
    assert len(spent) == 2
    assert allot(gate, spent, golden="second", moment=START).allowed == pytest.approx(0.02)
    assert allot(gate, spent, golden="first", moment=START).allowed == 0.0


@given(st.lists(st.floats(0, 800 * 24), min_size=1, max_size=80), st.floats(0.001, 0.4))
def test_no_year_ever_spends_more_than_alpha(hours: list[float], alpha: float) -> None:
    moments = [START + timedelta(hours=hour) for hour in sorted(hours)]
    spent = spend(Gate(metric="accuracy", alpha=alpha), moments)
    for part in spent:
        begin = datetime.fromisoformat(part.moment)
        within = [other.level for other in spent if begin <= datetime.fromisoformat(other.moment) < begin + YEAR]
        assert sum(within) <= alpha * (1 + 1e-9)
    assert all(part.level > 0 for part in spent)


@given(st.lists(st.integers(-400, 400), min_size=1, max_size=40))
def test_times_that_go_back_and_forth_bring_nothing_twice(days: list[int]) -> None:
    spent = spend(Gate(metric="accuracy"), [START + timedelta(days=day) for day in days])
    newest, passed = START + timedelta(days=days[0]), timedelta(0)
    for day in days:
        here = START + timedelta(days=day)
        passed, newest = passed + max(timedelta(0), here - newest), max(newest, here)
    assert sum(part.level for part in spent) <= 0.05 * (1 / 12 + passed / YEAR) + 1e-9


def test_weekly_comparisons_get_an_even_level_and_a_burst_ever_smaller_ones() -> None:
    gate = Gate(metric="accuracy")
    weekly = spend(gate, [START + timedelta(weeks=week) for week in range(100)])
    assert weekly[-1].level == pytest.approx(weekly[-2].level, rel=1e-3)
    assert weekly[-1].level == pytest.approx(0.05 * 11 / 12 * timedelta(weeks=1) / YEAR, rel=1e-3)
    burst = spend(gate, [START] * 5)
    assert [round(first.level / second.level, 6) for first, second in zip(burst, burst[1:], strict=False)] == [2.0] * 4


def test_a_time_far_in_the_future_frees_no_more_than_a_month_s_worth() -> None:
    gate = Gate(metric="accuracy")
    spent = spend(gate, [START, START, START])
    assert allot(gate, spent, golden=None, moment=datetime(2999, 1, 1)).allowed <= 0.05 / 12 / 2


def test_the_sentence_says_what_was_spent_and_what_is_at_hand() -> None:
    found: Budget = allot(
        Gate(metric="accuracy"), [Spending(1, STREAM, 0.002, START.isoformat())], golden=None, moment=START + timedelta(days=30)
    )
    assert found.sentence.startswith("this comparison has level 0.0021: half of the 0.0042 at hand of alpha 0.05 a year; 0.002 was spent")
