"""Telling a decision: effects, drift, plots, page, markdown and card on a holdout of Elec2's size, against scoring that holdout in as many ways."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
from numpy.typing import NDArray

from tasks.spec import Pipeline
from tests.benchmarks import data
from tests.benchmarks.cycle import fresh_home
from tests.benchmarks.measure import block, console, median, tell

UNSEEN = 1_344
TRAIN = 20_000
ALLOWED = 1.2  # CPU seconds for all of it; logging left out


def told(runs: int) -> None:
    """CPU of the whole report, and of its parts, with each of two models of scikit-learn."""
    with tempfile.TemporaryDirectory() as place, fresh_home():
        if not data.elec2(Path(place) / "in", parts=1):
            console.print(f"Elec2 is not at {data.ELEC2}: set RATCHET_BENCH_ELEC2 to its file. The figures on it are left out.")
            return
        for name in ("boosting", "forest"):
            _told(name, Path(place), runs)


def _told(name: str, place: Path, runs: int) -> None:
    from sklearn.inspection import permutation_importance
    from threadpoolctl import threadpool_limits

    from flows import pipelines
    from tasks import frames, report
    from tasks.drift import drift
    from tasks.effects import effects
    from tasks.train import fit_rows
    from tests.told import DECISION, staged

    spec = pipelines.get("electricity")
    rows = pl.read_csv(place / "in" / "part-000.csv", try_parse_dates=True).head(TRAIN + UNSEEN)
    prepared = staged(spec, rows, TRAIN, place)
    candidate = next(part for part in spec.candidates if part.name == name)
    fitted = fit_rows(spec, prepared, candidate, {}, TRAIN, place)
    model, (features, truth) = report.joblib.load(fitted.uri), frames.read_staged(prepared, TRAIN, TRAIN + UNSEEN)
    _predictions(spec, model, features, truth.to_numpy(), place)
    assert DECISION.evaluation
    decision = replace(DECISION, evaluation=replace(DECISION.evaluation, predictions=str(place / "predictions.arrow")))
    into, before = place / "out", pl.read_ipc(prepared.features)
    into.mkdir(exist_ok=True)

    def details() -> dict[str, Any]:
        return report.details(spec, prepared, fitted) | report.what_it_goes_by(spec, prepared, fitted)

    more = details()

    def whole() -> None:
        report.write(report.facts_of(decision, details()), into)

    parts: dict[str, Callable[[], object]] = {
        "details (drift, effects, target)": details,
        "of those effects": lambda: effects(spec, model, features, truth.to_numpy()),
        "of those drift": lambda: drift(before.head(TRAIN), before.slice(TRAIN)),
        "page, markdown, card and plots": lambda: report.write(report.facts_of(decision, more), into),
    }
    whole()  # the first time things are imported, and the commit is asked for

    def theirs() -> None:
        with threadpool_limits(1):
            permutation_importance(model, features, truth, scoring="neg_log_loss", n_repeats=5, random_state=0)

    floor = [block(theirs) for _ in range(runs)]
    costs = [block(whole) for _ in range(runs)]
    tell(
        f"whole report, {UNSEEN:,} unseen rows, {name}, CPU",
        runs,
        median(costs).cpu,
        ALLOWED,
        1.0,
        "CPU s",
        note=f"wall {median(costs).wall:.2f} s",
    )
    for what, part in parts.items():
        cost = median([block(part) for _ in range(runs)])
        console.print(f"  {what:60} {cost.cpu:.3f} CPU s, wall {cost.wall:.3f} s", highlight=False)
    ours = median([block(parts["of those effects"]) for _ in range(runs)])
    tell("  effects against scikit-learn's permutation_importance", runs, ours.cpu, median(floor).cpu, 1.0, "CPU s")


def _predictions(spec: Pipeline, model: Any, features: pd.DataFrame, truth: NDArray[Any], place: Path) -> None:
    from tasks import frames
    from tasks.evaluate import stage_predictions

    made = frames.predictions_of(spec, model, features)
    stage_predictions(truth, made, made, place / "predictions.arrow")
