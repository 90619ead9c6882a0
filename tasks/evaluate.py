"""Evaluate: score champion, challenger and trivial baselines on the same unseen rows, and give the differences with their intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import frames, golden, serving
from tasks.blocks import entities, groups_of
from tasks.errors import BrokenPipeline, ModelRejected, UserError
from tasks.evidence import Difference, Evaluation, Scores
from tasks.intervals import difference, differences
from tasks.metrics import METRICS, score, score_all
from tasks.records import Champion, Fitted, Prepared
from tasks.spec import Pipeline, Slice
from tasks.stores import models
from tasks.stores.kept import Loaded

SLICES_ALPHA = 0.05  # the probability that any slice at all is taken for worse, or for better, and is not


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
    """The rows of the comparison: their raw values, target and named parts."""

    raw: pl.DataFrame
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
        mask = np.asarray(part.where(raw), dtype=bool)
    except Exception as error:  # whatever the user's function raises, it is that function which has to be corrected
        raise BrokenPipeline(
            f"Slice {part.name!r} of {name!r} raised {type(error).__name__}: {error}. Correct it in the pipeline's file."
        ) from error
    if mask.shape != (len(raw),):
        raise BrokenPipeline(
            f"Slice {part.name!r} of {name!r} gave {mask.shape} values for {len(raw)} rows; expected true or false for each."
        )
    return mask


def scores_of(pipeline: Pipeline, model: str, unseen: _Unseen, predictions: pl.DataFrame) -> Scores:
    """Score predictions on all unseen rows by every metric, and on each slice by the gate's."""
    metric = METRICS[pipeline.gate.metric]
    parts = {name: {metric.name: score(metric, unseen.truth[mask], predictions.filter(mask))} for name, mask in unseen.parts.items()}
    return Scores(model=model, metrics=score_all(pipeline.kind, unseen.truth, predictions), slices=parts)


def predicted(model: serving.Model, raw: pl.DataFrame) -> pl.DataFrame:
    """Predict raw rows as a server does, with the features that the model was trained with.

    Raises:
        UserError: if its features no longer run on these rows, or it cannot predict them.
    """
    try:
        return serving.predict(model, raw)
    except UserError:
        raise
    except Exception as error:  # an estimator is the user's too, and may refuse a value that it has not met
        raise BrokenPipeline(
            f"A model of {model.pipeline.name!r} raised {type(error).__name__} when it predicted: {error}. "
            "Let it take values it was not trained on."
        ) from error


def compare(pipeline: Pipeline, prepared: Prepared, challenger: Fitted, champion: Champion | None, into: Path, alpha: float) -> Evaluation:
    """Score all on the unseen rows and stage their predictions in `into`; a champion that cannot be loaded is reported, not left out.

    `alpha` is the one-sided level of what is proven against the champion, on the unseen rows and on the golden set.
    """
    target, first = pl.scan_ipc(prepared.features).select("_target").collect().to_series(), prepared.train
    raw = pl.read_ipc(prepared.raw)
    unseen = _Unseen(raw, target.slice(first).to_numpy(), slices_of(pipeline, frames.to_pandas(raw)))
    model = joblib.load(challenger.uri)
    ours = frames.predictions_of(pipeline, model, frames.read_staged(prepared, first, first + prepared.unseen)[0])
    loaded, problem = _loaded(champion)
    theirs, problem = _theirs(loaded, raw) if loaded else (None, problem)
    required, references = _baselines(pipeline, target, first)
    on_golden, golden_problem = _on_golden(pipeline, Loaded(model, pipeline, prepared.columns), loaded, alpha)
    stage_predictions(unseen.truth, ours, theirs, into / "predictions.arrow")
    evaluation = Evaluation(
        rows=raw.height,
        first=prepared.cut,
        last=prepared.snapshot.last,
        challenger=scores_of(pipeline, challenger.candidate, unseen, ours),
        champion=scores_of(pipeline, f"version {champion.version}", unseen, theirs) if champion and theirs is not None else None,
        baselines=tuple(scores_of(pipeline, name, unseen, made) for name, made in required.items()),
        references=tuple(scores_of(pipeline, name, unseen, made) for name, made in references.items()),
        difference=None,
        slice_rows={name: int(mask.sum()) for name, mask in unseen.parts.items()},
        predictions=str(into / "predictions.arrow"),
        metric=pipeline.gate.metric,
        training=_training(pipeline, prepared, model),
        champion_error=problem,
        golden=on_golden,
        golden_error=golden_problem,
        reused=prepared.reused,
        reused_by=prepared.reused_by,
    )
    return evaluation if theirs is None else replace(evaluation, **_against(pipeline, unseen, ours, theirs, alpha))


def _baselines(pipeline: Pipeline, target: pl.Series, first: int) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
    """Predict the rows from `first` trivially: the baselines that have to be beaten, and those that are only shown."""
    rows = len(target) - first
    required = {"majority" if pipeline.kind != "regression" else "mean": constant(pipeline, target.head(first), rows)}
    lags = {} if pipeline.time is None else {"last_value": pipeline.label_lag, "previous_row": 1}
    made = {name: predicted for name, lag in lags.items() if (predicted := lagged(pipeline, target, first, lag)) is not None}
    if "last_value" in made:
        required["last_value"] = made["last_value"]
    return required, {"previous_row": made["previous_row"]} if pipeline.label_lag > 1 and "previous_row" in made else {}


def _against(pipeline: Pipeline, unseen: _Unseen, ours: pl.DataFrame, theirs: pl.DataFrame, alpha: float) -> dict[str, Any]:
    """Hold the challenger's predictions against the champion's: the fields of an `Evaluation` by name."""
    groups = groups_of(pipeline, unseen.raw)
    metrics = [metric for metric in METRICS.values() if pipeline.kind in metric.kinds]
    found = differences(metrics, unseen.truth, ours, theirs, groups=groups, confidence=pipeline.gate.confidence, alpha=alpha)
    return {
        "difference": found[pipeline.gate.metric],
        "differences": found,
        "slice_differences": slice_differences(pipeline, unseen, ours, theirs),
        "changed": frames.changed(pipeline, unseen.truth, ours, theirs),
    }


def slice_differences(pipeline: Pipeline, unseen: _Unseen, ours: pl.DataFrame, theirs: pl.DataFrame) -> dict[str, Difference]:
    """Give the difference in the gate's metric on each slice that has the gate's `min_slice_rows`.

    All levels are divided by the number of those slices (Bonferroni), so that what is proven of one holds for all of them together: with
    equal models the probability that any slice is proven worse stays below 0.05.
    """
    metric, gate = METRICS[pipeline.gate.metric], pipeline.gate
    tested = {name: mask for name, mask in unseen.parts.items() if mask.sum() >= gate.min_slice_rows}
    confidence, alpha = 1 - (1 - gate.confidence) / max(1, len(tested)), SLICES_ALPHA / max(1, len(tested))
    return {
        name: difference(
            metric,
            unseen.truth[mask],
            ours.filter(mask),
            theirs.filter(mask),
            groups=groups_of(pipeline, unseen.raw.filter(mask)),
            confidence=confidence,
            alpha=alpha,
        )
        for name, mask in tested.items()
    }


def _on_golden(pipeline: Pipeline, challenger: Loaded, champion: Loaded | None, alpha: float) -> tuple[Difference | None, str | None]:
    """Compare both models on the golden set, or say why that failed; a file that is broken is told of without a champion too."""
    if pipeline.gate.golden is None:
        return None, None
    try:
        raw = golden.read(pipeline)
        ours, theirs = predicted(challenger, raw), predicted(champion, raw) if champion else None
    except UserError as error:
        return None, str(error)
    if theirs is None:
        return None, None
    truth = frames.target_of(pipeline, raw).to_numpy()
    groups = entities(raw.select(pipeline.blocks)) if isinstance(pipeline.blocks, tuple) else None
    metric, gate = METRICS[pipeline.gate.metric], pipeline.gate
    return difference(metric, truth, ours, theirs, groups=groups, confidence=gate.confidence, alpha=alpha), None


def _training(pipeline: Pipeline, prepared: Prepared, model: Any) -> dict[str, float | None]:
    features, truth = frames.read_staged(prepared, 0, prepared.train)
    return score_all(pipeline.kind, truth.to_numpy(), frames.predictions_of(pipeline, model, features))


def _loaded(champion: Champion | None) -> tuple[Loaded | None, str | None]:
    try:
        return (None, None) if champion is None else (models.load(champion), None)
    except ModelRejected as error:
        return None, str(error)


def _theirs(champion: Loaded, raw: pl.DataFrame) -> tuple[pl.DataFrame | None, str | None]:
    try:
        return predicted(champion, raw), None
    except UserError as error:
        return None, str(error)


def stage_predictions(truth: NDArray[Any], ours: pl.DataFrame, theirs: pl.DataFrame | None, path: Path) -> None:
    """Write `truth`, the challenger's columns and, prefixed "champion_", the champion's, row by row."""
    others = [] if theirs is None else theirs.rename(lambda name: f"champion_{name}").get_columns()
    ours.hstack([pl.Series("truth", truth), *others]).write_ipc(path, compression="uncompressed")


@task(name="evaluate", task_run_name="evaluate {challenger.candidate}", cache_policy=NO_CACHE, persist_result=False)
def evaluate(pipeline: Pipeline, prepared: Prepared, challenger: Fitted, champion: Champion | None, into: str, alpha: float) -> Evaluation:
    """Compare the challenger with the champion and the baselines on the unseen rows, at level `alpha`."""
    return compare(pipeline, prepared, challenger, champion, Path(into), alpha)
