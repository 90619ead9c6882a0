"""Rows to land, and taking them in without servers: observe, stage, commit."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from flows import pipelines
from tasks import settings
from tasks.clean import commit, recover
from tasks.ingest import stage
from tasks.observe import survey
from tasks.records import Arrival, Cleaned
from tasks.spec import Pipeline
from tasks.stores import ledger

STAGING: Path | None = None  # where to stage instead of beside the source


def take_in(source: Path, name: str = "toy") -> Cleaned:
    """Take in everything outstanding, as a cycle does, and give what became of the last batch."""
    return take_in_as(pipelines.get(name), source)


def take_in_as(pipeline: Pipeline, source: Path) -> Cleaned:
    """The same for a pipeline that is no file."""
    return _take_in(pipeline, str(source), STAGING or source.parent / "staged")


def _take_in(pipeline: Pipeline, source: str, staging: Path) -> Cleaned:
    survey(pipeline.name, source)
    lease = ledger.begin(pipeline.name, trigger="test", definition="", flow_run=None)
    try:
        recover(pipeline.name, lease)
        ledger.sort_out(lease)
        staged = stage(pipeline, ledger.outstanding(pipeline.name), staging)
        done = commit(pipeline, lease, staged)
        ledger.end(lease)
        return done
    except BaseException as error:
        ledger.end(lease, error=repr(error))
        raise
    finally:
        ledger.release(lease)


def take_in_from(uri: str, name: str = "toy") -> Cleaned:
    """The same from an address."""
    return _take_in(pipelines.get(name), uri, settings.read().work / "staged")


def arrival(name: str, pipeline: str = "toy") -> Arrival:
    """Give the newest arrival of that name."""
    return next(found for found in ledger.history(pipeline) if found.name == name)


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
