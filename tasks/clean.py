"""Clean: drop repeats, fill in what the pipeline declares, and commit a batch of staged arrivals to the lake.

A row is a repeat if the same row came before it in its arrival or, where the pipeline has a key, if a row of the same key and content is
in the batch or in the lake. A row of a known key with other content is quarantined: it is not known which of the two is right.
What is quarantined is committed first, the rows after it. What a cycle that was killed has left is finished by the next (`recover`).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import contract, crash, frames
from tasks.records import Arrival, Cleaned, Staged
from tasks.spec import Pipeline
from tasks.staging import ENTRY, ORIGIN
from tasks.stores import files, lake, ledger
from tasks.stores.lake import Table
from tasks.stores.ledger import Lease

logger = logging.getLogger(__name__)

_SLICE = 250_000
MARK = pl.Enum(["keep", "repeat", "conflict"])
TABLES: tuple[Table, Table] = ("rows", "quarantine")
KEEP, REPEAT, CONFLICT = (pl.lit(mark, dtype=MARK) for mark in MARK.categories)


def marks(pipeline: Pipeline, staged: pl.LazyFrame, known: pl.LazyFrame | None) -> pl.DataFrame:
    """Say of each staged row whether it is kept, a repeat, or in conflict with another row of its key.

    Returns a frame in the order of the rows: `_seq`, `_row` and `mark` ("keep", "repeat" or "conflict"). `known` are rows of the
    lake with the same columns. Content is compared by two 64-bit hashes of it: two different rows are taken for one with
    probability n^2 / 2^129, for a billion rows less than 1e-20.
    """
    columns = list(contract.dtypes(pipeline.contract))
    content = [pl.struct(columns).hash(seed).alias(f"_h{seed}") for seed in (1, 2)]
    rows = staged.select("_seq", "_row", *pipeline.key, *content).collect(engine="streaming")
    repeat = _seen_before(rows, rows["_h1"], ["_h1", "_h2"] if pipeline.key else ["_seq", "_h1", "_h2"])
    if not pipeline.key:
        return rows.select("_seq", "_row", mark=pl.when(repeat).then(REPEAT).otherwise(KEEP))
    conflict = _seen_before(rows, rows.select(pipeline.key).hash_rows(), list(pipeline.key))
    rows = rows.with_columns(mark=pl.when(repeat).then(REPEAT).when(conflict).then(CONFLICT).otherwise(KEEP))
    return (rows if known is None else _against(rows, known, pipeline.key, content)).select("_seq", "_row", "mark")


def _seen_before(rows: pl.DataFrame, hashes: pl.Series, columns: list[str]) -> pl.Series:
    """Tell of each row whether an earlier one has the same values; rows whose hash is like no other's need no closer look."""
    suspects = rows.with_row_index("_place").filter(hashes.is_duplicated())
    later = suspects.filter(~pl.struct(columns).is_first_distinct())["_place"]
    return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True).scatter(later, True)


def _against(rows: pl.DataFrame, known: pl.LazyFrame, key: tuple[str, ...], content: list[pl.Expr]) -> pl.DataFrame:
    """Mark the rows whose key is in the lake; only the part of the lake between the smallest and the largest key is read."""
    between = [pl.col(name).is_between(pl.lit(rows[name].min()), pl.lit(rows[name].max())) for name in key if rows[name].null_count() == 0]
    wanted = rows.lazy().select(key).unique()
    old = known.filter(*between).select(*key, *content).join(wanted, on=key, how="semi", nulls_equal=True).unique(key)
    joined = rows.lazy().join(old, on=key, how="left", suffix="_known", nulls_equal=True, maintain_order="left")
    found = pl.col("_h1_known").is_not_null()
    equal = (pl.col("_h1") == pl.col("_h1_known")) & (pl.col("_h2") == pl.col("_h2_known"))
    mark = pl.when(found & equal).then(REPEAT).when(found).then(CONFLICT).otherwise("mark")
    return joined.with_columns(mark=mark).collect(engine="streaming")


def commit(pipeline: Pipeline, lease: Lease, staged: Sequence[Staged], tables: tuple[Table, Table] = TABLES) -> Cleaned:
    """Commit a batch of staged arrivals, each at most once, and settle them in the ledger as arrivals of the lease's stream.

    The good rows go to the first of the pipeline's `tables`, what is set aside to the second.

    Raises:
        LeaseLost: if the cycle's lease was taken over; the lake is as it was, or the next cycle finds the commit and settles it.
    """
    fresh = _refused_with_their_keepers([part for part in staged if part.missed is None])
    paths = list(dict.fromkeys(part.good for part in fresh if part.good is not None and part.accepted))  # several may share one
    rows = _imputed(pipeline, paths) if paths else None
    marked = marks(pipeline, rows, _known(pipeline, fresh, tables[0])) if rows is not None else None
    counts = _counted(marked)
    arrivals = tuple(_outcome(part, counts.get(part.arrival.seq, {})) for part in fresh)
    ledger.renew(lease)
    crash.point("clean.marked")
    _commit_bad(pipeline, lease, tables[1], fresh, rows, marked)
    crash.point("clean.quarantined")
    version = _commit_good(pipeline, lease, tables[0], arrivals, rows, marked)
    crash.point("clean.committed")
    ledger.settle(lease, arrivals)
    crash.point("clean.settled")
    missed = [part for part in staged if part.missed is not None]
    ledger.put_off(lease, [(part.arrival, part.missed or "") for part in missed if not part.gone])
    ledger.give_up(lease, [(part.arrival, part.missed or "") for part in missed if part.gone])
    return Cleaned(version=version or lake.version(pipeline.name, tables[0]) or 0, arrivals=arrivals, imputed=_filled(pipeline, paths))


def recover(pipeline: str, lease: Lease, tables: tuple[Table, Table] = TABLES) -> tuple[Arrival, ...]:
    """Finish what cycles that did not end have left in the lake: settle what they committed, and take out what they only set aside.

    Raises:
        LeaseLost: if the cycle's lease was taken over meanwhile.
    """
    since = ledger.unsettled_since(lease)
    if since >= lease.token:
        return ()
    lake.fence(pipeline, lease.token, tables)
    told = {entry["id"]: entry for entry in lake.committed(pipeline, tables[0], since)}
    pending = ledger.outstanding(lease.pipeline)
    done = tuple(replace(arrival, **told[arrival.id]) for arrival in pending if arrival.id in told)
    ledger.settle(lease, done)
    half = {entry["id"] for entry in lake.committed(pipeline, tables[1], since)} - told.keys()
    lake.remove(pipeline, tables[1], [arrival.id for arrival in pending if arrival.id in half], token=lease.token)
    return done


def _refused_with_their_keepers(parts: Sequence[Staged]) -> list[Staged]:
    """Let a copy of content that was refused be refused too, so that it does not take out the rows that its file has."""
    copied = [part.arrival.duplicate_of for part in parts if part.arrival.duplicate_of is not None]
    bad = ledger.refused(copied) | {part.arrival.seq for part in parts if part.arrival.duplicate_of is None and not part.accepted}
    return [replace(part, arrival=replace(part.arrival, duplicate_of=None)) if part.arrival.duplicate_of in bad else part for part in parts]


def _imputed(pipeline: Pipeline, paths: Sequence[str]) -> pl.LazyFrame:
    return pl.scan_ipc(list(paths)).with_columns(frames.fills(pipeline, pipeline.impute))


def _filled(pipeline: Pipeline, paths: Sequence[str]) -> dict[str, int]:
    """Count the missing values that were filled in, by column."""
    if not paths or not pipeline.impute:
        return {}
    return pl.scan_ipc(list(paths)).select(pl.col(list(pipeline.impute)).null_count()).collect().row(0, named=True)


def _known(pipeline: Pipeline, fresh: Sequence[Staged], table: Table) -> pl.LazyFrame | None:
    """Give the lake's rows that stay when this batch is committed: not those of files of which it has a new version."""
    if not pipeline.key or not lake.exists(pipeline.name, table):
        return None
    leaving = [part.arrival.uri for part in fresh if part.arrival.duplicate_of is not None or part.accepted]
    return lake.scan(pipeline.name, table, columns=contract.dtypes(pipeline.contract)).filter(~pl.col("_file").is_in(leaving))


def _commit_good(
    pipeline: Pipeline,
    lease: Lease,
    table: Table,
    arrivals: Sequence[Arrival],
    rows: pl.LazyFrame | None,
    marked: pl.DataFrame | None,
) -> int | None:
    taken = [arrival for arrival in arrivals if arrival.state != "quarantined"]
    if not taken:
        return None
    schema = {**contract.dtypes(pipeline.contract), **ORIGIN}
    uris = [arrival.uri for arrival in taken]
    replaced = uris if ledger.live_files(lease.pipeline, uris) else []
    kept, told = _kept(rows, marked, list(schema)), [_told(arrival) for arrival in taken]
    return lake.commit(pipeline.name, table, kept, schema, told, token=lease.token, replaced=replaced)


def _told(arrival: Arrival) -> dict[str, Any]:
    """Give what a commit says of an arrival, for the cycle that may have to settle it."""
    return {name: getattr(arrival, name) for name in ("id", "state", "accepted", "rejected", "repeated", "reason")}


def _kept(rows: pl.LazyFrame | None, marked: pl.DataFrame | None, columns: list[str]) -> Iterator[pl.DataFrame]:
    if rows is None or marked is None:
        return
    keep, offset = marked["mark"] == "keep", 0
    for chunk in rows.select(columns).collect_batches(chunk_size=_SLICE, maintain_order=True):
        yield chunk.filter(keep.slice(offset, chunk.height))
        offset += chunk.height


def _commit_bad(
    pipeline: Pipeline, lease: Lease, table: Table, fresh: Sequence[Staged], rows: pl.LazyFrame | None, marked: pl.DataFrame | None
) -> None:
    frames = [pl.read_ipc(part.bad) for part in fresh if part.bad is not None]
    conflicts = marked.filter(pl.col("mark") == "conflict") if marked is not None else None
    if rows is not None and conflicts is not None and conflicts.height:
        frames.append(_conflicts(pipeline, rows, conflicts))
    ids = sorted({name for frame in frames for name in frame["_arrival"].unique()})
    if ids:
        lake.commit(pipeline.name, table, frames, ENTRY, [{"id": name} for name in ids], token=lease.token)


def _conflicts(pipeline: Pipeline, rows: pl.LazyFrame, marked: pl.DataFrame) -> pl.DataFrame:
    """Describe the rows whose key is taken by a row of other content."""
    columns = list(contract.dtypes(pipeline.contract))
    value = pl.struct(list(pipeline.key)).struct.json_encode()
    found = rows.join(marked.lazy().select("_seq", "_row"), on=["_seq", "_row"], how="semi").with_columns(
        column=pl.lit(", ".join(pipeline.key)), rule=pl.lit("key_conflict"), value=value, record=pl.struct(columns).struct.json_encode()
    )
    return found.select(list(ENTRY)).collect()


def _counted(marked: pl.DataFrame | None) -> dict[int, dict[str, int]]:
    """Count each arrival's rows by their mark."""
    counts: dict[int, dict[str, int]] = {}
    for seq, mark, rows in marked.group_by("_seq", "mark").len().iter_rows() if marked is not None else ():
        counts.setdefault(seq, {})[mark] = rows
    return counts


def _outcome(part: Staged, counts: Mapping[str, int]) -> Arrival:
    """Say what became of an arrival: how many rows were kept, set aside and dropped, and in which state that leaves it."""
    if part.arrival.duplicate_of is not None:
        return replace(part.arrival, state="duplicate")
    if not part.accepted:
        return replace(part.arrival, state="quarantined", rejected=part.rejected, reason=part.reason)
    conflicts = counts.get("conflict", 0)
    known = f"The key of {conflicts} rows is known with other content." if conflicts else ""
    reason = " ".join(filter(None, (part.reason, known))) or None
    kept, rejected = counts.get("keep", 0), part.rejected + conflicts
    return replace(part.arrival, state="ingested", accepted=kept, rejected=rejected, repeated=counts.get("repeat", 0), reason=reason)


def compact(pipeline: str, lease: Lease, table: Table = "rows") -> None:
    """Join the small files of a table where there are many.

    Raises:
        LeaseLost: if the cycle's lease was taken over.
    """
    ledger.renew(lease)
    if lake.compact(pipeline, table, token=lease.token):
        logger.info("Joined the small files of %s of %s", table, pipeline)
        crash.point("lake.compacted")


@task(name="clean", task_run_name="clean {what}", cache_policy=NO_CACHE, persist_result=False)
def clean(pipeline: Pipeline, lease: Lease, staged: Sequence[Staged], what: str, tables: tuple[Table, Table] = TABLES) -> Cleaned:
    """Commit a batch of staged arrivals, shown as `what`, and remove what was staged."""
    done = commit(pipeline, lease, staged, tables)
    for part in staged:
        copies = files.spool(pipeline.name).glob(f"{part.arrival.sha256}*")
        for path in (*copies, *(Path(path) for path in (part.good, part.bad) if path is not None)):
            path.unlink(missing_ok=True)
    logger.info(
        "Cleaned %s: %d rows kept, %d rejected, %d repeats, filled in %s", what, done.accepted, done.rejected, done.repeated, done.imputed
    )
    return done
