"""Drift: how far the inputs have moved from the rows that were trained on to those that were not, feature by feature."""

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

TENTHS = 10


def drift(reference: pl.DataFrame, unseen: pl.DataFrame) -> dict[str, float]:
    """Give for each column of both the largest difference between the shares that a part of its values has in either, from 0 to 1.

    A part is a value (text, truth values), or, of numbers and moments, what lies between two deciles of the reference, or on one of them: a value
    that is a decile is a part of its own, so that a constant or a code that changes is seen. Missing is a part too (null and NaN alike). It is
    the L-infinity distance of Breck et al., "Data validation for machine learning" (MLSys 2019). Without rows on a side there is nothing to compare: {}.
    """
    if not reference.height or not unseen.height:
        return {}
    return {name: distance(reference[name], unseen[name]) for name in reference.columns if name in unseen.columns}


def distance(reference: pl.Series, unseen: pl.Series) -> float:
    """Give the largest difference of a part's share between two columns that have rows; see `drift`."""
    if _is_ordered(reference.dtype) and _is_ordered(unseen.dtype):
        before, after = _numbers(reference), _numbers(unseen)
        edges = _deciles(before)
        return _largest(_parts(before, edges), _parts(after, edges), len(before), len(after))
    return _of_values(reference, unseen)


def _is_ordered(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal()


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    return column.to_physical().cast(pl.Float64).fill_null(math.nan).to_numpy()


def _deciles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the distinct deciles, each a value that is there: the smallest that at least a tenth, two tenths, ... are not above."""
    known = np.sort(values[~np.isnan(values)])
    places = [math.ceil(len(known) * tenth / TENTHS) - 1 for tenth in range(1, TENTHS)] if len(known) else []
    return np.unique(known[np.maximum(places, 0)]) if places else known


def _parts(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count what is missing, below the first edge, on it, between it and the second, and so on."""
    known = values[~np.isnan(values)]
    place = np.searchsorted(edges, known, "left") + np.searchsorted(edges, known, "right")
    counts = np.bincount(place, minlength=2 * len(edges) + 1)
    return np.concatenate([[len(values) - len(known)], counts]).astype(np.int64)


def _largest(before: NDArray[np.int64], after: NDArray[np.int64], rows_before: int, rows_after: int) -> float:
    return float(np.abs(before / rows_before - after / rows_after).max())


def _of_values(reference: pl.Series, unseen: pl.Series) -> float:
    shares = [
        column.cast(pl.String).alias("value").value_counts().select("value", (pl.col("count") / len(column)).alias(name))
        for name, column in (("before", reference), ("after", unseen))
    ]
    both = shares[0].join(shares[1], on="value", how="full", coalesce=True, nulls_equal=True).fill_null(0.0)
    found = (both["before"] - both["after"]).abs().max()
    return float(found) if isinstance(found, float) else 0.0
