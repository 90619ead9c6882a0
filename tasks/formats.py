"""File formats: an arrival's bytes to chunks of raw rows, in bounded memory. What cannot be parsed is `Unreadable`, with the reason.

CSV and JSON Lines give text for every cell; Parquet gives its own types. Chunks hold at most `CHUNK` rows and have `_row`, from 1.
"""

import csv
import errno
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from tasks.errors import DiskFull, Unreadable
from tasks.spec import Source

CHUNK = 250_000
SMALL = 100_000  # bytes
MAX_RATIO = 200  # a gzip file that grows by more is taken for a bomb; deflate itself ends at about 1030
_TAIL = 1 << 16

Scan = Callable[[Path, Sequence[str], Source], pl.LazyFrame]


def suffix(name: str) -> str:
    """Give the format's ending of a name, without .gz.

    >>> suffix("2024/May.CSV.gz")
    '.csv'
    """
    return Path(name.lower().removesuffix(".gz")).suffix


def unpacked(path: Path, name: str, into: Path) -> Path:
    """Give the path of the plain bytes: the file itself, or a copy in `into` if it is compressed.

    Raises:
        Unreadable: if it is not gzip, is cut short, or grows more than `MAX_RATIO` times.
    """
    plain = into / f"unpacked{suffix(name)}"
    if not name.lower().endswith(".gz"):
        return _plainly_named(path, plain)
    limit = MAX_RATIO * path.stat().st_size + _TAIL
    try:
        with gzip.open(path) as packed, plain.open("wb") as out:
            while block := packed.read(1 << 20):
                out.write(block)
                if out.tell() > limit:
                    raise Unreadable(f"It unpacks to more than {MAX_RATIO} times its size; it was taken for a bomb and not read on.")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Unreadable(f"It is not a whole gzip file ({error}); it may have been cut short. Land it again, whole.") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DiskFull(f"{into} cannot take the unpacked file: {error}. The arrival stays pending; free space and run again.") from error
    return plain


def _plainly_named(path: Path, link: Path) -> Path:
    """Give a link to a file whose name polars would take for a pattern."""
    if not set("*?[") & set(str(path)):
        return path
    link.unlink(missing_ok=True)
    link.symlink_to(path)
    return link


def chunks(path: Path, name: str, columns: Sequence[str], source: Source) -> Iterator[pl.DataFrame]:
    """Read the plain file at `path` and give its rows in order; extra columns come along, `_row` counts from 1.

    Raises:
        Unreadable: if its ending is not known, or it cannot be parsed, has no row, or lacks one of `columns`.
        OSError: if the machine does not let it be read.
    """
    scan = _SCANS.get(suffix(name))
    if scan is None:
        raise Unreadable(f"Its ending {suffix(name)!r} is none of {', '.join(_SCANS)}.")
    rows = 0
    try:
        for chunk in _batches(path, scan(path, columns, source)):
            first, rows = rows + 1, rows + chunk.height
            yield chunk.clone().insert_column(
                0, pl.Series("_row", np.arange(first, rows + 1))
            )  # an expression would cost a fifth of the reading
    except pl.exceptions.NoDataError as error:
        raise Unreadable("The file is empty.") from error
    except (pl.exceptions.PolarsError, OSError) as error:
        if (number := _of_the_machine(error)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise Unreadable(f"It cannot be parsed as {suffix(name)[1:]}: {_first_line(error)}") from error
    if rows == 0:
        raise Unreadable("It has a header but no row.")


def _batches(path: Path, rows: pl.LazyFrame) -> Iterable[pl.DataFrame]:
    """Collect rows batch by batch; a small file of text at once, which costs a third. (A small Parquet may hold any number of rows.)"""
    if path.suffix.lower() != ".parquet" and path.stat().st_size <= SMALL:
        return [rows.collect(engine="in-memory")]
    return rows.collect_batches(chunk_size=CHUNK, maintain_order=True)


def _of_the_machine(error: Exception) -> int | None:
    """Give the number of an error of the operating system, which says nothing of the content; polars tells it in its text."""
    told = re.search(r"\(os error (\d+)\)", str(error))
    return getattr(error, "errno", None) or (int(told[1]) if told else None)


def _csv(path: Path, columns: Sequence[str], source: Source) -> pl.LazyFrame:
    found = _header(path, source)
    _require_columns(found, columns, hint=_separator_hint(found, source))
    _refuse_cut_off(path, found, source)
    return pl.scan_csv(path, separator=source.separator, infer_schema=False, null_values=list(source.null_values), glob=False)


def _jsonl(path: Path, columns: Sequence[str], _: Source) -> pl.LazyFrame:
    if path.stat().st_size == 0:
        raise Unreadable("The file is empty.")
    found = pl.scan_ndjson(path, infer_schema_length=1000).collect_schema().names()
    _require_columns(found, columns)
    return pl.scan_ndjson(path, schema=dict.fromkeys(found, pl.String))


def _parquet(path: Path, columns: Sequence[str], _: Source) -> pl.LazyFrame:
    if path.stat().st_size == 0:
        raise Unreadable("The file is empty.")
    frame = pl.scan_parquet(path, glob=False)
    _require_columns(frame.collect_schema().names(), columns)
    return frame


_SCANS: dict[str, Scan] = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}


def _header(path: Path, source: Source) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            found = next(csv.reader(lines, delimiter=source.separator), None)
    except UnicodeDecodeError as error:
        raise Unreadable(f"It is not UTF-8 (byte {error.object[error.start]:#04x} in the first lines). Write it as UTF-8.") from error
    except csv.Error as error:
        raise Unreadable(f"Its first line is no CSV header: {error}.") from error
    if found is None:
        raise Unreadable("The file is empty.")
    return found


def _require_columns(found: Sequence[str], wanted: Sequence[str], hint: str = "") -> None:
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    extra = [name for name in found if name not in wanted]
    renamed = f" It has {extra} instead: was a column renamed?" if extra and not hint else ""
    raise Unreadable(f"Columns {missing} are missing.{renamed}{hint}")


def _separator_hint(found: Sequence[str], source: Source) -> str:
    if len(found) > 1:
        return ""
    likely = [mark for mark in ",;\t|" if mark != source.separator and mark in found[0]]
    return (
        f" The header has no {source.separator!r} but {likely[0]!r}: set Source(separator={likely[0]!r}) or write it with {source.separator!r}."
        if likely
        else ""
    )


def _refuse_cut_off(path: Path, header: Sequence[str], source: Source) -> None:
    """Refuse a file that ends amid a line: the last line has no line end and fewer cells than the header."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read().decode("utf-8", errors="replace")
    if tail.endswith(("\n", "\r", '"')):  # after a quote the line's begin cannot be told from here
        return
    cells = next(csv.reader([re.split(r"[\r\n]+", tail)[-1]], delimiter=source.separator), [])
    if len(cells) < len(header):
        raise Unreadable(f"It ends amid a line ({len(cells)} of {len(header)} cells, no line end): it was cut short. Land it again, whole.")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
