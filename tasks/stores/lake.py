"""The lake: one Delta table of accepted rows and one of quarantined entries for each pipeline, and the same for labels that came later.

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
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from tasks.errors import Breakdown, LeaseLost
from tasks.stores import delta
from tasks.stores.delta import no_space, opened, options, place_of, writer

Table = Literal["rows", "quarantine", "labels", "labels_quarantine"]
_RETRIES, _RECENT = 20, 100
_FENCE, _TOKEN, _ARRIVALS = "ratchet.lease", "ratchet.token", "ratchet.arrivals"
_SMALL, _MANY = 8 << 20, 16  # bytes of a file that is worth joining, and how many of them are


def uri(pipeline: str, table: Table) -> str:
    """Name the place of a pipeline's table."""
    return delta.uri(pipeline, table)


def version(pipeline: str, table: Table = "rows") -> int | None:
    """Give the newest version of a table, or None where it does not exist."""
    found = opened(uri(pipeline, table))
    return None if found is None else found.version()


def committed(pipeline: str, table: Table, since: int) -> tuple[dict[str, Any], ...]:
    """Give what the commits of cycles with a token of at least `since` say of their arrivals: id, state, counts and reason."""
    found = opened(uri(pipeline, table))
    if found is None:
        return ()
    entries = found.history(_RECENT)  # newest first
    if all(int(entry.get(_TOKEN, since)) >= since for entry in entries):
        entries = found.history()
    ours = itertools.takewhile(lambda entry: int(entry.get(_TOKEN, since)) >= since, entries)
    return tuple(arrival for entry in ours for arrival in json.loads(entry.get(_ARRIVALS, "[]")))


def fence(pipeline: str, token: int, tables: Sequence[Table] = ("rows", "quarantine")) -> None:
    """Shut out every cycle with a lower token, also one that is about to commit at this moment.

    Raises:
        LeaseLost: if a cycle with a higher token has been here.
    """
    for table in tables:
        found = opened(uri(pipeline, table))
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
    found = opened(uri(pipeline, table)) or _created(uri(pipeline, table), arrow)
    _fenced(found, pipeline, token)
    how: dict[str, Any] = (
        {"mode": "overwrite", "predicate": _any_of("_file", replaced)} if replaced else {"mode": "append", "schema_mode": "merge"}
    )
    stream = pa.RecordBatchReader.from_batches(arrow, _batches(frames, arrow))
    _write(found, stream, token, arrivals, writer_properties=writer(schema), **how)
    return found.version()


def remove(pipeline: str, table: Table, arrivals: Sequence[str], *, token: int) -> None:
    """Take the entries of these arrivals out of a table.

    Raises:
        LeaseLost: if a newer cycle has committed.
        Breakdown: if the table cannot be written.
    """
    found = opened(uri(pipeline, table))
    if found is not None and arrivals:
        _fenced(found, pipeline, token)
        with _explained(found, token):
            found.delete(_any_of("_arrival", arrivals), commit_properties=_properties(token, ()), post_commithook_properties=_afterwards())


def compact(pipeline: str, table: Table = "rows", *, token: int) -> bool:
    """Join small files once there are many, so that reading does not get slower with every arrival; tell whether it was done.

    Earlier versions stay readable: nothing is removed.
    """
    found = opened(uri(pipeline, table))
    if found is None or sum(size < _SMALL for size in found.get_add_actions()["size_bytes"].to_pylist()) < _MANY:
        return False
    _fenced(found, pipeline, token)
    with _explained(found, token):
        found.optimize.compact(
            target_size=_SMALL,
            commit_properties=_properties(token, ()),
            writer_properties=writer({}),
            post_commithook_properties=_afterwards(),
        )
    return True


def _created(place: str, arrow: pa.Schema) -> DeltaTable:
    with no_space(place):
        return DeltaTable.create(place_of(place), schema=arrow, storage_options=options(), mode="ignore")


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
        with no_space(place):
            yield
    except (CommitFailedError, DeltaError, OSError) as error:
        newest = DeltaTable(place, storage_options=options()).transaction_version(_FENCE) or 0
        if newest > token:
            raise LeaseLost(
                f"A cycle with token {token} was about to commit to {place} when one with token {newest} did. Nothing of the older one was written; "
                "the newer cycle does the work."
            ) from error
        raise Breakdown(f"The table {place} could not be written: {error}. It is as it was; run again.") from error


def scan(pipeline: str, table: Table = "rows", *, version: int | None = None, columns: Mapping[str, Any] | None = None) -> pl.LazyFrame:
    """Give a version of a table, the newest by default, to be read lazily.

    Of a column that was added later, and of `columns` that no row has yet, the older rows have missing values.

    The files of the version are scanned as they are named in Delta's log: polars' own reader of Delta tables does not find those
    below a directory whose name has a space.

    Raises:
        Breakdown: if the table or that version of it does not exist.
    """
    try:
        newest = opened(uri(pipeline, table)) if version is None else None
        found = newest or DeltaTable(place_of(uri(pipeline, table)), version=version, storage_options=options())
    except DeltaError as error:
        raise Breakdown(
            f"Version {version} of {uri(pipeline, table)} cannot be opened: {error}. Was the lake moved or cleaned up?"
        ) from error
    schema = delta.schema_of(found)
    files = delta.files_of(found)
    if not files:
        return pl.LazyFrame(schema=schema)
    rows = pl.scan_parquet(files, schema=schema, missing_columns="insert", storage_options=options(), glob=False)
    later = {name: dtype for name, dtype in (columns or {}).items() if name not in schema}
    return rows.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in later.items())


def exists(pipeline: str, table: Table = "rows") -> bool:
    """Tell whether anything was ever written to the table."""
    place = uri(pipeline, table)
    return (place in delta.OPEN and delta.there(place)) or opened(place) is not None


def _any_of(column: str, values: Sequence[str]) -> str:
    return f"{column} IN (" + ", ".join("'" + value.replace("'", "''") + "'" for value in values) + ")"


def _batches(frames: Iterable[pl.DataFrame], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for frame in frames:
        yield from frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema).to_batches()
