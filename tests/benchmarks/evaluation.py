"""Intervals of every metric and of ten slices, against a plain loop that resamples rows and asks scikit-learn."""

from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
from sklearn import metrics as sk

from tests.benchmarks.measure import block, median, tell

LOOPED = 3  # resamples of the floor, from which its 2,000 are reckoned


def evaluation(runs: int, rows: int) -> None:
    """A binary comparison (8 metrics) and a regression (8 metrics) with 10 slices each: blocks of time, and independent rows."""
    for blocks in ("time", "rows"):
        ours, looped = [], []
        for _ in range(runs):
            cost = [block(partial(_compared, kind, blocks, rows)) for kind in ("binary", "regression")]
            ours.append(sum(part.cpu for part in cost))
            looped.append(_floor(rows))
        middle, floor = float(np.median(ours)), float(np.median(looped))
        tell(
            f"16 metrics, 10 slices, {rows:,} rows, blocks={blocks!r}, against a loop",
            runs,
            middle,
            floor,
            1 / 100,
            "CPU s",
            note="floor: 2,000 resamples",
        )


def _compared(kind: str, blocks: str, rows: int) -> None:
    from flows import pipelines
    from tasks.evaluate import _against, _Unseen

    random = np.random.default_rng(0)
    truth, new, old = _binary(random, rows) if kind == "binary" else _numbers(random, rows)
    spec = pipelines.get("visitors")
    gate = replace(spec.gate, metric="log_loss" if kind == "binary" else "mae", bound=None, bounds={})
    changes = {"kind": kind, "blocks": blocks, "gate": gate, "slices": ()}
    spec = replace(spec, **changes, positive=spec.positive if kind == "binary" else None)
    parts = {f"slice {place}": np.arange(rows) % 10 == place for place in range(10)}
    _against(spec, _Unseen(pl.DataFrame({"row": np.arange(rows)}), truth, parts), new, old, 0.05 / 52)


def _binary(random: np.random.Generator, rows: int) -> tuple[np.ndarray, pl.DataFrame, pl.DataFrame]:
    truth = random.integers(0, 2, rows)
    chances = [np.clip(0.5 + (truth - 0.5) * 0.3 + random.normal(0, 0.2, rows), 0.01, 0.99) for _ in range(2)]
    new, old = (pl.DataFrame({"predicted": (made >= 0.5).astype(int), "p_1": made}) for made in chances)
    return truth, new, old


def _numbers(random: np.random.Generator, rows: int) -> tuple[np.ndarray, pl.DataFrame, pl.DataFrame]:
    truth = random.uniform(5, 15, rows)
    new, old = (pl.DataFrame({"predicted": truth + random.normal(0, 1, rows)}) for _ in range(2))
    return truth, new, old


def _floor(rows: int) -> float:
    """Reckon the CPU seconds that 2,000 resamples take which scikit-learn scores one by one, the slices' metric included."""
    from tasks.resample import RESAMPLES

    random = np.random.default_rng(0)
    truth, *models = _binary(random, rows)
    numbers, *errors = _numbers(random, rows)

    def once() -> None:
        for _ in range(LOOPED):
            drawn = random.integers(rows, size=rows)
            for made, estimate in zip(models, errors, strict=True):
                said, p = made["predicted"].to_numpy()[drawn], made["p_1"].to_numpy()[drawn]
                for metric in (sk.accuracy_score, sk.balanced_accuracy_score, sk.f1_score):
                    metric(truth[drawn], said)
                for metric in (sk.roc_auc_score, sk.average_precision_score, sk.log_loss, sk.brier_score_loss):
                    metric(truth[drawn], p)
                for metric in (sk.mean_absolute_error, sk.root_mean_squared_error, sk.r2_score, sk.mean_absolute_percentage_error):
                    metric(numbers[drawn], estimate["predicted"].to_numpy()[drawn])
                for quantile in (0.1, 0.5, 0.9):
                    sk.mean_pinball_loss(numbers[drawn], estimate["predicted"].to_numpy()[drawn], alpha=quantile)
                for place in range(10):
                    sk.log_loss(truth[drawn][place::10], p[place::10])

    return median([block(once)]).cpu * RESAMPLES / LOOPED
