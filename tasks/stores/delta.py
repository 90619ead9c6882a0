"""Delta tables: how one is opened, written and read, on local disk and on S3, whatever is in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl
import pyarrow as pa
from deltalake import ColumnProperties, DeltaTable, WriterProperties
from deltalake.exceptions import DeltaError, TableNotFoundError

from tasks import settings
from tasks.errors import DiskFull


def uri(pipeline: str, table: str) -> str:
    """Name the place of a pipeline's table."""
    return f"{settings.read().lake.rstrip('/')}/{pipeline}/{table}"


def schema_of(found: DeltaTable) -> pl.Schema:
    """Give a table's columns and their dtypes."""
    return pl.DataFrame(pa.schema(found.schema().to_arrow()).empty_table()).schema


def files_of(found: DeltaTable, predicate: str | None = None) -> list[str]:
    """Name the files of a table, or those that may hold rows of the predicate (SQL), as they are to be read."""
    return [unquote(file) if file.startswith("/") else file for file in found.file_uris(file_pruning_predicate=predicate)]


# Open tables of this process: bringing one up to date is much less work than reading its log anew.
OPEN: dict[str, DeltaTable] = {}


def opened(place: str) -> DeltaTable | None:
    """Give the newest state of a table, or None where there is none."""
    try:
        known = OPEN.get(place)
        if known is not None and there(place):
            if not _is_newest(known, place):
                known.update_incremental()
            return known
        OPEN[place] = DeltaTable(place_of(place), storage_options=options())
    except TableNotFoundError:
        return None
    return OPEN[place]


def there(place: str) -> bool:
    """Tell whether a table that was open before is still there; on local disk without listing its log, which grows."""
    if place.startswith("s3://"):
        return bool(DeltaTable.is_deltatable(place, storage_options=options()))
    return (Path(place) / "_delta_log").is_dir()


def _is_newest(known: DeltaTable, place: str) -> bool:
    """Tell whether no version follows the known one, on local disk: versions have no gaps, and listing the log costs more with each."""
    return not place.startswith("s3://") and not (Path(place) / "_delta_log" / f"{known.version() + 1:020d}.json").exists()


def place_of(path: str) -> str:
    """Write a local path as an address, for Delta reads it as one."""
    return path if path.startswith("s3://") else Path(path).absolute().as_uri()


def writer(schema: Mapping[str, Any]) -> WriterProperties:
    """Choose what writes fastest: light compression, and dictionaries for text only, for numbers seldom repeat."""
    words = {name: ColumnProperties(dictionary_enabled=True) for name, dtype in schema.items() if dtype == pl.String}
    return WriterProperties(
        compression="LZ4", default_column_properties=ColumnProperties(dictionary_enabled=False), column_properties=words
    )


def options() -> dict[str, str] | None:
    """Give what Delta's own S3 client needs beyond the AWS variables that it reads by itself."""
    endpoint = settings.read().s3_endpoint
    if not settings.read().lake.startswith("s3://") or endpoint is None:
        return None
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": str(endpoint.startswith("http://")).lower()}


@contextmanager
def no_space(place: str) -> Iterator[None]:
    """Tell a full disk from all else that may keep a table from being written.

    Raises:
        DiskFull: if there is no space; the table is as it was.
    """
    try:
        yield
    except (DeltaError, OSError) as error:
        if "No space left" in str(error) or "os error 28" in str(error):
            raise DiskFull(f"No space is left for {place}; the table is as it was. Free space and run again.") from error
        raise
