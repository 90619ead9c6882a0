"""The staged predictions in figures: calibration, residuals or confusion, of the challenger and of the champion."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from tasks.document import Block, Colour, Line, Paragraph, Plot, Table
from tasks.facts import plural, shown
from tasks.spec import Kind

CLASSES = 12
BINS = 30
OTHERS = "(others)"
_COLOURS: Mapping[str, Colour] = {"challenger": "challenger", "champion": "champion"}


def by_model(predictions: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Part staged predictions in those of the challenger and those of the champion, if there is one, each with `truth`."""
    theirs = [name for name in predictions.columns if name.startswith("champion_")]
    models = {"challenger": predictions.drop(theirs)}
    if theirs:
        models["champion"] = predictions.select("truth", *(pl.col(name).alias(name.removeprefix("champion_")) for name in theirs))
    return models


def curves(kind: Kind, predictions: pl.DataFrame) -> tuple[Block, ...]:
    """Give what fits the kind of target: calibration, residuals, or a table of confusion for each model."""
    models = by_model(predictions)
    if kind == "regression":
        return (residuals(models),)
    if kind == "binary" and "p_1" in predictions.columns:
        return (calibration({name: rows for name, rows in models.items() if "p_1" in rows.columns}),)
    return tuple(block for name, rows in models.items() for block in (Paragraph(_told(name, rows)), confusion(rows)))


def _told(name: str, rows: pl.DataFrame) -> str:
    right = rows.filter(pl.col("truth").cast(pl.String) == pl.col("predicted").cast(pl.String)).height
    return f"Confusion of the {name}: {right:,} of {plural(rows.height, 'row', 'rows')} right. Rows are what is true, columns what is predicted."


def calibration_bins(rows: pl.DataFrame) -> pl.DataFrame:
    """Give the mean predicted probability `p_1`, the share of positive labels `truth` and the count `rows` in each tenth that has rows."""
    return (
        rows.filter(pl.col("p_1").is_finite())
        .group_by((pl.col("p_1") * 10).floor().clip(0, 9).alias("bin"))
        .agg(pl.col("p_1").mean(), pl.col("truth").cast(pl.Float64).mean(), pl.len().alias("rows"))
        .sort("bin")
    )


def calibration(models: Mapping[str, pl.DataFrame]) -> Plot:
    """Plot the observed share of positive labels over the predicted probability, by tenths of it."""
    bins = {name: calibration_bins(rows) for name, rows in models.items()}
    lines = [Line("as it should be", ((0.0, 0.0), (1.0, 1.0)), "other")]
    lines += [Line(name, tuple(found.select("p_1", "truth").iter_rows()), _COLOURS[name]) for name, found in bins.items()]
    rows = tuple(
        (name, shown(p), shown(truth), f"{count:,}")
        for name, found in bins.items()
        for p, truth, count in found.select("p_1", "truth", "rows").iter_rows()
    )
    table = Table(("model", "predicted probability", "observed share", "rows"), rows, frozenset({1, 2, 3}))
    return Plot("Calibration on the unseen rows", "predicted probability", "observed share", tuple(lines), table)


def residuals(models: Mapping[str, pl.DataFrame]) -> Plot:
    """Plot how many rows have which residual (predicted - true); the outermost 1 % of all lie outside, and are in the table."""
    errors = {name: (rows["predicted"] - rows["truth"]).cast(pl.Float64) for name, rows in models.items()}
    finite = {name: values.filter(values.is_finite()).to_numpy() for name, values in errors.items()}
    together = np.concatenate([*finite.values(), np.zeros(1)])
    low, high = np.quantile(together, [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    counts = {name: np.histogram(values, bins=edges)[0] for name, values in finite.items()}
    highest = float(max((found.max() for found in counts.values()), default=0)) or 1.0
    lines = [Line("no error", ((0.0, 0.0), (0.0, highest)), "other")]
    lines += [Line(name, tuple(zip(middles.tolist(), map(float, found), strict=True)), _COLOURS[name]) for name, found in counts.items()]
    rows = tuple((name, *map(shown, _spread(values))) for name, values in finite.items())
    table = Table(("model", "mean", "5 % below", "25 % below", "median", "75 % below", "95 % below"), rows, frozenset(range(1, 7)))
    return Plot("Residuals on the unseen rows", "predicted - true", "rows", tuple(lines), table)


def _spread(values: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> list[float | None]:
    return [float(values.mean()), *map(float, np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]))] if len(values) else [None] * 6


def confusion(rows: pl.DataFrame) -> Table:
    """Count rows by true and by predicted label; of more than 12 labels the most frequent are told apart."""
    both = rows.select(pl.col("truth").cast(pl.String), pl.col("predicted").cast(pl.String))
    by_count = both["truth"].value_counts(sort=True)["truth"].to_list()
    known = sorted(by_count[:CLASSES]) if len(by_count) > CLASSES else sorted({*by_count, *both["predicted"].unique().to_list()})
    merged = both.select(pl.when(pl.all().is_in(known)).then(pl.all()).otherwise(pl.lit(OTHERS)))
    counts = {(true, made): count for true, made, count in merged.group_by("truth", "predicted").len().iter_rows()}
    rest = [OTHERS] if any(OTHERS in pair for pair in counts) else []
    labels = [*(label for label in known if label != OTHERS), *rest]
    cells = tuple((true, *(f"{counts.get((true, made), 0):,}" for made in labels)) for true in labels)
    return Table(("true", *labels), cells, frozenset(range(1, len(labels) + 1)))
