"""What many tests need: a home of their own, the test pipelines, and rows to land."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

PIPELINES = Path(__file__).parent / "pipelines"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test alone, with the test pipelines and without waiting for files to settle."""
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RATCHET_PIPELINES", str(PIPELINES))
    monkeypatch.setenv("RATCHET_SETTLE", "0")
    for name in ("RATCHET_LEDGER_URL", "RATCHET_LAKE", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def toy_rows(count: int = 300, *, first: int = 0, flip: bool = False, seed: int = 0) -> pl.DataFrame:
    """Make rows of the toy pipeline; with `flip` the label follows the number the other way round."""
    random = np.random.default_rng([seed, first])
    x = random.uniform(-3, 3, count)
    chance = 1 / (1 + np.exp(-(2 if not flip else -2) * x))
    start = datetime(2024, 1, 1) + timedelta(minutes=first)
    return pl.DataFrame(
        {
            "id": np.arange(first, first + count),
            "at": [start + timedelta(minutes=minute) for minute in range(count)],
            "x": x.round(6),
            "colour": random.choice(["red", "green"], count),
            "after": random.uniform(0, 1, count).round(6),
            "label": np.where(random.uniform(size=count) < chance, "yes", "no"),
        }
    )
