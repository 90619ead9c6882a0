"""Feature: take a snapshot of the lake, run the user's `features` over it, and stage the result for training.

The rows are ordered by the pipeline's `time`, then by arrival and place in the file; without `time` by arrival and place alone. The newest
rows, those that neither the champion nor any candidate was trained on, are set aside for the comparison.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import contract, frames
from tasks.errors import BrokenPipeline
from tasks.ordering import as_text, from_text, order_of
from tasks.records import Champion, Compared, Prepared, Snapshot
from tasks.spec import Holdout, Pipeline
from tasks.stores import lake, ledger

ORDER = "_order"


def ordered_rows(pipeline: Pipeline, version: int) -> pl.DataFrame:
    """Read the window's rows of one version of the lake, in order; `_order` is the time or the place in the order of arrival."""
    columns = contract.dtypes(pipeline.contract)
    rows = (
        lake.scan(pipeline.name, version=version, columns=columns)
        .select(*columns, "_seq", "_row")
        .with_columns(order_of(pipeline).alias(ORDER))
    )
    if pipeline.window.days is not None:
        newest = rows.select(pl.col(ORDER).max()).collect().item()
        rows = rows.filter(pl.col(ORDER) > newest - timedelta(days=pipeline.window.days))
    frame = rows.collect().sort(ORDER, "_seq", "_row")
    return frame if pipeline.window.rows is None else frame.tail(pipeline.window.rows)


def content_digest(rows: pl.DataFrame, columns: list[str]) -> str:
    """Give the SHA-256 of the columns' names, types and values in the order of the rows, missing values told from any value."""
    digest = hashlib.sha256()
    for name in columns:
        column = rows[name]
        digest.update(f"{name}:{column.dtype}:{len(column)}\n".encode())
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        for part in _plain(column):
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _plain(column: pl.Series) -> list[np.ndarray[Any, Any]]:
    if column.dtype == pl.String:
        filled = column.fill_null("")
        text = "".join(filled.to_list()).encode()
        return [filled.str.len_bytes().to_numpy(), np.frombuffer(text, dtype=np.uint8)]
    number = column.to_physical()
    return [(number.cast(pl.Int8) if number.dtype == pl.Boolean else number).fill_null(0).to_numpy()]


@dataclass(frozen=True)
class Split:
    """How the ordered rows part: the first `train`, then the `unseen`, which begin at `cut`."""

    train: int
    unseen: int
    cut: Any


def split(order: pl.Series, holdout: Holdout, trained_until: Any = None) -> Split:
    """Part ordered rows in those to train on and those newer than every training, the champion's (`trained_until`) included.

    Rows of equal order are never parted. `order` is sorted.

    >>> split(pl.Series([1, 2, 2, 3, 4]), Holdout(rows=2))
    Split(train=3, unseen=2, cut=3)
    >>> split(pl.Series([1, 2, 2, 3, 4]), Holdout(rows=2), trained_until=3)
    Split(train=4, unseen=1, cut=4)
    """
    first = _first_unseen(order, holdout)
    if trained_until is not None:
        first = max(first, int(order.search_sorted(trained_until, side="right")))
    cut = order[first] if first < len(order) else None
    return Split(train=first, unseen=len(order) - first, cut=cut)


def _first_unseen(order: pl.Series, holdout: Holdout) -> int:
    if not len(order):
        return 0
    if holdout.span is not None:
        return int(order.search_sorted(order[-1] - holdout.span, side="right"))
    count = holdout.rows if holdout.rows is not None else round(len(order) * (holdout.share or 0))
    boundary = order[max(0, len(order) - max(1, count))]
    return int(order.search_sorted(boundary, side="left"))


def _seen_until(champion: Champion | None, order: pl.Series) -> Any:
    """Give the end of the rows that are no evidence against the champion: those it was trained on or chosen by, or that were judged before a rollback."""
    if champion is None:
        return None
    try:
        known = [from_text(text, order.dtype) for text in (champion.trained_until, champion.evidence_after)]
    except ValueError as error:
        raise BrokenPipeline(
            f"Champion {champion.version} of {champion.pipeline!r} was trained on rows until {champion.trained_until!r}, which has no place in the order "
            f"that Pipeline.time gives now ({order.dtype}): no row can be told to be newer. Put Pipeline.time back, or give the pipeline another name."
        ) from error
    return max((moment for moment in known if moment is not None), default=None)


def used_before(order: pl.Series, first: int, earlier: Iterable[Compared]) -> tuple[int, tuple[int, ...]]:
    """Count the ordered rows from place `first` that lie among those which earlier comparisons (newest first) rest on; give their cycles too.

    A row that came later than the comparison, with an earlier time, is counted as well. Asks for no more once a comparison ends before `first`.

    >>> used_before(pl.Series([1, 2, 3, 4]), 1, [Compared(7, "2", "3"), Compared(6, "1", "2"), Compared(5, "0", "1")])
    (2, (6, 7))
    """
    used, cycles = np.zeros(len(order), dtype=bool), []
    for part in earlier if first < len(order) else ():
        try:
            low, high = from_text(part.first, order.dtype), from_text(part.last, order.dtype)
        except ValueError:  # of another order than today's
            break
        if high < order[first]:
            break
        used[order.search_sorted(low, side="left") : order.search_sorted(high, side="right")] = True
        cycles.append(part.cycle)
    return int(used[first:].sum()), tuple(sorted(cycles))


def prepare(pipeline: Pipeline, version: int, champion: Champion | None, into: Path, earlier: Iterable[Compared] = ()) -> Prepared:
    """Take the snapshot and stage two Arrow files in `into`: the features of all rows with `_target`, and the raw unseen rows.

    `earlier` are the comparisons so far, newest first.

    Raises:
        BrokenPipeline: if `Pipeline.time` has changed, so that it cannot be told which rows the champion has seen.
    """
    into.mkdir(parents=True, exist_ok=True)
    rows = ordered_rows(pipeline, version)
    order = rows[ORDER]
    columns = list(contract.dtypes(pipeline.contract))
    parts = split(order, pipeline.holdout, _seen_until(champion, order))
    features = frames.apply_features(pipeline.features, frames.to_pandas(rows.select(frames.known_in_time(pipeline))), pipeline.name)
    target = frames.target_of(pipeline, rows)
    staged = pl.from_pandas(features, nan_to_null=False).with_columns(target.alias("_target"))
    staged.write_ipc(into / "features.arrow", compression="uncompressed")
    rows.tail(parts.unseen).select(columns).write_ipc(into / "unseen.arrow", compression="uncompressed")
    last = order[-1] if len(order) else None
    reused, reused_by = used_before(order, parts.train, earlier)
    return Prepared(
        snapshot=Snapshot(
            uri=lake.uri(pipeline.name, "rows"),
            version=version,
            rows=rows.height,
            first=as_text(order[0] if len(order) else None),
            last=as_text(last),
            digest=content_digest(rows, columns),
        ),
        features=str(into / "features.arrow"),
        raw=str(into / "unseen.arrow"),
        columns={str(name): str(dtype) for name, dtype in features.dtypes.items()},
        train=parts.train,
        unseen=parts.unseen,
        classes=_classes(pipeline, target),
        train_classes=_classes(pipeline, target.head(parts.train)),
        unseen_classes=_classes(pipeline, target.tail(parts.unseen)),
        trained_until=as_text(order[parts.train - 1] if parts.train else None),
        cut=as_text(parts.cut),
        reused=reused,
        reused_by=reused_by,
    )


def _classes(pipeline: Pipeline, target: pl.Series) -> tuple[Any, ...]:
    return () if pipeline.kind == "regression" else tuple(target.unique().sort().to_list())


@task(name="feature", task_run_name="feature {pipeline.name} v{version}", cache_policy=NO_CACHE, persist_result=False)
def feature(pipeline: Pipeline, version: int, champion: Champion | None, into: str) -> Prepared:
    """Stage the features of version `version` of the lake."""
    return prepare(pipeline, version, champion, Path(into), ledger.compared(pipeline.name))
