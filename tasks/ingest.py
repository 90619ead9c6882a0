"""Ingest: read arrivals, lay the contract to every row, and stage the good rows and the bad ones with their reasons.

Nothing reaches the lake here. An arrival that cannot be parsed is staged with its reason, so that it delays no other.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from tasks import contract, formats
from tasks.errors import Changed, Unreadable
from tasks.records import Arrival, Look, Staged
from tasks.spec import Pipeline
from tasks.stores import files
from tasks.stores.lake import OWN, QUARANTINE

logger = logging.getLogger(__name__)

MAX_BYTES = 256 << 20
MAX_FILES = 500


def stage(pipeline: Pipeline, arrival: Arrival, into: Path) -> Staged:
    """Read one arrival, check it, and write its good rows and its quarantine entries to Arrow files in `into`.

    Raises:
        Changed: if its bytes are no longer those that were observed.
    """
    if arrival.duplicate_of is not None:
        return Staged(arrival=arrival, good=None, bad=None, accepted=0, rejected=0, reason=arrival.reason)
    into.mkdir(parents=True, exist_ok=True)
    look = Look(name=arrival.name, uri=arrival.uri, size=arrival.size, stamp=arrival.stamp)
    path = _bytes_of(pipeline.name, arrival, look)
    try:
        staged = _check(pipeline, arrival, path, into)
    except Unreadable as error:
        staged = Staged(arrival=arrival, good=None, bad=_whole(arrival, str(error), into), accepted=0, rejected=0, reason=str(error))
    if not files.unchanged(look):
        raise Changed(f"{arrival.name} changed while it was read; nothing of it was kept. It is taken up again when it has settled.")
    return staged


def _bytes_of(pipeline: str, arrival: Arrival, look: Look) -> Path:
    spool = files.spool(pipeline)
    spooled = next(spool.glob(f"{arrival.sha256}*"), None)
    if spooled is not None:
        return spooled
    if files.is_local(look):
        if not files.unchanged(look):
            raise Changed(f"{arrival.name} is not the file that was observed any more; it is taken up again as a new version.")
        return Path(look.uri)
    fetched = files.fetch(look, spool)
    if fetched.sha256 != arrival.sha256:
        raise Changed(f"{arrival.name} is not the object that was observed any more; it is taken up again as a new version.")
    return fetched.path


def _check(pipeline: Pipeline, arrival: Arrival, path: Path, into: Path) -> Staged:
    columns = contract.dtypes(pipeline.contract)
    good = _Spill(into / f"{arrival.id}.good.arrow", {**columns, **OWN})
    bad = _Spill(into / f"{arrival.id}.bad.arrow", QUARANTINE)
    rejected, extra = 0, set[str]()
    with good, bad:
        for raw in formats.chunks(formats.unpacked(path, arrival.name, into), arrival.name, list(columns), pipeline.source):
            typed, unreadable = contract.parse(raw, pipeline.contract)
            sound = _without(typed, unreadable)
            broken = contract.check(sound, pipeline.contract)
            good.write(_without(sound, broken).with_columns(**_origin(arrival)))
            failures = pl.concat([unreadable, broken])
            if failures.height:
                bad.write(_entries(arrival, raw, failures))
            rejected += failures["_row"].n_unique()
            extra.update(set(raw.columns) - set(columns) - {"_row"})
    reason = None if good.rows else "No row meets the contract."
    notes = (f"{arrival.name} has columns that the contract does not have; they are left out: {sorted(extra)}.",) if extra else ()
    return Staged(arrival=arrival, good=str(good.path), bad=str(bad.path), accepted=good.rows, rejected=rejected, reason=reason, notes=notes)


def _without(rows: pl.DataFrame, failures: pl.DataFrame) -> pl.DataFrame:
    return rows.join(failures, on="_row", how="anti", maintain_order="left") if failures.height else rows


def _origin(arrival: Arrival) -> dict[str, pl.Expr]:
    return {"_arrival": pl.lit(arrival.id), "_file": pl.lit(arrival.uri), "_seq": pl.lit(arrival.seq, dtype=pl.Int64)}


def _entries(arrival: Arrival, raw: pl.DataFrame, failures: pl.DataFrame) -> pl.DataFrame:
    """Add to each failure where it comes from and the raw row as JSON."""
    rows = raw.filter(pl.col("_row").is_in(failures["_row"].unique().implode()))
    records = rows.select("_row", record=pl.struct(pl.exclude("_row")).struct.json_encode())
    return failures.join(records, on="_row", how="left", maintain_order="left").with_columns(**_origin(arrival)).select(list(QUARANTINE))


def _whole(arrival: Arrival, reason: str, into: Path) -> str:
    """Stage the one entry that quarantines a whole file."""
    entry = {"_arrival": arrival.id, "_file": arrival.uri, "_seq": arrival.seq, "rule": "unreadable", "value": reason}
    with _Spill(into / f"{arrival.id}.whole.arrow", QUARANTINE) as spill:
        spill.write(pl.DataFrame([entry], schema=QUARANTINE))
    return str(spill.path)


@dataclass
class _Spill:
    """An uncompressed Arrow file that grows chunk by chunk."""

    path: Path
    schema: Mapping[str, Any]
    rows: int = 0
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "_Spill":
        self._arrow = pl.DataFrame(schema=self.schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        self._writer = self._open.enter_context(pa.ipc.new_file(str(self.path), self._arrow))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def write(self, frame: pl.DataFrame) -> None:
        table = frame.select(list(self.schema)).to_arrow(compat_level=pl.CompatLevel.oldest())
        self._writer.write_table(table.cast(self._arrow))
        self.rows += frame.height


def stage_all(pipeline: Pipeline, arrivals: Sequence[Arrival], into: Path) -> tuple[Staged, ...]:
    """Stage the arrivals one by one, showing how far it got; those that changed meanwhile are left for the next cycle."""
    progress = create_progress_artifact(0.0, description=f"{len(arrivals)} arrivals") if len(arrivals) > 1 else None
    done: list[Staged] = []
    for count, arrival in enumerate(arrivals, start=1):
        try:
            done.append(stage(pipeline, arrival, into))
        except Changed as error:
            logger.warning("%s", error)
        if progress is not None and (count % 10 == 0 or count == len(arrivals)):
            update_progress_artifact(progress, 100 * count / len(arrivals))  # type: ignore[arg-type]
    return tuple(done)


def batches(arrivals: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """Part arrivals, in their order, into batches of at most 256 MiB and 500 files; a larger file is a batch of its own."""
    batch: list[Arrival] = []
    for arrival in arrivals:
        if batch and (len(batch) >= MAX_FILES or sum(part.size for part in batch) + arrival.size > MAX_BYTES):
            yield batch
            batch = []
        batch.append(arrival)
    if batch:
        yield batch


@task(name="ingest", task_run_name="ingest {what}", cache_policy=NO_CACHE, persist_result=False)
def ingest(pipeline: Pipeline, arrivals: Sequence[Arrival], into: str, what: str) -> tuple[Staged, ...]:
    """Stage a batch of arrivals, shown as `what`."""
    return stage_all(pipeline, arrivals, Path(into))
