"""A pipeline's rows prepared, a model fitted on them, and its bytes stored as a registered model's are: real files, and no server."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl

from flows import pipelines
from tasks import contract, frames, promote
from tasks.records import Champion, Fitted, Prepared, Snapshot
from tasks.spec import Pipeline
from tasks.stores import kept, models


@dataclass(frozen=True)
class Stored:
    """What a cycle has before its probe."""

    pipeline: Pipeline
    candidate: Champion
    fitted: Fitted
    prepared: Prepared


def prepared(pipeline: Pipeline, rows: pl.DataFrame, unseen: int, into: Path) -> Prepared:
    """Stage rows as `clean` and `feature` do, the last `unseen` of them set aside."""
    columns = list(contract.dtypes(pipeline.contract))
    rows = rows.select(columns).with_columns(frames.fills(pipeline, columns))
    features = frames.apply_features(pipeline.features, frames.to_pandas(rows.select(frames.known_in_time(pipeline))), pipeline.name)
    target = frames.target_of(pipeline, rows)
    into.mkdir(parents=True, exist_ok=True)
    pl.from_pandas(features, nan_to_null=False).with_columns(target.alias("_target")).write_ipc(into / "features.arrow")
    rows.tail(unseen).write_ipc(into / "unseen.arrow")
    return Prepared(
        snapshot=Snapshot(uri="", version=0, rows=rows.height, first=None, last=None, digest=""),
        features=str(into / "features.arrow"),
        raw=str(into / "unseen.arrow"),
        columns={str(name): str(dtype) for name, dtype in features.dtypes.items()},
        train=rows.height - unseen,
        unseen=unseen,
        classes=(),
        train_classes=(),
        unseen_classes=(),
        trained_until=None,
        cut=None,
    )


def store(
    name: str, rows: pl.DataFrame, into: Path, *, unseen: int = 150, spoil: Callable[[Any], Any] = lambda model: model, definition: str = ""
) -> Stored:
    """Fit the first candidate of a pipeline and keep its verified copy; the stored model is `spoil` of the fitted one.

    With `definition` that text travels with the model instead of the pipeline's file.
    """
    pipeline = pipelines.get(name)
    ready = prepared(pipeline, rows, unseen, into / "staged")
    features, target = frames.read_staged(ready, 0, ready.train)
    model = pipeline.candidates[0].estimator.fit(features, target)
    joblib.dump(model, into / "staged" / "model.joblib")
    source = into / "definition.py"
    source.write_text(definition or pipelines.path(name).read_text())
    directory = into / "made"
    models.save(spoil(model), source, features, directory, golden=promote.golden_rows(pipeline, ready))
    sha256 = kept.digest(directory)
    kept.place(sha256).parent.mkdir(parents=True, exist_ok=True)
    shutil.move(directory, kept.place(sha256))
    candidate = Champion(
        pipeline=name,
        version=1,
        model_uri="models:/m-0",
        sha256=sha256,
        cycle=1,
        candidate=pipeline.candidates[0].name,
        params={},
        trained_until=None,
        trained_version=0,
        since="",
        reason="",
    )
    fitted = Fitted(
        candidate=candidate.candidate, params={}, uri=str(into / "staged" / "model.joblib"), rows=ready.train, seconds=0.0, threads=1
    )
    return Stored(pipeline, candidate, fitted, ready)


def sorts_rows(count: int = 300) -> pl.DataFrame:
    """Make rows of the `sorts` pipeline."""
    width, height = np.random.default_rng(0).uniform(0, 2, (2, count))
    sort = np.where((width < 1) & (height < 1), "small", np.where(width > height, "flat", "tall"))
    return pl.DataFrame({"width": width, "height": height, "sort": sort})


def amounts_rows(count: int = 300) -> pl.DataFrame:
    """Make rows of the `amounts` pipeline."""
    random = np.random.default_rng(0)
    days = np.datetime64("2024-01-01") + np.sort(random.integers(0, 60, count)).astype("timedelta64[D]")
    weight, urgent = random.uniform(1, 9, count), random.integers(0, 2, count).astype(bool)
    amount = 3 * weight + 5 * urgent + random.normal(0, 0.5, count)
    return pl.DataFrame({"day": days, "weight": weight, "urgent": urgent, "amount": amount}).with_columns(pl.col("day").cast(pl.Date))
