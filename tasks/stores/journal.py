"""The journal: Delta tables that several processes append to at any time, without a lease: a pipeline's logged predictions.

A commit carries the mark (name, number) of what it adds as an app transaction, so that the same can be added once only. Rows lie in parts by
`_day`, so that those of one moment are found, and old ones are removed, without reading the others. Unlike the lake's rows, earlier versions
of the table are not kept: after a day they may be gone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from tasks.errors import Breakdown
from tasks.stores import delta
from tasks.stores.delta import no_space, options, place_of

TABLE = "predictions"
TIME, DAY = "_time", "_day"
_RETRIES = 20
_KEPT = {"delta.logRetentionDuration": "interval 2 days", "delta.deletedFileRetentionDuration": "interval 1 days"}
_KEPT_HOURS, _ENFORCED = 24, True
_SMALL, _MANY = 32 << 20, 8  # bytes of a file that is worth joining, and how many of a day are


def append(pipeline: str, columns: pa.Schema, batches: Iterable[pa.RecordBatch], mark: tuple[str, int]) -> bool:
    """Add rows of these columns, `_time` among them, unless what has this mark was added before; tell whether they were added.

    A column that the table does not have is added to it. One that it has with another type goes into a column of its own, see `named`.
    Marks of one name are used in the order of their numbers.

    Raises:
        DiskFull: if there is no space; the table is as it was.
        Breakdown: if the table cannot be reached or written; it is as it was, or the rows are in it and the next call finds them so.
    """
    place = delta.uri(pipeline, TABLE)
    with _explained(place):
        found = _newest(place) or _created(place, columns)
        if (found.transaction_version(mark[0]) or 0) >= mark[1]:
            return False
        names = named(columns, pa.schema(found.schema().to_arrow()))
        made = pa.schema([*(field.with_name(name) for field, name in zip(columns, names, strict=True)), (DAY, pa.date32())])
        stream = pa.RecordBatchReader.from_batches(made, (_dated(batch, made) for batch in batches))
        once = CommitProperties(app_transactions=[Transaction(*mark)], max_commit_retries=_RETRIES)
        write_deltalake(found, stream, mode="append", schema_mode="merge", commit_properties=once, post_commithook_properties=_afterwards())
    return True


def named(columns: pa.Schema, known: pa.Schema) -> list[str]:
    """Name the table's columns that these go to: their own, or `_as_<type>_<name>` where the table has the name with another type.

    >>> named(pa.schema([("x", pa.string()), ("y", pa.int64())]), pa.schema([("x", pa.int64())]))
    ['_as_string_x', 'y']
    """
    other = {field.name for field in columns if field.name in known.names and known.field(field.name).type != field.type}
    return [f"_as_{field.type}_{field.name}" if field.name in other else field.name for field in columns]


def scan(pipeline: str, *, since: date | None = None, until: date | None = None, request: str | None = None) -> pl.LazyFrame:
    """Give the rows to be read lazily: of whole days if they are given, and only from files that may hold rows of a `request`.

    Without a table it has no columns.

    Raises:
        Breakdown: if the table cannot be opened.
    """
    with _opened(pipeline) as found:
        if found is None:
            return pl.LazyFrame()
        wanted = [f"{DAY} >= DATE '{since}'"] if since else []
        wanted += [f"{DAY} <= DATE '{until}'"] if until else []
        wanted += [f"_prediction >= '{request}-' AND _prediction < '{request}.'"] if request else []  # the sign after the hyphen
        files = delta.files_of(found, " AND ".join(wanted) or None)
        schema = {name: dtype for name, dtype in delta.schema_of(found).items() if name != DAY}
    if not files:
        return pl.LazyFrame(schema=schema)
    return pl.scan_parquet(files, schema=schema, missing_columns="insert", storage_options=options(), glob=False, hive_partitioning=False)


@contextmanager
def _opened(pipeline: str) -> Iterator[DeltaTable | None]:
    """Give the newest state of the table, or None where there is none."""
    place = delta.uri(pipeline, TABLE)
    with _explained(place):
        yield _newest(place)


def prune(pipeline: str, before: date) -> int:
    """Remove the rows of the days before that one, and the files that no version of the last day needs; give the number of rows removed.

    Raises:
        Breakdown: if the table cannot be written; it is as it was.
    """
    with _opened(pipeline) as found:
        if found is None:
            return 0
        old, gone = f"{DAY} < DATE '{before}'", 0
        if delta.files_of(found, old):
            gone = int(found.delete(old, post_commithook_properties=_afterwards())["num_deleted_rows"])
        found.vacuum(retention_hours=_KEPT_HOURS, dry_run=False, enforce_retention_duration=_ENFORCED)
    return gone


def forget(pipeline: str, columns: Collection[str]) -> tuple[str, ...]:
    """Empty columns of the table that are not to be kept any more, and give those that had values.

    The files that had them are removed with those that `prune` finds to be in no version of the last day.

    Raises:
        Breakdown: if the table cannot be written; it is as it was.
    """
    with _opened(pipeline) as found:
        if found is None or not columns:
            return ()
        filled = scan(pipeline).select(pl.col(list(columns)).is_not_null().any()).collect(engine="streaming").row(0, named=True)
        had = tuple(name for name, some in filled.items() if some)
        if had:
            condition = " OR ".join(f"{_quoted(name)} IS NOT NULL" for name in had)
            found.update({_quoted(name): "NULL" for name in had}, predicate=condition, post_commithook_properties=_afterwards())
    return had


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def compact(pipeline: str, until: date) -> int:
    """Join the small files of days up to and including that one where there are many, and give how many were joined.

    Appends go on meanwhile: joining adds and removes no row, and an append does not read.

    Raises:
        Breakdown: if the table cannot be written; it is as it was.
    """
    with _opened(pipeline) as found:
        if found is None:
            return 0
        days = [day for day, count in _small_files(found).items() if count >= _MANY and day <= until]
        joined = 0
        for day in days:
            done = found.optimize.compact(
                partition_filters=[(DAY, "=", str(day))], target_size=4 * _SMALL, post_commithook_properties=_afterwards()
            )
            joined += int(done["numFilesRemoved"])
    return joined


def _small_files(found: DeltaTable) -> Mapping[date, int]:
    """Count the small files of each day."""
    files = pl.DataFrame(pa.table(found.get_add_actions(flatten=True)))
    small = files.filter(pl.col("size_bytes") < _SMALL).group_by(f"partition.{DAY}").len()
    return dict(small.iter_rows())


def _newest(place: str) -> DeltaTable | None:
    """Open the table anew: one that was open for long may not find the log's entries that came since, for old ones are removed."""
    try:
        return DeltaTable(place_of(place), storage_options=options())
    except TableNotFoundError:
        return None


def _created(place: str, columns: pa.Schema) -> DeltaTable:
    whole = columns.append(pa.field(DAY, pa.date32()))
    DeltaTable.create(
        place_of(place), schema=whole, storage_options=options(), mode="ignore", partition_by=[DAY], configuration=dict(_KEPT)
    )
    return DeltaTable(place_of(place), storage_options=options())


def _dated(batch: pa.RecordBatch, made: pa.Schema) -> pa.RecordBatch:
    """Give a batch with the day of each row's moment."""
    return pa.RecordBatch.from_arrays([*batch.columns, pc.cast(batch.column(TIME), pa.date32(), safe=False)], schema=made)


def _afterwards() -> PostCommitHookProperties:
    return PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=True)


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        with no_space(place):
            yield
    except (DeltaError, OSError) as error:
        raise Breakdown(f"The table {place} could not be reached or written: {error}. It is as it was; it is tried again.") from error
