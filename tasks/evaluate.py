"""Evaluate: score champion, challenger and trivial baselines on the same unseen rows, and give the difference with an interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE
from scipy.stats import t as student

from tasks import frames
from tasks.errors import BrokenPipeline, ModelRejected
from tasks.evidence import Difference, Evaluation, Scores
from tasks.metrics import METRICS, Metric, score, score_all
from tasks.records import Champion, Fitted, Prepared
from tasks.spec import Pipeline, Slice
from tasks.stores import models

BLOCKS = 20


def difference(metric: Metric, truth: NDArray[Any], new: pl.DataFrame, old: pl.DataFrame, confidence: float) -> Difference:
    """Give how much better `new` predicts than `old` on the same rows in order of time, with a two-sided interval.

    The delete-a-group jackknife over 20 consecutive blocks (Kott, "The delete-a-group jackknife", J. Official Statistics 17, 2001), with
    Student's t of 19 degrees of freedom. Blocks of time keep rows together that are alike, so that n is not overstated. Where
    the metric is undefined on the whole or without some block, the interval is undefined.
    """
    improvement = _improvement(metric, truth, new, old)
    blocks = np.array_split(np.arange(len(truth)), min(BLOCKS, len(truth)))
    without = [_improvement(metric, np.delete(truth, block), _drop(new, block), _drop(old, block)) for block in blocks]
    method = f"delete-a-group jackknife, {len(blocks)} blocks in order of time"
    if improvement is None or len(blocks) < 2 or any(value is None for value in without):
        return Difference(metric.name, improvement, None, None, confidence, method)
    values = np.array(without, dtype=float)
    groups = len(values)
    error = math.sqrt((groups - 1) / groups * float(((values - values.mean()) ** 2).sum()))
    reach = float(student.ppf((1 + confidence) / 2, groups - 1)) * error
    return Difference(metric.name, improvement, improvement - reach, improvement + reach, confidence, method)


def _improvement(metric: Metric, truth: NDArray[Any], new: pl.DataFrame, old: pl.DataFrame) -> float | None:
    ours, theirs = score(metric, truth, new), score(metric, truth, old)
    return None if ours is None or theirs is None else metric.better_by(ours, theirs)


def _drop(frame: pl.DataFrame, block: NDArray[Any]) -> pl.DataFrame:
    first, last = int(block[0]), int(block[-1]) + 1
    return pl.concat([frame.head(first), frame.slice(last)])


def constant(pipeline: Pipeline, past: pl.Series, rows: int) -> pl.DataFrame:
    """Predict for every row the past's mean or its most frequent label, with the past's shares as probabilities."""
    if pipeline.kind == "regression":
        return pl.DataFrame({"predicted": [past.mean()]}).select(pl.col("predicted").repeat_by(rows).explode())
    shares = {label: float((past == label).mean() or 0) for label in _labels(pipeline, past)}
    row = {"predicted": max(shares, key=lambda label: shares[label]), **_chances(pipeline, shares)}
    return pl.DataFrame([row]).select(pl.all().repeat_by(rows).explode())


def lagged(pipeline: Pipeline, target: pl.Series, first: int, lag: int) -> pl.DataFrame | None:
    """Predict for each row from `first` the target `lag` rows earlier; its probabilities are how often each label followed in the past.

    Each count of the past is raised by one (Laplace). None where a row has no earlier one at that lag.
    """
    if lag > first:
        return None
    before = target.shift(lag)
    if pipeline.kind == "regression":
        return pl.DataFrame({"predicted": before.slice(first)})
    labels = _labels(pipeline, target.head(first))
    followed = {label: _shares(target.head(first).filter((before.head(first) == label).fill_null(False)), labels) for label in labels}
    unknown = {label: 1 / len(labels) for label in labels}
    rows = [_chances(pipeline, followed.get(label, unknown)) for label in before.slice(first).to_list()]
    return pl.DataFrame({"predicted": before.slice(first)}).hstack(pl.DataFrame(rows))


def _labels(pipeline: Pipeline, past: pl.Series) -> list[Any]:
    return [0, 1] if pipeline.kind == "binary" else past.unique().sort().to_list()


def _shares(values: pl.Series, labels: Sequence[Any]) -> dict[Any, float]:
    return {label: (1 + int((values == label).sum())) / (len(labels) + len(values)) for label in labels}


def _chances(pipeline: Pipeline, shares: Mapping[Any, float]) -> dict[str, float]:
    return {"p_1": shares[1]} if pipeline.kind == "binary" else {f"p_{label}": share for label, share in shares.items()}


@dataclass(frozen=True)
class _Unseen:
    """The rows of the comparison: their target, raw values and named parts."""

    truth: NDArray[Any]
    parts: Mapping[str, NDArray[np.bool_]]


def slices_of(pipeline: Pipeline, raw: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Give the pipeline's slices as masks over the raw rows; a column makes one slice for each of its values, at most 50."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for part in pipeline.slices:
        if isinstance(part, str):
            for value in sorted(raw[part].dropna().unique().tolist())[:50]:
                masks[f"{part}={value:g}" if isinstance(value, float) else f"{part}={value}"] = (raw[part] == value).to_numpy(dtype=bool)
        else:
            masks[part.name] = _mask(pipeline.name, part, raw)
    return masks


def _mask(name: str, part: Slice, raw: pd.DataFrame) -> NDArray[np.bool_]:
    try:
        return np.asarray(part.where(raw), dtype=bool)
    except Exception as error:  # whatever the user's function raises, it is that function which has to be corrected
        raise BrokenPipeline(
            f"Slice {part.name!r} of {name!r} raised {type(error).__name__}: {error}. Correct it in the pipeline's file."
        ) from error


def scores_of(pipeline: Pipeline, model: str, unseen: _Unseen, predictions: pl.DataFrame) -> Scores:
    """Score predictions on all unseen rows by every metric, and on each slice by the gate's."""
    metric = METRICS[pipeline.gate.metric]
    parts = {name: {metric.name: score(metric, unseen.truth[mask], predictions.filter(mask))} for name, mask in unseen.parts.items()}
    return Scores(model=model, metrics=score_all(pipeline.kind, unseen.truth, predictions), slices=parts)


def champion_predictions(pipeline: Pipeline, champion: Champion, raw: pl.DataFrame) -> pl.DataFrame:
    """Predict raw rows with the champion, through the features that came with it.

    Raises:
        ModelRejected: if its bytes or types are not those the ledger recorded.
        BrokenPipeline: if its features no longer run on these rows.
    """
    loaded = models.load(champion)
    frame = frames.to_pandas(raw.select(frames.known_in_time(pipeline)))
    features = frames.apply_features(loaded.features, frame, pipeline.name)
    frames.check_features(loaded.columns, features)
    return frames.predictions_of(pipeline, loaded.estimator, features)


def compare(pipeline: Pipeline, prepared: Prepared, challenger: Fitted, champion: Champion | None, into: Path) -> Evaluation:
    """Score all on the unseen rows and stage their predictions in `into`; a champion that cannot be loaded is reported, not left out."""
    target, first = pl.scan_ipc(prepared.features).select("_target").collect().to_series(), prepared.train
    raw = pl.read_ipc(prepared.raw)
    unseen = _Unseen(target.slice(first).to_numpy(), slices_of(pipeline, frames.to_pandas(raw)))
    model = joblib.load(challenger.uri)
    ours = frames.predictions_of(pipeline, model, frames.read_staged(prepared, first, first + prepared.unseen)[0])
    theirs, problem = _theirs(pipeline, champion, raw)
    past = target.head(first)
    required: dict[str, pl.DataFrame | None] = {
        "majority" if pipeline.kind != "regression" else "mean": constant(pipeline, past, raw.height)
    }
    references: dict[str, pl.DataFrame | None] = {}
    if pipeline.time is not None:
        required["last_value"] = lagged(pipeline, target, first, pipeline.label_lag)
        references = {"previous_row": lagged(pipeline, target, first, 1)} if pipeline.label_lag > 1 else {}
    metric = METRICS[pipeline.gate.metric]
    stage_predictions(unseen.truth, ours, theirs, into / "predictions.arrow")
    return Evaluation(
        rows=raw.height,
        first=prepared.cut,
        last=prepared.snapshot.last,
        challenger=scores_of(pipeline, challenger.candidate, unseen, ours),
        champion=scores_of(pipeline, f"version {champion.version}", unseen, theirs) if champion and theirs is not None else None,
        baselines=tuple(scores_of(pipeline, name, unseen, made) for name, made in required.items() if made is not None),
        references=tuple(scores_of(pipeline, name, unseen, made) for name, made in references.items() if made is not None),
        difference=difference(metric, unseen.truth, ours, theirs, pipeline.gate.confidence) if theirs is not None else None,
        slice_rows={name: int(mask.sum()) for name, mask in unseen.parts.items()},
        predictions=str(into / "predictions.arrow"),
        metric=metric.name,
        training=_training(pipeline, prepared, model),
        champion_error=problem,
    )


def _training(pipeline: Pipeline, prepared: Prepared, model: Any) -> dict[str, float | None]:
    features, truth = frames.read_staged(prepared, 0, prepared.train)
    return score_all(pipeline.kind, truth.to_numpy(), frames.predictions_of(pipeline, model, features))


def _theirs(pipeline: Pipeline, champion: Champion | None, raw: pl.DataFrame) -> tuple[pl.DataFrame | None, str | None]:
    if champion is None:
        return None, None
    try:
        return champion_predictions(pipeline, champion, raw), None
    except (ModelRejected, BrokenPipeline) as error:
        return None, str(error)


def stage_predictions(truth: NDArray[Any], ours: pl.DataFrame, theirs: pl.DataFrame | None, path: Path) -> None:
    """Write `truth`, the challenger's columns and, prefixed "champion_", the champion's, row by row."""
    others = [] if theirs is None else theirs.rename(lambda name: f"champion_{name}").get_columns()
    ours.hstack([pl.Series("truth", truth), *others]).write_ipc(path, compression="uncompressed")


@task(name="evaluate", task_run_name="evaluate {challenger.candidate}", cache_policy=NO_CACHE, persist_result=False)
def evaluate(pipeline: Pipeline, prepared: Prepared, challenger: Fitted, champion: Champion | None, into: str) -> Evaluation:
    """Compare the challenger with the champion and the baselines on the unseen rows."""
    return compare(pipeline, prepared, challenger, champion, Path(into))
