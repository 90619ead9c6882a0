"""Staging: what one arrival's rows become before they are committed, as Arrow files that grow chunk by chunk."""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from tasks.records import Arrival, Staged

# What every row of the lake has beside the contract's columns, and what describes a row that was set aside.
ORIGIN = {"_arrival": pl.String, "_file": pl.String, "_seq": pl.Int64, "_row": pl.Int64}
_WHENCE = {name: dtype for name, dtype in ORIGIN.items() if name != "_row"}
ENTRY = {**ORIGIN, "column": pl.String, "rule": pl.String, "value": pl.String, "record": pl.String}


MOST = 5  # rules that a reason names


@functools.cache
def _arrow(schema: tuple[tuple[str, Any], ...]) -> pa.Schema:
    return pl.DataFrame(schema=dict(schema)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema


class Spill:
    """An uncompressed Arrow file of one schema, made with the first rows."""

    def __init__(self, path: Path, schema: Mapping[str, Any]) -> None:
        self.path, self.rows = path, 0
        self._columns = list(schema)
        self._schema = _arrow(tuple(schema.items()))
        self._writer: pa.RecordBatchFileWriter | None = None

    def write(self, frame: pl.DataFrame) -> None:
        """Append rows."""
        if not frame.height:
            return
        if self.rows and self._writer is None:
            raise ValueError(f"{self.path} is closed; rows that come now would take the place of those in it")
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self.path), self._schema)
        self._writer.write_table(frame.select(self._columns).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self._schema))
        self.rows += frame.height

    def closed(self) -> str | None:
        """End the file and give its path, or None if no row was written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        return str(self.path) if self.rows else None

    def discard(self) -> None:
        """Forget all rows; the next one begins the file anew."""
        if self.closed() is not None:
            self.path.unlink()
        self.rows = 0


class Stage:
    """What is staged of one arrival: its good rows and its quarantine entries, unless it is refused as a whole."""

    def __init__(self, arrival: Arrival, into: Path, columns: Mapping[str, Any]) -> None:
        self.arrival = arrival
        self.missed: str | None = None
        self.gone = False
        self.extra: set[str] = set()
        self.schema = {**columns, **ORIGIN}
        self._good = Spill(into / f"{arrival.id}.good.arrow", self.schema)
        self._bad = Spill(into / f"{arrival.id}.bad.arrow", ENTRY)
        self._reason = arrival.reason
        self._rejected = 0
        self._refused = False
        self._broken: Counter[str] = Counter()
        self._shared: Spill | None = None
        self._taken = 0

    @property
    def open(self) -> bool:
        """Tell whether rows may still come: not if it was refused or missed."""
        return not self._refused and self.missed is None

    @property
    def begun(self) -> bool:
        """Tell whether it has good rows in a file of its own."""
        return self._good.rows > 0

    def write(self, good: pl.DataFrame) -> None:
        """Add good rows."""
        if self.open and good.height:
            self._good.write(good.with_columns(**self._origin()))

    def set_aside(self, raw: pl.DataFrame, failures: pl.DataFrame) -> None:
        """Add failures, with the raw rows that they are about."""
        if self.open and failures.height:
            self._bad.write(self._entries(raw, failures))
            self._rejected += failures["_row"].n_unique()
            self._broken.update(f"{rule} in {column}" for column, rule in failures.select("column", "rule").iter_rows())

    def take(self, shared: Spill, rows: int) -> None:
        """Know good rows in a file that others have rows in too."""
        self._shared, self._taken = shared, self._taken + rows

    def seal(self) -> None:
        """End the files, since all rows are there: of many arrivals, few are to be open at a time."""
        self._good.closed()
        self._bad.closed()

    def refuse(self, reason: str) -> None:
        """Quarantine the arrival whole: one entry says why, and no row of it is kept."""
        self._good.discard()
        self._bad.discard()
        self._bad.write(pl.DataFrame([{"rule": "unreadable", "value": reason}], schema=ENTRY).with_columns(**self._origin()))
        self._reason, self._refused, self._rejected = reason, True, 0

    def finished(self) -> Staged:
        """End the files and tell what is in them."""
        if self.missed:
            self._good.discard()
            self._bad.discard()
            return Staged(self.arrival, good=None, bad=None, accepted=0, rejected=0, missed=self.missed, gone=self.gone)
        good, bad = (self._shared or self._good).closed(), self._bad.closed()
        note = f"{self.arrival.name} has columns that the contract does not have; they are left out: {sorted(self.extra)}."
        return Staged(
            arrival=self.arrival,
            good=good,
            bad=bad,
            accepted=self._good.rows + self._taken,
            rejected=self._rejected,
            reason=self._reason or self._told(),
            notes=(note,) if self.extra else (),
        )

    def _told(self) -> str | None:
        """Say which rules were broken, the most frequent first, or None if none was."""
        broken = ", ".join(f"{rule} ({count})" for rule, count in self._broken.most_common(MOST))
        if not self._good.rows + self._taken:
            return f"No row meets the contract: {broken}."
        return f"Rows break the contract: {broken}." if broken else None

    def _origin(self) -> dict[str, pl.Expr]:
        own = {"_arrival": pl.lit(self.arrival.id), "_file": pl.lit(self.arrival.uri)}
        return {**own, "_seq": pl.lit(self.arrival.seq, dtype=pl.Int64)}

    def _entries(self, raw: pl.DataFrame, failures: pl.DataFrame) -> pl.DataFrame:
        """Add to each failure where it comes from and the raw row as JSON."""
        rows = raw.join(failures.select("_row").unique(), on="_row", how="semi")
        records = rows.select("_row", record=pl.struct(pl.exclude("_row")).struct.json_encode())
        return failures.join(records, on="_row", how="left", maintain_order="left").with_columns(**self._origin())


def share(into: Path, parts: Sequence[tuple[Stage, pl.DataFrame]]) -> None:
    """Write the good rows of several arrivals, which are read to their end, into one file: one for each would cost more than its rows."""
    parts = [(stage, rows) for stage, rows in parts if rows.height]
    if not parts:
        return
    spill = Spill(into / f"{parts[0][0].arrival.id}.shared.arrow", parts[0][0].schema)
    origins = pl.DataFrame([(part.arrival.id, part.arrival.uri, part.arrival.seq) for part, _ in parts], schema=_WHENCE, orient="row")
    places = pl.Series(range(len(parts)), dtype=pl.UInt32).repeat_by(pl.Series([rows.height for _, rows in parts])).explode()
    spill.write(pl.concat([rows for _, rows in parts]).hstack(origins[places]))
    spill.closed()
    for stage, rows in parts:
        stage.take(spill, rows.height)
