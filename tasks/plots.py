"""Plots of a comparison, challenger against champion, as PNG files."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from tasks.curves import by_model, calibration_bins
from tasks.evidence import Evaluation
from tasks.spec import Kind

_COLOURS = {"challenger": "#0072b2", "champion": "#d55e00"}  # Okabe and Ito's, told apart by every eye
_STYLES = {"challenger": "-", "champion": "--"}
_POINTS = 5000


def draw(kind: Kind, evaluation: Evaluation, metric: str, into: Path) -> tuple[Path, ...]:
    """Draw what fits the kind of target into the directory and give the files."""
    predictions = pl.read_ipc(evaluation.predictions)
    models = by_model(predictions)
    plots: dict[str, Callable[[Axes], None]] = {"scores": lambda axes: _scores(axes, evaluation, metric)}
    if kind == "regression":
        plots |= {"residuals": lambda axes: _residuals(axes, models), "fit": lambda axes: _fit(axes, models)}
    elif kind == "binary" and "p_1" in predictions.columns:
        plots |= {"roc": lambda axes: _roc(axes, models), "calibration": lambda axes: _calibration(axes, models)}
    else:
        plots |= {"confusion": lambda axes: _confusion(axes, models["challenger"])}
    return tuple(_save(name, plot, into) for name, plot in plots.items())


def _save(name: str, plot: Callable[[Axes], None], into: Path) -> Path:
    figure = Figure(figsize=(6.4, 4.8))
    figure.subplots_adjust(left=0.2)  # an automatic layout draws everything several times over
    axes = figure.add_subplot()
    plot(axes)
    path = into / f"{name}.png"
    figure.savefig(path, dpi=110)
    return path


def _scores(axes: Axes, evaluation: Evaluation, metric: str) -> None:
    found = [evaluation.challenger, *([evaluation.champion] if evaluation.champion else []), *evaluation.baselines]
    known = [(scores.model, scores.metrics[metric]) for scores in found if scores.metrics.get(metric) is not None]
    colours = {evaluation.challenger.model: _COLOURS["challenger"]}
    colours |= {evaluation.champion.model: _COLOURS["champion"]} if evaluation.champion else {}
    shades = [colours.get(name, "#9a9a9a") for name, _ in known]
    bars = axes.barh([name for name, _ in known], [value or 0.0 for _, value in known], color=shades)
    axes.bar_label(bars, fmt="%.4g", padding=3)
    axes.invert_yaxis()
    axes.set(title=f"{metric} on {evaluation.rows:,} unseen rows", xlabel=metric)
    axes.margins(x=0.15)


def _roc(axes: Axes, models: dict[str, pl.DataFrame]) -> None:
    for name, rows in models.items():
        wrong, right, _ = roc_curve(rows["truth"].to_numpy(), rows["p_1"].to_numpy())
        axes.plot(wrong, right, _STYLES[name], label=name, color=_COLOURS[name])
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":")
    axes.set(title="ROC on the unseen rows", xlabel="false positive rate", ylabel="true positive rate")
    axes.legend()


def _calibration(axes: Axes, models: dict[str, pl.DataFrame]) -> None:
    for name, rows in models.items():
        binned = calibration_bins(rows)
        axes.plot(binned["p_1"], binned["truth"], _STYLES[name], marker="o", label=name, color=_COLOURS[name])
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":")
    axes.set(title="Calibration on the unseen rows", xlabel="predicted probability", ylabel="observed share")
    axes.legend()


def _residuals(axes: Axes, models: dict[str, pl.DataFrame]) -> None:
    errors = {name: (rows["predicted"] - rows["truth"]).to_numpy() for name, rows in models.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(errors.values())), bins=60)
    for name, values in errors.items():
        axes.hist(values, bins=list(edges), alpha=0.55, label=name, color=_COLOURS[name])
    axes.set(title="Residuals on the unseen rows", xlabel="predicted - true", ylabel="rows")
    axes.legend()


def _fit(axes: Axes, models: dict[str, pl.DataFrame]) -> None:
    for name, rows in models.items():
        shown = rows.tail(_POINTS)
        axes.scatter(shown["truth"], shown["predicted"], s=6, alpha=0.4, label=name, color=_COLOURS[name])
    axes.axline((0, 0), slope=1, color="#bbbbbb", linestyle=":")
    axes.set(title=f"The newest unseen rows (at most {_POINTS:,})", xlabel="true", ylabel="predicted")
    axes.legend()


def _confusion(axes: Axes, rows: pl.DataFrame) -> None:
    labels: Sequence[Any] = sorted(set(rows["truth"]) | set(rows["predicted"]))
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=int)
    for truth, predicted, rows_there in rows.group_by("truth", "predicted").len().iter_rows():
        counts[places[truth], places[predicted]] = rows_there
    axes.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, str(count), ha="center", va="center")
    axes.set(title="Challenger on the unseen rows", xlabel="predicted", ylabel="true", xticks=range(len(labels)), yticks=range(len(labels)))
    axes.set_xticklabels([str(label) for label in labels])
    axes.set_yticklabels([str(label) for label in labels])
