"""Predicted rows: a block of raw rows held against the contract, and what the champion says of those that keep it."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from tasks import contract, frames, parts, serving
from tasks.errors import BrokenPipeline
from tasks.scorings import Pinned
from tasks.serving import Model
from tasks.spec import Pipeline


@dataclass(frozen=True)
class Held:
    """Rows that keep the contract, in its types and with `_row`; and an entry for every rule that another row breaks."""

    good: pl.DataFrame
    bad: pl.DataFrame


def held(pipeline: Pipeline, raw: pl.DataFrame, file: str) -> Held:
    """Hold raw rows of a file against the contract, as far as it is about columns that are known when a prediction is made.

    Raises:
        Unreadable: if a column cannot be read as the contract's type at all.
    """
    columns = frames.known_in_time(pipeline)
    typed, failures = contract.readable(raw, pipeline.contract, columns)
    broken = contract.check_requests(contract.without(typed, failures), contract.for_requests(pipeline.contract, tuple(columns)))
    failures = pl.concat([failures, broken])
    return Held(contract.without(typed, failures), _entries(raw, failures, columns, file))


def answered(model: Model, rows: Held, pinned: Pinned) -> pl.DataFrame:
    """Predict the rows that keep the contract.

    Returns them with `predicted`, `p_<class>` and `_version`, `_scored_at`, `_file`, `_row`.

    Raises:
        BrokenPipeline: if the model's features do not run on these rows, or its contract has columns that predictions have too.
    """
    good = rows.good
    if not good.height:
        return good
    answers = serving.predict(model, good.drop("_row"))
    twice = sorted(set(good.columns) & set(answers.columns))
    if twice:
        raise BrokenPipeline(f"The contract of {pinned.pipeline!r} has columns named {twice}, as the predictions have. Rename them.")
    at = datetime.fromisoformat(pinned.at)
    own = {"_version": pl.lit(pinned.version, dtype=pl.Int64), "_scored_at": pl.lit(at), "_file": pl.lit(pinned.file)}
    return good.drop("_row").hstack(answers).with_columns(**own).with_columns(good["_row"])


def _entries(raw: pl.DataFrame, failures: pl.DataFrame, columns: list[str], file: str) -> pl.DataFrame:
    """Add to each failure the file and the raw row as JSON."""
    if not failures.height:
        return pl.DataFrame(schema=parts.REJECTED)
    rows = raw.join(failures.select("_row").unique(), on="_row", how="semi")
    records = rows.select("_row", record=pl.struct(columns).struct.json_encode())
    entries = failures.join(records, on="_row", how="left", maintain_order="left").with_columns(_file=pl.lit(file))
    return entries.sort("_row", maintain_order=True).select(list(parts.REJECTED))
