"""A made-up stream: an advertiser's visitors, week by week, and who of them converts.

Seeded, and each week by itself: week 7 needs none of the weeks before. The chance of every visitor to convert is known, and with it the
best score that any model could reach. Two things change with time: the mail channel's pull swings with the season (a sine of 26 weeks),
and at week `ABRUPT` the market turns over for good: mail stops working, social takes its place, phones stop being a hindrance.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.metrics import METRICS, score
from tasks.stores import files

WEEKS = 12
ROWS = 4000
ABRUPT = 7
BROKEN_ROWS = 4
REPEATED_ROWS = 1
START = datetime(2026, 1, 5)
STORY = (
    f"[dim]{WEEKS} weeks of {ROWS:,} visitors of an advertiser's site; a model says who converts. Mail's pull swings with the season, and in week {ABRUPT} "
    f"the market turns over for good. Every week has {BROKEN_ROWS} broken rows and {REPEATED_ROWS} repeated one. "
    "The data is made up, so the best possible score of every week is known.[/]"
)
SEGMENTS, CHANNELS, DEVICES = ["new", "returning", "loyal"], ["search", "mail", "social", "affiliate"], ["desktop", "phone", "tablet"]


def visitors(week: int, *, seed: int = 0, rows: int = ROWS) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """Make a week's visitors, one row each in order of time, and the chance of each to convert.

    >>> rows, chance = visitors(3, rows=5)
    >>> rows.height, bool((chance > 0).all() and (chance < 1).all())
    (5, True)
    """
    random = np.random.default_rng([seed, week])
    seconds = np.sort(random.integers(0, 7 * 86_400, rows))
    frame = pl.DataFrame(
        {
            "visitor": [f"{week:03d}-{number:06d}" for number in range(rows)],
            "at": [START + timedelta(weeks=week, seconds=int(second)) for second in seconds],
            "segment": random.choice(SEGMENTS, rows, p=[0.5, 0.35, 0.15]),
            "channel": random.choice(CHANNELS, rows, p=[0.4, 0.2, 0.25, 0.15]),
            "device": random.choice(DEVICES, rows, p=[0.4, 0.5, 0.1]),
            "price": random.gamma(6, 10, rows).round(2),
            "discount": random.choice([0.0, 0.0, 0.05, 0.1, 0.2, 0.3], rows),
            "pages": 1 + random.poisson(4, rows),
            "minutes": random.gamma(2, 3, rows).round(2),
        }
    )
    chance = _chance(frame, week)
    missing = random.uniform(size=(2, rows)) < [[0.08], [0.03]]
    frame = frame.with_columns(
        minutes=pl.when(pl.Series(missing[0])).then(None).otherwise("minutes"),
        device=pl.when(pl.Series(missing[1])).then(None).otherwise("device"),
        converted=pl.Series((random.uniform(size=rows) < chance).astype(int)),
    )
    return frame, chance


def _chance(frame: pl.DataFrame, week: int) -> NDArray[np.float64]:
    """Give 1 / (1 + exp(-score)) of a linear score, whose weights are those of the week."""
    turned, season = week >= ABRUPT, np.sin(2 * np.pi * week / 26)
    channel = {"search": 0.3, "mail": -1.2 if turned else 1.1 + 0.7 * season, "social": 1.4 if turned else -1.0, "affiliate": -0.4}
    device = {"desktop": 0.2, "phone": 0.3 if turned else -0.8, "tablet": 0.0}
    weights = {"segment": {"new": -0.7, "returning": 0.2, "loyal": 1.3}, "channel": channel, "device": device}
    total = sum(frame[name].replace_strict(part, return_dtype=pl.Float64).to_numpy() for name, part in weights.items())
    total = total - 0.8 * (frame["price"].to_numpy() - 60) / 25 + 4 * frame["discount"].to_numpy()
    total = total + 0.25 * (frame["pages"].to_numpy() - 5) + 0.12 * (frame["minutes"].to_numpy() - 6)
    return np.asarray(1 / (1 + np.exp(0.9 - total)), dtype=np.float64)


def best_possible(week: int, metric: str, *, newest: int | None = None, seed: int = 0, rows: int = ROWS) -> float | None:
    """Score the true chances on a week's visitors, or on the `newest` of them: no model can be expected to do better."""
    frame, chance = visitors(week, seed=seed, rows=rows)
    first = 0 if newest is None else max(0, rows - newest)
    predictions = pl.DataFrame({"predicted": (chance[first:] >= 0.5).astype(int), "p_1": chance[first:]})
    return score(METRICS[metric], frame["converted"].to_numpy()[first:], predictions)


def write(week: int, directory: Path, *, seed: int = 0, rows: int = ROWS) -> Path:
    """Land a week as a CSV file, with `BROKEN_ROWS` rows that break the contract and `REPEATED_ROWS` that are there twice."""
    frame, _ = visitors(week, seed=seed, rows=rows)
    text = frame.write_csv(datetime_format="%Y-%m-%dT%H:%M:%S").splitlines()
    cells = text[-1].split(",")
    broken = [_with(cells, 5, "free"), _with(cells, 6, "7.5"), _with(cells, 2, "unheard-of"), _with(cells, 0, "")]
    return files.land("\n".join([*text, *broken, text[1], ""]).encode(), directory, f"week-{week:02d}.csv")


def _with(cells: list[str], place: int, value: str) -> str:
    return ",".join([*cells[:place], value, *cells[place + 1 :]])
