"""Trace: from one prediction back to the version, the decision, the snapshot and the files that it came from, and predict it anew.

The moment of a prediction is in its name, so that of a large log only the days about it are read. What has not reached the lake yet is looked
for in the spools of this machine.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import polars as pl

from tasks import frames, serving
from tasks.errors import RatchetError, UserError
from tasks.ordering import from_text, order_of
from tasks.records import Arrival, Champion, Snapshot
from tasks.served import answers_of, raw_of
from tasks.spec import Pipeline
from tasks.stores import journal, lake, ledger, models, spool
from tasks.stores.kept import Loaded

F = TypeVar("F", pl.DataFrame, pl.LazyFrame)
_NAME = re.compile(r"(?P<request>(?P<time>[0-9a-f]{12})[0-9a-f]{16})-(?P<row>\d+)")
ABOUT = timedelta(days=1)  # a prediction is logged with the server's clock, its name is made from it too


@dataclass(frozen=True)
class File:
    """A version of a file that rows of the snapshot came from, and how many; `arrival` is None if the ledger does not know it."""

    file: str
    rows: int
    arrival: Arrival | None


@dataclass(frozen=True)
class Again:
    """The prediction made anew: whether it is `equal` to the last bit, None if it could not be made, and a sentence."""

    equal: bool | None
    answer: Mapping[str, Any]
    sentence: str


@dataclass(frozen=True)
class Trace:
    """Where a prediction comes from. `row` are the raw columns as served, `answer` the columns of the answer; what is not known is None.

    Other versions that predicted the row, and whose answer nobody got, are in `shadows`: version, role and the columns of the answer.
    `decision` is the one that made the version, in its documented JSON form. `files` are those of the snapshot, the most rows first.
    """

    prediction: str
    pipeline: str
    at: str
    version: int
    cycle: int
    role: str
    server: str
    row: Mapping[str, Any]
    answer: Mapping[str, Any]
    model: Champion | None
    decision: Mapping[str, Any] | None
    snapshot: Snapshot | None
    files: tuple[File, ...]
    files_note: str
    mlflow_run: str | None
    mlflow_url: str | None
    again: Again
    shadows: tuple[Mapping[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Give the documented JSON form: these fields by name."""
        return asdict(self)


def parts_of(prediction: str) -> tuple[str, datetime]:
    """Give the request of a prediction and its moment (UTC).

    Raises:
        UserError: if it is no prediction's name.

    >>> parts_of("0199c4506cfa0123456789abcdef-2")
    ('0199c4506cfa0123456789abcdef', datetime.datetime(2025, 10, 8, 14, 53, 49, 178000, tzinfo=datetime.timezone.utc))
    """
    found = _NAME.fullmatch(prediction)
    try:
        if found is not None:
            return found["request"], datetime.fromtimestamp(int(found["time"], 16) / 1000, UTC)
    except (OverflowError, ValueError):  # a moment that no calendar has
        pass
    raise UserError(
        f"{prediction!r} is no prediction's name; expected 28 hexadecimal digits, a hyphen and the row, as the `id` of each of a reply's predictions."
    )


def find(pipeline: str, prediction: str) -> pl.DataFrame:
    """Give all logged rows of the prediction's request, in order, of every version that predicted them; none if there is none.

    Raises:
        UserError: if it is no prediction's name.
        Breakdown: if the lake cannot be read.
    """
    request, moment = parts_of(prediction)
    waiting = [_of_request(pl.DataFrame(batch), request) for batch in spool.waiting(pipeline)]
    table = journal.scan(pipeline, since=(moment - ABOUT).date(), until=(moment + ABOUT).date(), request=request)
    logged = _of_request(table, request).collect() if table.collect_schema() else pl.DataFrame()
    found = pl.concat([part for part in (logged, *waiting) if part.height] or [pl.DataFrame()], how="diagonal_relaxed")
    if not found.height:
        return found
    found = found.unique(["_prediction", "_version", "_role"])  # what is committed at this moment is in both
    return found.sort("_role", "_version").sort(pl.col("_prediction").str.split("-").list.last().cast(pl.Int64), maintain_order=True)


def _of_request(rows: F, request: str) -> F:
    return rows.filter(pl.col("_prediction").str.starts_with(f"{request}-"))


def equal_bits(ours: pl.DataFrame, theirs: pl.DataFrame) -> bool:
    """Tell whether two answers have the same columns and the same values, to the last bit."""
    if set(ours.columns) != set(theirs.columns) or ours.height != theirs.height:
        return False
    return all(_bits(ours[name]) == _bits(theirs[name]) for name in ours.columns)


def _bits(column: pl.Series) -> Any:
    return column.cast(pl.Float64).to_numpy().tobytes() if column.dtype.is_numeric() else column.to_list()


def again(model: Loaded, rows: pl.DataFrame, place: int, private: Collection[str]) -> Again:
    """Predict the rows of one request with the model's own code, all together as they came, and hold the answer for one against the log."""
    wanted = frames.known_in_time(model.pipeline)
    hidden = sorted(set(wanted) & {*private, *model.pipeline.serving.private})
    if hidden:
        return Again(
            None, {}, f"It cannot be predicted anew: {', '.join(hidden)} {'is' if len(hidden) == 1 else 'are'} private and not kept."
        )
    if [int(name.rpartition("-")[2]) for name in rows["_prediction"]] != list(range(rows.height)):
        return Again(None, {}, "It is not predicted anew: rows of the same request are not in the log.")
    try:
        made = serving.predict(model, raw_of(rows, wanted))
    except RatchetError as error:
        return Again(None, {}, f"It could not be predicted anew: {error}")
    except Exception as error:  # the estimator is the user's, and may refuse a value
        return Again(None, {}, f"It could not be predicted anew: the model raised {type(error).__name__}: {error}")
    same = equal_bits(answers_of(rows)[[place]], made[[place]])
    told = "Predicted anew with that version's own code, the answer is equal to the last bit."
    return Again(same, made.row(place, named=True), told if same else "Predicted anew with that version's own code, THE ANSWER IS ANOTHER.")


def files_of(pipeline: Pipeline, snapshot: Snapshot) -> list[tuple[str, str, int]]:
    """Give the arrivals that the rows of a snapshot came from: identity, file and number of rows, the most rows first.

    Raises:
        Breakdown: if that version of the lake cannot be read.
    """
    rows = lake.scan(pipeline.name, version=snapshot.version).select(
        "_arrival", "_file", "_seq", "_row", order_of(pipeline).alias("_order")
    )
    first = from_text(snapshot.first, rows.collect_schema()["_order"])
    rows = rows.filter(pl.col("_order") >= first) if first is not None else rows
    if rows.select(pl.len()).collect().item() > snapshot.rows:  # the window begins amid rows of equal order
        rows = rows.sort("_order", "_seq", "_row").tail(snapshot.rows)
    counted = rows.group_by("_arrival", "_file").len().sort(["len", "_file"], descending=[True, False]).collect(engine="streaming")
    return list(counted.iter_rows())


def trace(name: str, prediction: str, private: Collection[str] = ()) -> Trace | None:
    """Trace a prediction of a pipeline back to what it came from, and predict it anew; None if it is not in the log.

    `private` are columns that are not logged (any more). What cannot be told has its reason in it, and is no error.

    Raises:
        UserError: if it is no prediction's name.
        Breakdown: if ledger or log cannot be read.
    """
    rows = find(name, prediction)
    mine = rows.filter(pl.col("_prediction") == prediction) if rows.height else rows
    if not mine.height:
        return None
    answered = mine.filter(pl.col("_role") != "shadow")
    own = (answered if answered.height else mine).row(0, named=True)
    rows = rows.filter(pl.col("_version") == own["_version"], pl.col("_role") == own["_role"])
    place = int(rows["_prediction"].index_of(prediction) or 0)
    model = ledger.known(name, own["_version"], own["_cycle"])
    decision = ledger.decision(name, model.cycle if model else own["_cycle"])
    snapshot = Snapshot(**decision["snapshot"]) if decision and decision["snapshot"] else None
    loaded, why = _loaded(model)
    files, note = _files(loaded, snapshot) if loaded else ((), f"The files are not known: {why}")
    known = frames.known_in_time(loaded.pipeline) if loaded else [column for column in rows.columns if not column.startswith("_")]
    columns = [column for column in known if column not in private]
    return Trace(
        prediction=prediction,
        pipeline=name,
        at=own["_time"].isoformat(),
        version=own["_version"],
        cycle=own["_cycle"],
        role=own["_role"],
        server=own["_server"],
        row=raw_of(rows, columns).row(place, named=True),
        answer=answers_of(rows).row(place, named=True),
        model=model,
        decision=decision,
        snapshot=snapshot,
        files=files,
        files_note=note,
        mlflow_run=decision["mlflow_run"] if decision else None,
        mlflow_url=decision["mlflow_url"] if decision else None,
        again=again(loaded, rows, place, private) if loaded else Again(None, {}, f"It could not be predicted anew: {why}"),
        shadows=_others(mine, own),
    )


def _others(mine: pl.DataFrame, own: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Give what the other versions answered."""
    rest = mine.filter((pl.col("_version") != own["_version"]) | (pl.col("_role") != own["_role"]))
    parts = [rest[[place]] for place in range(rest.height)]
    return tuple({"version": part["_version"][0], "role": part["_role"][0], **answers_of(part).row(0, named=True)} for part in parts)


def _loaded(model: Champion | None) -> tuple[Loaded | None, str]:
    if model is None:
        return None, "the ledger does not know the version."
    try:
        return models.load(model), ""
    except RatchetError as error:
        return None, str(error)


def _files(loaded: Loaded, snapshot: Snapshot | None) -> tuple[tuple[File, ...], str]:
    """Give the snapshot's files, or say why they are not known."""
    if snapshot is None:
        return (), "The decision has no snapshot."
    try:
        found = files_of(loaded.pipeline, snapshot)
    except RatchetError as error:
        return (), str(error)
    known = ledger.identified(loaded.pipeline.name, [arrival for arrival, _, _ in found])
    return tuple(File(file, rows, known.get(arrival)) for arrival, file, rows in found), ""
