"""The error budget: how small a level one comparison with the champion may have, so that all of them together stay within alpha.

Every cycle has another challenger, so each comparison is a hypothesis of its own, and evidence cannot be carried from one to the next as
an e-process would. What bounds all of them is the union bound: the probability of any wrong promotion is at most the sum of the levels, however
the comparisons depend on each other and on what earlier ones came to. So every comparison spends its level (alpha spending), whatever it comes to.

- `per=n`: each of n comparisons has alpha / n; after them nothing is left (Bonferroni).
- `per="year"`: eleven twelfths of alpha accrue evenly over a year, one twelfth is at hand from the start, and no more than that is ever at hand;
  a comparison spends half of what is at hand. So in any year at most alpha is spent, however often is asked; a burst of comparisons gets ever
  smaller levels and a rare one the largest. The year is that of the data's own time where the pipeline has one, so that a replay decides as it did live.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tasks.evidence import Budget
from tasks.spec import Gate

YEAR = timedelta(days=365.2425)
AT_HAND = 1 / 12  # of alpha, the most that is there at a time
STREAM = "stream"


@dataclass(frozen=True)
class Spending:
    """What one comparison has spent: the level, of which evidence, and where in time (of the data or the clock) it stood."""

    cycle: int
    evidence: str
    level: float
    moment: str


def allot(gate: Gate, spendings: Sequence[Spending], *, golden: str | None, moment: datetime) -> Budget:
    """Give the level that a comparison at `moment` may have, after these spendings in the order they were made; `golden` is the golden set's digest."""
    if gate.per == "year":
        return _of_a_year(gate, [spent for spent in spendings if spent.evidence == STREAM], moment)
    evidence = golden or STREAM
    return _of_a_number(gate, int(gate.per), [spent for spent in spendings if spent.evidence == evidence], evidence)


def _of_a_number(gate: Gate, number: int, spendings: Sequence[Spending], evidence: str) -> Budget:
    spent = sum(part.level for part in spendings)
    allowed = gate.alpha / number if len(spendings) < number else 0.0
    left = max(0, number - len(spendings) - 1)
    if allowed:
        sentence = (
            f"comparison {len(spendings) + 1} of {number} at level {allowed:.2g}, of alpha {gate.alpha:g} in all; {left} are left after it"
        )
    else:
        sentence = (
            f"all {number} comparisons of alpha {gate.alpha:g} are spent: no result is evidence any more. Give a fresh golden set "
            "(Gate.golden: rows that no model was chosen by) to begin a new budget, or raise Gate.per and say why"
        )
    return Budget(
        gate.alpha, f"{number} decisions", evidence, allowed, spent, max(0.0, gate.alpha - spent - allowed), len(spendings), sentence
    )


def _of_a_year(gate: Gate, spendings: Sequence[Spending], moment: datetime) -> Budget:
    most, rate = gate.alpha * AT_HAND, gate.alpha * (1 - AT_HAND)
    at_hand, last = most, None
    for part in spendings:
        here = datetime.fromisoformat(part.moment)
        at_hand = min(most, at_hand + _accrued(rate, last, here)) - part.level
        last = here if last is None else max(last, here)
    at_hand = max(0.0, min(most, at_hand + _accrued(rate, last, moment)))
    allowed, recent = at_hand / 2, sum(part.level for part in spendings if datetime.fromisoformat(part.moment) > moment - YEAR)
    sentence = (
        f"this comparison has level {allowed:.2g}: half of the {at_hand:.2g} at hand of alpha {gate.alpha:g} a year; "
        f"{recent:.2g} was spent in the year before it, in {len(spendings)} comparisons so far"
    )
    return Budget(gate.alpha, "year", STREAM, allowed, recent, at_hand - allowed, len(spendings), sentence)


def _accrued(rate: float, last: datetime | None, here: datetime) -> float:
    """Give what accrues from the newest moment so far; what comes with an earlier time brings nothing."""
    return 0.0 if last is None else rate * max(0.0, (here - last) / YEAR)
