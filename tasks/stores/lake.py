"""The lake: one Delta table of accepted rows and one of quarantined entries for each pipeline.

Every commit carries the token of its cycle's lease as one app transaction, so that of two racing writers one is refused by Delta, and
a cycle that took over from another puts its token there first (`fence`): what the other still holds open can commit no more. A commit
also names its arrivals with what became of each, so that the next cycle can tell what one that was killed has done (`committed`).
Beside the contract's columns a row has `_arrival` and `_file` (which version of which file), `_seq` and `_row` (its place in the order
of arrival and in its file, from 1).
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from tasks import settings
from tasks.errors import Breakdown, DiskFull, LeaseLost

Table = Literal["rows", "quarantine"]
_RETRIES, _RECENT = 20, 100
_FENCE, _TOKEN, _ARRIVALS = "ratchet.lease", "ratchet.token", "ratchet.arrivals"
_SMALL, _MANY = 8 << 20, 16  # bytes of a file that is worth joining, and how many of them are


def uri(pipeline: str, table: Table) -> str:
    """Name the place of a pipeline's table."""
    return f"{settings.read().lake.rstrip('/')}/{pipeline}/{table}"


def version(pipeline: str, table: Table = "rows") -> int | None:
    """Give the newest version of a table, or None where it does not exist."""
    found = _open(uri(pipeline, table))
    return None if found is None else found.version()


def committed(pipeline: str, table: Table, since: int) -> tuple[dict[str, Any], ...]:
    """Give what the commits of cycles with a token of at least `since` say of their arrivals: id, state, counts and reason."""
    found = _open(uri(pipeline, table))
    if found is None:
        return ()
    entries = found.history(_RECENT)  # newest first
    if all(int(entry.get(_TOKEN, since)) >= since for entry in entries):
        entries = found.history()
    ours = itertools.takewhile(lambda entry: int(entry.get(_TOKEN, since)) >= since, entries)
    return tuple(arrival for entry in ours for arrival in json.loads(entry.get(_ARRIVALS, "[]")))


def fence(pipeline: str, token: int) -> None:
    """Shut out every cycle with a lower token, also one that is about to commit at this moment.

    Raises:
        LeaseLost: if a cycle with a higher token has been here.
    """
    for table in ("rows", "quarantine"):
        found = _open(uri(pipeline, table))
        if found is not None and _fenced(found, pipeline, token) < token:
            nothing = pa.schema(found.schema().to_arrow()).empty_table()
            _write(found, nothing, token, (), mode="append")


def commit(
    pipeline: str,
    table: Table,
    frames: Iterable[pl.DataFrame],
    schema: Mapping[str, Any],
    arrivals: Sequence[Mapping[str, Any]],
    *,
    token: int,
    replaced: Sequence[str] = (),
) -> int:
    """Add the frames of these arrivals in one commit, and take the rows of the `replaced` files out in the same; give the new version.

    `frames` are of `schema` and are written as they come. Nothing is visible until all of it is. `token` is that of the cycle's lease.
    Where files are `replaced`, all rows that are added must be of one of them: Delta refuses others in such a commit.

    Raises:
        LeaseLost: if a newer cycle has committed; the table is as it left it.
        DiskFull: if there is no space; the table is as it was.
        Breakdown: if the table cannot be written; it is as it was.
    """
    arrow = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    found = _open(uri(pipeline, table)) or _created(uri(pipeline, table), arrow)
    _fenced(found, pipeline, token)
    how: dict[str, Any] = (
        {"mode": "overwrite", "predicate": _any_of("_file", replaced)} if replaced else {"mode": "append", "schema_mode": "merge"}
    )
    stream = pa.RecordBatchReader.from_batches(arrow, _batches(frames, arrow))
    _write(found, stream, token, arrivals, writer_properties=_writer(schema), **how)
    return found.version()


def remove(pipeline: str, table: Table, arrivals: Sequence[str], *, token: int) -> None:
    """Take the entries of these arrivals out of a table.

    Raises:
        LeaseLost: if a newer cycle has committed.
        Breakdown: if the table cannot be written.
    """
    found = _open(uri(pipeline, table))
    if found is not None and arrivals:
        _fenced(found, pipeline, token)
        with _explained(found, token):
            found.delete(_any_of("_arrival", arrivals), commit_properties=_properties(token, ()), post_commithook_properties=_afterwards())


def compact(pipeline: str, *, token: int) -> bool:
    """Join small files once there are many, so that reading does not get slower with every arrival; tell whether it was done.

    Earlier versions stay readable: nothing is removed.
    """
    found = _open(uri(pipeline, "rows"))
    if found is None or sum(size < _SMALL for size in found.get_add_actions()["size_bytes"].to_pylist()) < _MANY:
        return False
    _fenced(found, pipeline, token)
    with _explained(found, token):
        found.optimize.compact(
            target_size=_SMALL,
            commit_properties=_properties(token, ()),
            writer_properties=_writer({}),
            post_commithook_properties=_afterwards(),
        )
    return True


def _created(place: str, arrow: pa.Schema) -> DeltaTable:
    with _no_space(place):
        return DeltaTable.create(_place(place), schema=arrow, storage_options=_options(), mode="ignore")


def _fenced(found: DeltaTable, pipeline: str, token: int) -> int:
    """Give the highest token that has committed.

    Raises:
        LeaseLost: if that is higher than this one.
    """
    highest = found.transaction_version(_FENCE) or 0
    if highest > token:
        raise LeaseLost(
            f"A cycle of {pipeline!r} with token {token} came to commit to the lake, but one with token {highest} has committed since. "
            "Nothing of it was written; the newer cycle does the work."
        )
    return highest


def _properties(token: int, arrivals: Sequence[Mapping[str, Any]]) -> CommitProperties:
    told = {_TOKEN: str(token), _ARRIVALS: json.dumps(list(arrivals))}
    return CommitProperties(app_transactions=[Transaction(_FENCE, token)], custom_metadata=told, max_commit_retries=_RETRIES)


def _afterwards() -> PostCommitHookProperties:
    """Keep every version's log: by default Delta lists it after each commit, and removes what is older than 30 days."""
    return PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)


def _write(found: DeltaTable, data: Any, token: int, arrivals: Sequence[Mapping[str, Any]], **how: Any) -> None:
    with _explained(found, token):
        write_deltalake(found, data, commit_properties=_properties(token, arrivals), post_commithook_properties=_afterwards(), **how)


@contextmanager
def _explained(found: DeltaTable, token: int) -> Iterator[None]:
    place = found.table_uri
    try:
        with _no_space(place):
            yield
    except (CommitFailedError, DeltaError, OSError) as error:
        newest = DeltaTable(place, storage_options=_options()).transaction_version(_FENCE) or 0
        if newest > token:
            raise LeaseLost(
                f"A cycle with token {token} was about to commit to {place} when one with token {newest} did. Nothing of the older one was written; "
                "the newer cycle does the work."
            ) from error
        raise Breakdown(f"The table {place} could not be written: {error}. It is as it was; run again.") from error


@contextmanager
def _no_space(place: str) -> Iterator[None]:
    try:
        yield
    except (DeltaError, OSError) as error:
        if "No space left" in str(error) or "os error 28" in str(error):
            raise DiskFull(f"No space is left for {place}; the table is as it was. Free space and run again.") from error
        raise


def scan(pipeline: str, table: Table = "rows", *, version: int | None = None, columns: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Give a version of a table, the newest by default, to be read lazily.

    Of a column that was added later, and of `columns` that no row has yet, the older rows have missing values.

    The files of the version are scanned as they are named in Delta's log: polars' own reader of Delta tables does not find those
    below a directory whose name has a space.

    Raises:
        Breakdown: if the table or that version of it does not exist.
    """
    try:
        newest = _open(uri(pipeline, table)) if version is None else None
        found = newest or DeltaTable(_place(uri(pipeline, table)), version=version, storage_options=_options())
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
    place = uri(pipeline, table)
    return (place in _OPEN and _there(place)) or _open(place) is not None


# Open tables of this process: bringing one up to date is much less work than reading its log anew.
_OPEN: dict[str, DeltaTable] = {}


def _open(place: str) -> DeltaTable | None:
    """Give the newest state of a table, or None where there is none."""
    try:
        known = _OPEN.get(place)
        if known is not None and _there(place):
            if not _is_newest(known, place):
                known.update_incremental()
            return known
        _OPEN[place] = DeltaTable(_place(place), storage_options=_options())
    except TableNotFoundError:
        return None
    return _OPEN[place]


def _there(place: str) -> bool:
    """Tell whether a table that was open before is still there; on local disk without listing its log, which grows."""
    if place.startswith("s3://"):
        return bool(DeltaTable.is_deltatable(place, storage_options=_options()))
    return (Path(place) / "_delta_log").is_dir()


def _is_newest(known: DeltaTable, place: str) -> bool:
    """Tell whether no version follows the known one, on local disk: versions have no gaps, and listing the log costs more with each."""
    return not place.startswith("s3://") and not (Path(place) / "_delta_log" / f"{known.version() + 1:020d}.json").exists()


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


def _any_of(column: str, values: Sequence[str]) -> str:
    return f"{column} IN (" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + ")"


def _batches(frames: Iterable[pl.DataFrame], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for frame in frames:
        yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema).to_batches()
