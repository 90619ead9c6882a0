"""Bodies of requests: JSON rows or columns, an Arrow stream, or CSV, read into admitted rows within the limits of the pipeline."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import polars as pl
import pyarrow as pa

from tasks.admission import Admission, Admitted, Fault, Refused, count
from tasks.errors import Unreadable, UserError
from tasks.spec import Source

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")  # gzip, zstd, zlib: polars unpacks them
_ZONES = (None, "UTC", "+00:00")  # of an Arrow timestamp
_WIDEST = 10_000  # columns of a body
_RECORD_BATCH, _DICTIONARY = 3, 2  # kinds of a message's header in Arrow's format (Message.fbs)


class Unsupported(UserError):
    """A body of a kind that is not read."""


class Late(UserError):
    """A body that did not come in time."""


class TooMuch(UserError):
    """More rows or bytes than one request may have."""


def admitted(body: bytes, kind: str, admission: Admission, most: int, source: Source) -> Admitted:
    """Read a body of at most `most` rows.

    Raises:
        Unsupported: if it is of another kind.
        TooMuch: if it has more rows.
        Refused: if it cannot be read, or a row breaks the contract.
    """
    reader = _READERS.get(kind)
    if reader is None:
        raise Unsupported(f"A body of type {kind!r} is not read; send one of {', '.join(_READERS)}.")
    rows = reader(body, admission, most, source)
    found = count(rows)
    if not found:
        raise Refused("There is no row to predict; send at least one.")
    _within(found, most)
    return rows


def _within(rows: int, most: int) -> None:
    if rows > most:
        raise TooMuch(f"The request has {rows} rows and may have {most}; send them in several, or use `ratchet predict`.")


def _json(body: bytes, admission: Admission, most: int, _: Source) -> Admitted:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"The body is no JSON: {error}.") from error
    if not isinstance(given, dict) or list(given) not in (["rows"], ["columns"]):
        raise Refused('Expected an object with either "rows", a list of objects, or "columns", an object of lists, and nothing else.')
    if "columns" in given:
        columns = _columns(given["columns"])
        _within(max(map(len, columns.values()), default=0), most)
        return admission.admit(columns)
    rows = given["rows"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refused('"rows" has to be a list of objects, one for each row.')
    _within(len(rows), most)
    return admission.admit(_turned(rows, admission))


def _columns(given: Any) -> Mapping[str, list[Any]]:
    if not isinstance(given, dict) or not all(isinstance(values, list) for values in given.values()):
        raise Refused('"columns" has to be an object of lists, one for each column.')
    return given


def _turned(rows: list[dict[str, Any]], admission: Admission) -> dict[str, list[Any]]:
    try:
        return {name: [row[name] for row in rows] for name in admission.types}
    except KeyError:
        missing = [(place, name) for place, row in enumerate(rows) for name in admission.types if name not in row]
        faults = [Fault(place, name, "required", None) for place, name in missing[:100]]
        raise Refused(
            f"Row {missing[0][0]} lacks {missing[0][1]!r}; every row needs {list(admission.types)}, null where a value is not known.",
            faults,
        ) from None


def _csv(body: bytes, admission: Admission, most: int, source: Source) -> Admitted:
    if body.startswith(_PACKED):
        raise Unsupported("The CSV is compressed; send it as it is.")
    end = body.find(b"\n")
    if body.count(source.separator.encode(), 0, end if end >= 0 else len(body)) >= _WIDEST:
        raise Refused(f"The first line of the CSV names more than {_WIDEST} columns; the model needs {list(admission.types)}.")

    def parse() -> pl.DataFrame:
        return pl.read_csv(body, infer_schema=False, separator=source.separator, null_values=list(source.null_values))

    return _examined(_parsed(parse, "CSV"), admission, most)


def _arrow(body: bytes, admission: Admission, most: int, _: Source) -> Admitted:
    if _is_compressed(body):
        raise Unsupported("The Arrow stream is compressed; send it as it is.")

    def parse() -> pl.DataFrame:
        # not by polars: it trusts the lengths that the stream states, and a wrong one ends the process
        table = pa.ipc.open_stream(body).read_all()
        table = table.select([name for name in admission.types if name in table.column_names])
        _within(table.num_rows, most)
        odd = [field.name for field in table.schema if not _is_plain(field.type)]
        if odd:
            raise Refused(
                f"Columns {odd} are of types that are not read; send numbers, truth values, texts, or moments without a zone or in UTC."
            )
        table.validate(full=True)
        return pl.DataFrame({name: _copied(table[name]) for name in table.column_names})

    return _examined(_parsed(parse, "Arrow stream"), admission, most)


def _is_plain(dtype: pa.DataType) -> bool:
    """Tell whether a column of a type can be handed to polars: what else there is may end the process there."""
    kinds = pa.types
    if kinds.is_dictionary(dtype):
        return bool(kinds.is_string(dtype.value_type) or kinds.is_large_string(dtype.value_type))
    text = kinds.is_string(dtype) or kinds.is_large_string(dtype) or kinds.is_string_view(dtype)
    moment = kinds.is_date(dtype) or (kinds.is_timestamp(dtype) and dtype.tz in _ZONES)
    return bool(text or moment or kinds.is_null(dtype) or kinds.is_boolean(dtype) or kinds.is_integer(dtype) or kinds.is_floating(dtype))


def _copied(column: pa.ChunkedArray) -> pl.Series:
    """Give a column to polars; texts by reference one by one, for those below a missing value may point anywhere, and nothing else checks them."""
    if pa.types.is_string_view(column.type) or pa.types.is_dictionary(column.type):
        return pl.Series(column.to_pylist(), dtype=pl.String)
    return pl.Series(column)


def _examined(rows: pl.DataFrame, admission: Admission, most: int) -> Admitted:
    _within(rows.height, most)
    try:
        return admission.examine(rows)
    except Unreadable as error:  # a column of a type that no value of the contract's can be read from
        raise Refused(str(error)) from error


_READERS: Mapping[str, Callable[[bytes, Admission, int, Source], Admitted]] = {JSON: _json, CSV: _csv, ARROW: _arrow}


def _parsed(parse: Callable[[], pl.DataFrame], what: str) -> pl.DataFrame:
    try:
        return parse()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise Refused(f"The body is no {what} that can be read: {str(error)[:300]}.") from error


def _is_compressed(body: bytes) -> bool:
    """Tell whether an Arrow stream has compressed parts: a few bytes of those can grow to all the memory there is.

    The messages' metadata are flatbuffers (Arrow's Message.fbs); what cannot be followed is left to the reader, which refuses it.
    """
    at = 0
    try:
        while at + 8 <= len(body):
            marker, size = struct.unpack_from("<Ii", body, at)
            at += 8
            if marker != 0xFFFFFFFF or size <= 0:
                return False
            header, length, compressed = _message(body[at : at + size])
            if header in (_RECORD_BATCH, _DICTIONARY) and compressed:
                return True
            at += size + length
    except (struct.error, IndexError):
        return False
    return False


def _message(metadata: bytes) -> tuple[int, int, bool]:
    """Give a message's kind of header, the length of its body, and whether that is compressed."""
    root = struct.unpack_from("<I", metadata, 0)[0]
    kind_at, header_at, length_at = (_field(metadata, root, slot) for slot in (1, 2, 3))
    kind = metadata[kind_at] if kind_at else 0
    length = struct.unpack_from("<q", metadata, length_at)[0] if length_at else 0
    if not header_at or kind not in (_RECORD_BATCH, _DICTIONARY):
        return kind, length, False
    batch = header_at + struct.unpack_from("<I", metadata, header_at)[0]
    if kind == _DICTIONARY:
        data_at = _field(metadata, batch, 1)
        batch = data_at + struct.unpack_from("<I", metadata, data_at)[0]
    return kind, length, bool(_field(metadata, batch, 3))


def _field(buffer: bytes, table: int, slot: int) -> int:
    """Give where a flatbuffer table's field is, or 0 if the table does not have it."""
    vtable = table - struct.unpack_from("<i", buffer, table)[0]
    size = struct.unpack_from("<H", buffer, vtable)[0]
    if 4 + 2 * slot >= size:
        return 0
    offset = struct.unpack_from("<H", buffer, vtable + 4 + 2 * slot)[0]
    return table + offset if offset else 0
