"""The golden set: trusted rows in a file that no arrival can touch (see `Gate.golden`)."""

import hashlib
import tempfile
from pathlib import Path

import polars as pl

from tasks import contract, formats, frames
from tasks.errors import BrokenPipeline, DiskFull, Unreadable
from tasks.spec import Pipeline


def digest(pipeline: Pipeline) -> str | None:
    """Give the SHA-256 of the golden file's bytes; None where the gate names none. A relative path starts at the current directory.

    Raises:
        BrokenPipeline: if the file cannot be read.
    """
    if pipeline.gate.golden is None:
        return None
    try:
        with Path(pipeline.gate.golden).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _broken(pipeline, f"cannot be read: {error}") from error


def read(pipeline: Pipeline) -> pl.DataFrame:
    """Read the golden set: raw rows with the contract's columns and types, missing values imputed as in the lake.

    Raises:
        BrokenPipeline: if there is none, if it cannot be read, has no row, or if any row breaks the contract; it says which.
    """
    if pipeline.gate.golden is None:
        raise BrokenPipeline(f"Gate.golden of {pipeline.name!r} names no file; give one, or do not ask for the golden set.")
    path = Path(pipeline.gate.golden)
    columns = list(contract.dtypes(pipeline.contract))
    try:
        with tempfile.TemporaryDirectory() as room:
            plain = formats.unpacked(path, path.name, Path(room))
            raw = pl.concat(list(formats.chunks(plain, path.name, columns, pipeline.source)))
        numbered = raw.drop("_row").with_row_index("_row", offset=1).cast({"_row": pl.Int64})
        typed, unreadable = contract.parse(numbered, pipeline.contract)
        broken = unreadable if unreadable.height else contract.check(typed, pipeline.contract)
    except (OSError, Unreadable, DiskFull, pl.exceptions.PolarsError) as error:
        raise _broken(pipeline, f"cannot be read: {error}") from error
    if broken.height:
        row, column, rule, value = broken.sort("_row").row(0)
        others = f", and {broken['_row'].n_unique() - 1} more rows break it" if broken["_row"].n_unique() > 1 else ""
        raise _broken(pipeline, f"breaks the contract: row {row} has {value!r} in {column!r}, rule {rule}{others}")
    if missing := typed[pipeline.target].null_count():
        raise _broken(pipeline, f"has {missing} rows without a {pipeline.target!r}, so that nothing can be scored by them")
    return typed.drop("_row").with_columns(frames.fills(pipeline, columns))


def _broken(pipeline: Pipeline, problem: str) -> BrokenPipeline:
    return BrokenPipeline(f"The golden set {pipeline.gate.golden!r} of {pipeline.name!r} {problem}. Correct the file, or Gate.golden.")
