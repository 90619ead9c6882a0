"""Quality: how good the predictions turned out to be, by version and over time, once their labels are there.

A label is found by the pipeline's key, or else its time, among those that came later (`labels`) and those of the rows to train on; of several for one
key the one that arrived last counts. Every prediction counts: one row that was asked about twice is two, and one that two versions answered is one of
each. A row that the version was trained on says nothing of how it does on others: where rows have a time, it is counted and left out of the scores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from tasks import contract, drift, frames
from tasks.blocks import entities, groups_of
from tasks.errors import UserError
from tasks.estimates import estimate
from tasks.evidence import Difference
from tasks.intervals import difference
from tasks.labels import columns_of
from tasks.metrics import METRICS, score_all
from tasks.ordering import from_text
from tasks.served import answers_of, column_of, is_answer
from tasks.spec import Pipeline
from tasks.stores import journal, lake, ledger

LABEL, SEEN, PERIOD = "_label", "_seen", "_period"
LONGEST = 36_500.0
BY_DAY = 14  # days up to which quality is shown by day, beyond that by week
_OWN = ("_prediction", "_time", "_version", "_cycle", "_role")


@dataclass(frozen=True)
class Measure:
    """How one version did in one role: in a `period` that begins on that day, or, where it is None, in all of them.

    Of `predictions` rows `labelled` have a label and `missing` have none yet; `seen` of the labelled were trained on and are not scored. `value` is the
    gate's metric with the ends of its interval, `metrics` are all that there are for the kind of target; None is what cannot be computed. `drift` is how
    far the predictions are from those of the version's first period, from 0 to 1.
    """

    version: int
    role: str
    period: str | None
    first: str
    last: str
    predictions: int
    labelled: int
    missing: int
    seen: int
    value: float | None
    low: float | None
    high: float | None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    drift: float | None = None


@dataclass(frozen=True)
class Comparison:
    """How much better one version did than another on `rows` labelled predictions that both have made (positive is better)."""

    version: int
    against: int
    rows: int
    difference: Difference


@dataclass(frozen=True)
class Quality:
    """Live quality of a pipeline: by version and role as a whole, the newest version first, and period by period."""

    pipeline: str
    metric: str
    since: str
    until: str
    by: str
    versions: tuple[Measure, ...]
    periods: tuple[Measure, ...]
    comparisons: tuple[Comparison, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give the documented JSON form: these fields by name."""
        return asdict(self)


def newest(labels: pl.LazyFrame, key: Sequence[str], target: str) -> pl.LazyFrame:
    """Give one label for each key, as `_label`: the last to arrive of those that are not missing. `labels` has `_seq` and `_row` beside them."""
    last = pl.col(target).sort_by("_seq", "_row").last().alias(LABEL)
    return labels.filter(pl.col(target).is_not_null()).group_by(key).agg(last)


def joined(predictions: pl.LazyFrame, labels: pl.LazyFrame, key: Sequence[str], target: str) -> pl.LazyFrame:
    """Give every prediction with its `_label`, missing where there is none; a key with a missing part has none."""
    asked_for = labels.join(predictions.select(key).unique(), on=key, how="semi")
    return predictions.join(newest(asked_for, key, target), on=key, how="left")


def in_periods(rows: pl.DataFrame, days: float) -> pl.DataFrame:
    """Name each row's `_period` by the day it begins on: a day, or beyond 14 days a week from its Monday."""
    return rows.with_columns(pl.col("_time").dt.truncate("1d" if days <= BY_DAY else "1w").cast(pl.Date).alias(PERIOD))


def measure(pipeline: Pipeline, rows: pl.DataFrame, period: str | None, reference: pl.DataFrame | None) -> Measure:
    """Measure the predictions of one version in one role, `rows` in order; `reference` are those that drift is counted from."""
    metric = METRICS[pipeline.gate.metric]
    labelled = rows.filter(pl.col(LABEL).is_not_null())
    scored = labelled.filter(~pl.col(SEEN))
    truth = frames.target_of(pipeline, scored.select(pl.col(LABEL).alias(pipeline.target))).to_numpy()
    answers = answers_of(scored)
    found = estimate(metric, truth, answers, _groups(pipeline, scored), pipeline.gate.confidence)
    return Measure(
        version=rows["_version"][0],
        role=rows["_role"][0],
        period=period,
        first=str(rows["_time"].dt.to_string("iso:strict").min()),
        last=str(rows["_time"].dt.to_string("iso:strict").max()),
        predictions=rows.height,
        labelled=labelled.height,
        missing=rows.height - labelled.height,
        seen=labelled.height - scored.height,
        value=found.value,
        low=found.low,
        high=found.high,
        metrics=score_all(pipeline.kind, truth, answers) if scored.height else {},
        drift=None if reference is None else _moved(reference, rows),
    )


def _groups(pipeline: Pipeline, rows: pl.DataFrame) -> Any:
    """Label the rows that may be alike: as the pipeline says, and without times and entities all predictions of one key."""
    if isinstance(pipeline.blocks, tuple) and not set(pipeline.blocks) <= set(rows.columns):
        return entities(rows.select(columns_of(pipeline)))
    return entities(rows.select(columns_of(pipeline))) if pipeline.blocks == "rows" else groups_of(pipeline, rows)


def _moved(reference: pl.DataFrame, rows: pl.DataFrame) -> float:
    """Give how far predictions have moved: the probability of a binary target, else what is predicted."""
    before, after = answers_of(reference), answers_of(rows)
    name = "p_1" if "p_1" in before.columns and "p_1" in after.columns else "predicted"
    return drift.distance(before[name], after[name])


def measures(pipeline: Pipeline, rows: pl.DataFrame) -> Iterator[Measure]:
    """Measure each version in each role, as a whole and then period by period, the newest version first."""
    for _, mine in rows.group_by("_version", "_role", maintain_order=True):
        yield measure(pipeline, mine, None, None)
        parts = mine.sort(PERIOD, maintain_order=True).partition_by(PERIOD, maintain_order=True)
        for part in parts:
            yield measure(pipeline, part, str(part[PERIOD][0]), parts[0] if part is not parts[0] else None)


def compare(pipeline: Pipeline, rows: pl.DataFrame) -> Iterator[Comparison]:
    """Compare the versions that predicted the same rows: each that shadows with each that answered."""
    scored = rows.filter(pl.col(LABEL).is_not_null() & ~pl.col(SEEN))
    shadows, answered = scored.filter(pl.col("_role") == "shadow"), scored.filter(pl.col("_role") != "shadow")
    for (version,), ours in shadows.group_by("_version", maintain_order=True):
        for (against,), theirs in answered.group_by("_version", maintain_order=True):
            both = ours.join(theirs.select("_prediction"), on="_prediction", how="semi").unique("_prediction", maintain_order=True)
            if both.height:
                other = both.select("_prediction").join(theirs.unique("_prediction"), on="_prediction", how="left", maintain_order="left")
                yield Comparison(int(str(version)), int(str(against)), both.height, _difference(pipeline, both, other))


def _difference(pipeline: Pipeline, ours: pl.DataFrame, theirs: pl.DataFrame) -> Difference:
    truth = frames.target_of(pipeline, ours.select(pl.col(LABEL).alias(pipeline.target))).to_numpy()
    return difference(
        METRICS[pipeline.gate.metric],
        truth,
        answers_of(ours),
        answers_of(theirs),
        groups=_groups(pipeline, ours),
        confidence=pipeline.gate.confidence,
        alpha=pipeline.gate.alpha,
    )


def quality(pipeline: Pipeline, days: float, now: datetime | None = None) -> Quality:
    """Measure the predictions of the last `days` days before `now` (UTC).

    Raises:
        UserError: if no label can be joined: there is neither key nor time, or a column of it is private.
        Breakdown: if ledger, log or lake cannot be read.
    """
    until = (now or datetime.now(UTC)).replace(tzinfo=None)
    since = until - timedelta(days=min(days, LONGEST))
    rows = in_periods(_rows(pipeline, since, until), days)
    found = list(measures(pipeline, rows))
    return Quality(
        pipeline=pipeline.name,
        metric=pipeline.gate.metric,
        since=since.isoformat(timespec="seconds"),
        until=until.isoformat(timespec="seconds"),
        by="day" if days <= BY_DAY else "week",
        versions=tuple(one for one in found if one.period is None),
        periods=tuple(one for one in found if one.period is not None),
        comparisons=tuple(compare(pipeline, rows)),
    )


def _rows(pipeline: Pipeline, since: datetime, until: datetime) -> pl.DataFrame:
    """Read the predictions with their labels, the newest version first, each version's in the order of its rows."""
    key, types = columns_of(pipeline), contract.dtypes(pipeline.contract)
    logged = journal.scan(pipeline.name, since=since.date(), until=until.date())
    known = logged.collect_schema()
    if not known:
        return pl.DataFrame(
            schema={
                **dict.fromkeys(_OWN, pl.String),
                "_time": pl.Datetime("us"),
                **{name: types[name] for name in key},
                LABEL: types[pipeline.target],
                SEEN: pl.Boolean,
            }
        )
    _refuse_private(pipeline, key)
    blocks = pipeline.blocks if isinstance(pipeline.blocks, tuple) else ()
    raw = [name for name in dict.fromkeys((*key, *((pipeline.time,) if pipeline.time else ()), *blocks)) if name in types]
    answers = [name for name in known if is_answer(name)]
    columns = [column_of(known, name, types[name]).alias(name) for name in raw]
    predictions = logged.filter(pl.col("_time").is_between(since, until)).select(*_OWN, *answers, *columns)
    rows = joined(predictions, _labels(pipeline, key), key, pipeline.target).collect(engine="streaming")
    order = pipeline.time or "_time"
    return rows.with_columns(_seen(pipeline, rows, types).alias(SEEN)).sort(
        "_version", order, "_prediction", descending=[True, False, False]
    )


def _refuse_private(pipeline: Pipeline, key: Sequence[str]) -> None:
    hidden = sorted(set(key) & set(pipeline.serving.private))
    if hidden:
        raise UserError(
            f"No label can be joined to a prediction of {pipeline.name!r}: {hidden} names the rows and is in Serving.private, so that it is not logged. "
            "Take it out there, or give the pipeline a key that may be kept."
        )


def _labels(pipeline: Pipeline, key: Sequence[str]) -> pl.LazyFrame:
    """Give all labels that there are, from both tables."""
    columns = contract.dtypes(pipeline.contract)
    wanted = [*dict.fromkeys((*key, pipeline.target)), "_seq", "_row"]
    both: tuple[lake.Table, ...] = ("labels", "rows")
    tables = [table for table in both if lake.exists(pipeline.name, table)]
    found = [lake.scan(pipeline.name, table, columns=columns).select(wanted) for table in tables]
    empty = {name: columns.get(name, pl.Int64()) for name in wanted}
    return pl.concat(found) if found else pl.LazyFrame(schema=empty)


def _seen(pipeline: Pipeline, rows: pl.DataFrame, types: Mapping[str, pl.DataType]) -> pl.Expr:
    """Tell which rows are no newer than what their version was trained on."""
    told = pl.lit(False)
    if pipeline.time is None:
        return told
    for version, cycle in rows.select("_version", "_cycle").unique().iter_rows():
        model = ledger.known(pipeline.name, version, cycle)
        if model is not None and model.trained_until is not None:
            mine, last = pl.col("_version") == version, from_text(model.trained_until, types[pipeline.time])
            told = told | (mine & (pl.col(pipeline.time) <= last)).fill_null(False)
    return told
