"""The lake: one Delta table of accepted rows and one of quarantined entries for each pipeline.

A commit carries one app transaction per arrival, and a writer looks for it first with the very handle that it commits with: Delta
does not refuse a blind second append, but it does refuse a commit that raced with another of the same arrival.
Beside the contract's columns a row has `_arrival` and `_file` (which version of which file), `_seq` and `_row` (its place in the order
of arrival and in its file, from 1).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from tasks import settings
from tasks.errors import Breakdown, DiskFull

Table = Literal["rows", "quarantine"]
_RETRIES = 20


def uri(pipeline: str, table: Table) -> str:
    """Name the place of a pipeline's table."""
    return f"{settings.read().lake.rstrip('/')}/{pipeline}/{table}"


def version(pipeline: str, table: Table = "rows") -> int | None:
    """Give the newest version of a table, or None where it does not exist."""
    found = _open(uri(pipeline, table))
    return None if found is None else found.version()


def committed(pipeline: str, table: Table, arrivals: Sequence[str]) -> frozenset[str]:
    """Give those of the arrivals whose commit is in the table already."""
    found = _open(uri(pipeline, table))
    return frozenset() if found is None else frozenset(arrival for arrival in arrivals if found.transaction_version(arrival) is not None)


def commit(
    pipeline: str,
    table: Table,
    frames: Iterable[pl.DataFrame],
    schema: Mapping[str, Any],
    arrivals: Sequence[str],
    *,
    replaced: Sequence[str] = (),
) -> int:
    """Add the frames of these arrivals in one commit, and take the rows of the `replaced` files out in the same; give the new version.

    `frames` are of `schema` and are written as they come. Nothing is visible until all of it is.

    Raises:
        DiskFull: if there is no space; the table is as it was.
        Breakdown: if the table cannot be written, or has one of the arrivals already; it is as it was.
    """
    place = uri(pipeline, table)
    arrow = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    found = _open(place) or DeltaTable.create(_place(place), schema=arrow, storage_options=_options())
    if any(found.transaction_version(arrival) is not None for arrival in arrivals):  # asked of the very handle that commits
        raise Breakdown(f"Another process has just committed one of these arrivals to {place}; nothing was written. Run again.")
    properties = CommitProperties(app_transactions=[Transaction(arrival, 1) for arrival in arrivals], max_commit_retries=_RETRIES)
    how: dict[str, Any] = {"mode": "overwrite", "predicate": _any_of(replaced)} if replaced else {"mode": "append", "schema_mode": "merge"}
    stream = pa.RecordBatchReader.from_batches(arrow, _batches(frames, arrow))
    try:
        write_deltalake(found, stream, commit_properties=properties, writer_properties=_writer(schema), **how)
    except (CommitFailedError, DeltaError, OSError) as error:
        if "No space left" in str(error) or "os error 28" in str(error):
            raise DiskFull(f"No space is left for {place}; the table is as it was. Free space and run again.") from error
        raise Breakdown(f"The table {place} could not be written: {error}. It is as it was; run again.") from error
    return found.version()


def scan(pipeline: str, table: Table = "rows", *, version: int | None = None, columns: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Give a version of a table, the newest by default, to be read lazily.

    Of a column that was added later, and of `columns` that no row has yet, the older rows have missing values.

    The files of the version are scanned as they are named in Delta's log: polars' own reader of Delta tables does not find those
    below a directory whose name has a space.

    Raises:
        Breakdown: if the table or that version of it does not exist.
    """
    try:
        found = DeltaTable(_place(uri(pipeline, table)), version=version, storage_options=_options())
    except DeltaError as error:
        raise Breakdown(
            f"Version {version} of {uri(pipeline, table)} cannot be opened: {error}. Was the lake moved or cleaned up?"
        ) from error
    schema = pl.DataFrame(pa.schema(found.schema().to_arrow()).empty_table()).schema
    files = [unquote(file) if file.startswith("/") else file for file in found.file_uris()]
    if not files:
        return pl.LazyFrame(schema=schema)
    rows = pl.scan_parquet(files, schema=schema, missing_columns="insert", storage_options=_options(), glob=False)
    later = {name: dtype for name, dtype in (columns or {}).items() if name not in schema}
    return rows.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in later.items())


def exists(pipeline: str, table: Table = "rows") -> bool:
    """Tell whether anything was ever written to the table."""
    return _open(uri(pipeline, table)) is not None


# Open tables of this process: bringing one up to date is much less work than reading its log anew.
_OPEN: dict[str, DeltaTable] = {}


def _open(place: str) -> DeltaTable | None:
    """Give the newest state of a table, or None where there is none."""
    try:
        known = _OPEN.get(place)
        if known is not None and DeltaTable.is_deltatable(_place(place), storage_options=_options()):
            known.update_incremental()
            return known
        _OPEN[place] = DeltaTable(_place(place), storage_options=_options())
    except TableNotFoundError:
        return None
    return _OPEN[place]


def _place(path: str) -> str:
    """Write a local path as an address, for Delta reads it as one."""
    return path if path.startswith("s3://") else Path(path).absolute().as_uri()


def _writer(schema: Mapping[str, Any]) -> WriterProperties:
    """Choose what writes fastest: light compression, and dictionaries for text only, for numbers seldom repeat."""
    words = {name: ColumnProperties(dictionary_enabled=True) for name, dtype in schema.items() if dtype == pl.String}
    return WriterProperties(
        compression="LZ4", default_column_properties=ColumnProperties(dictionary_enabled=False), column_properties=words
    )


def _options() -> dict[str, str] | None:
    """Give what Delta's own S3 client needs beyond the AWS variables that it reads by itself."""
    endpoint = settings.read().s3_endpoint
    if not settings.read().lake.startswith("s3://") or endpoint is None:
        return None
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower()}


def _any_of(files: Sequence[str]) -> str:
    return "_file IN (" + ", ".join("'" + name.replace("'", "''") + "'" for name in files) + ")"


def _batches(frames: Iterable[pl.DataFrame], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for frame in frames:
        yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema).to_batches()
