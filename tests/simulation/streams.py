"""Streams of decisions on models whose true difference is known, judged by `tasks.intervals` itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import binomtest

from tasks.blocks import BLOCKS, time_blocks
from tasks.intervals import difference, mcnemar
from tasks.metrics import METRICS

CYCLES, LEVEL = 52, 0.05
DISAGREEING = 0.10  # share of rows that exactly one of the two models has right
WARM_UP = 100
NEAR = 2.8  # in standard errors; the gate asks for 3.6 (Student's t, 19 degrees of freedom)


@dataclass(frozen=True)
class Share:
    """How many of so many streams."""

    hits: int
    trials: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """Give Clopper and Pearson's interval."""
        found = binomtest(self.hits, self.trials).proportion_ci(confidence, method="exact")
        return float(found.low), float(found.high)


def equal_accuracy(count: int, seed: int, rows: int = 2_000) -> dict[str, Share]:
    """Judge equal models on fresh rows, cycle after cycle, by the sign, by a plain 5 % test, and at the budget's level."""
    gained, lost = _discordant(np.random.default_rng(seed), count, rows, 0.0)
    judged = {
        "naive: any improvement": gained > lost,
        "a plain 5 % test each time": mcnemar(gained, lost, rows, LEVEL)[0] > 0,
        f"ours: McNemar at {LEVEL} / {CYCLES}": mcnemar(gained, lost, rows, LEVEL / CYCLES)[0] > 0,
    }
    return {name: Share(int(promoted.any(axis=1).sum()), count) for name, promoted in judged.items()}


def better_accuracy(count: int, seed: int) -> Iterator[tuple[float, int, NDArray[Any]]]:
    """For each gain and each number of rows a cycle, give the cycle in which each stream promotes (one more than the last: never)."""
    random = np.random.default_rng(seed)
    for gain in (0.005, 0.01, 0.02):
        for rows in (500, 2_000, 10_000):
            gained, lost = _discordant(random, count, rows, gain)
            promoted = mcnemar(gained, lost, rows, LEVEL / CYCLES)[0] > 0
            yield gain, rows, np.where(promoted.any(axis=1), promoted.argmax(axis=1) + 1, CYCLES + 1)


def median_wait(waits: NDArray[Any]) -> float:
    """Give the median cycle of promotion, above the last cycle where less than half of the streams came to one."""
    return float(np.median(waits))


def _discordant(random: np.random.Generator, count: int, rows: int, gain: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw the rows that only the challenger and that only the champion has right (streams x cycles each)."""
    shares = [(DISAGREEING + gain) / 2, (DISAGREEING - gain) / 2, 1 - DISAGREEING]
    drawn = random.multinomial(rows, shares, size=(count, CYCLES))
    return drawn[..., 0], drawn[..., 1]


def equal_losses(count: int, seed: int) -> dict[str, Share]:
    """Judge equal models by a mean loss over blocks of time at the budget's level, where the rows' differences have several shapes.

    Each is (autocorrelation from row to row, heavy tails: Student's t of 3 degrees of freedom, rows a cycle).
    """
    shapes = [(carry, heavy, rows) for carry in (0.0, 0.5) for heavy in (False, True) for rows in (500, 2_000)] + [(0.8, True, 2_000)]
    made = {}
    for number, (carry, heavy, rows) in enumerate(shapes):
        random = np.random.default_rng([seed, number])
        hits = sum(_any_promotion(random, carry, heavy, rows) for _ in range(count))
        made[f"AR(1) of {carry}, {'heavy tails' if heavy else 'normal'}, {rows:,} rows"] = Share(hits, count)
    return made


def _any_promotion(random: np.random.Generator, carry: float, heavy: bool, rows: int) -> bool:
    """Play one stream; only cycles that come near a promotion, by the plain spread of their blocks, are judged by `difference` itself."""
    noise = random.standard_t(3, (CYCLES, rows + WARM_UP)) if heavy else random.normal(size=(CYCLES, rows + WARM_UP))
    gains = lfilter([1], [1, -carry], noise, axis=1)[:, WARM_UP:]
    blocks = gains.reshape(CYCLES, BLOCKS, -1).mean(axis=2)
    t = blocks.mean(axis=1) / (blocks.std(axis=1, ddof=1) / np.sqrt(BLOCKS))
    return any(proven_better(each) for each in gains[t > NEAR])


def proven_better(gains: NDArray[Any]) -> bool:
    """Tell whether a model whose absolute error is smaller by `gains`, row by row, is proven better at the budget's level."""
    truth, new = np.zeros(len(gains)), np.full(len(gains), 1e4)
    frames = [pl.DataFrame({"predicted": made}) for made in (new, new + gains)]
    found = difference(METRICS["mae"], truth, *frames, groups=time_blocks(len(gains)), confidence=0.95, alpha=LEVEL / CYCLES)
    return found.proven_low is not None and found.proven_low > 0
