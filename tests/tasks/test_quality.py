"""Live quality: predictions held against the labels that came before, with or after them, by version and over time."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import accuracy_score, log_loss

from deployments import measured
from flows import pipelines
from tasks.errors import UserError
from tasks.estimates import estimate
from tasks.metrics import METRICS
from tasks.predictions import Limits, PredictionLog, Served
from tasks.quality import in_periods, joined, newest, quality
from tasks.records import Champion, Decision
from tasks.served import Role
from tasks.services import Serving
from tasks.spec import Pipeline
from tasks.stores import lake, ledger
from tests.flows.test_labels import land, take
from tests.landing import take_in

NOW = datetime(2026, 9, 21, 12, tzinfo=UTC)
TYPES = {"id": pl.Int64, "label": pl.String, "_seq": pl.Int64, "_row": pl.Int64}


def predicted(
    ids: Sequence[int],
    p: Sequence[float],
    *,
    version: int = 1,
    role: Role = "champion",
    days_ago: float = 1,
    name: str = "",
    cycle: int = 1,
) -> Served:
    """Make a request about rows of the toy pipeline that were answered with these probabilities."""
    moment = NOW.timestamp() - days_ago * 86_400
    request = f"{int(moment * 1000):012x}{name or hash((tuple(ids), version)) % 16**8:0>16}"[:28]
    at = [datetime(2024, 1, 1) + timedelta(minutes=number) for number in ids]
    rows = {"id": list(ids), "at": at, "x": [1.0] * len(ids), "colour": ["red"] * len(ids)}
    return Served(request, moment, version, cycle, role, rows, {"predicted": [int(chance >= 0.5) for chance in p], "p_1": list(p)})


def logged(*served: Served, spec: Pipeline | None = None) -> None:
    log = PredictionLog(spec or pipelines.get("toy"), "here", Limits(drain=0.01))
    for one in served:
        log.add(one)
    log.close()


def labels(source: Path, name: str, given: dict[int, str]) -> None:
    source.mkdir(exist_ok=True)
    land(source, name, "id,label\n" + "".join(f"{number},{label}\n" for number, label in given.items()))
    take(source)


@pytest.fixture
def source(home: Path, tmp_path: Path) -> Path:
    return tmp_path / "labels"


def test_predictions_are_scored_with_the_labels_that_are_there_and_the_others_are_counted_as_missing(source: Path) -> None:
    chances = [0.9, 0.2, 0.6, 0.4]
    logged(predicted([1, 2, 3, 4], chances))
    labels(source, "a.csv", {1: "yes", 2: "no", 3: "no", 77: "yes"})
    (whole,) = quality(pipelines.get("toy"), 7, NOW).versions
    assert (whole.predictions, whole.labelled, whole.missing, whole.seen) == (4, 3, 1, 0)
    assert whole.metrics["accuracy"] == pytest.approx(2 / 3)
    assert whole.value == pytest.approx(log_loss([1, 0, 0], chances[:3]))
    assert (whole.low, whole.high) == (None, None)  # three rows say nothing of how sure that is


def test_labels_may_come_before_the_prediction_or_long_after_and_may_be_corrected(source: Path) -> None:
    labels(source, "early.csv", {1: "no", 2: "no"})
    logged(predicted([1, 2, 3], [0.9, 0.1, 0.9]))
    assert quality(pipelines.get("toy"), 7, NOW).versions[0].metrics["accuracy"] == 0.5
    labels(source, "late.csv", {3: "yes"})
    labels(source, "corrected.csv", {1: "yes"})
    (whole,) = quality(pipelines.get("toy"), 7, NOW).versions
    assert (whole.labelled, whole.metrics["accuracy"]) == (3, 1.0)


def test_the_rows_to_train_on_are_labels_too_and_what_arrived_last_counts(source: Path, tmp_path: Path) -> None:
    logged(predicted([1, 2], [0.9, 0.9]))
    inbox = tmp_path / "in"
    inbox.mkdir()
    cells = "id,at,x,colour,after,label\n1,2024-01-01T00:01:00,1,red,0,yes\n2,2024-01-01T00:02:00,1,red,0,no\n"
    (inbox / "rows.csv").write_text(cells)
    take_in(inbox)
    assert quality(pipelines.get("toy"), 7, NOW).versions[0].metrics["accuracy"] == 0.5
    labels(source, "a.csv", {2: "yes"})
    assert quality(pipelines.get("toy"), 7, NOW).versions[0].metrics["accuracy"] == 1.0


def test_a_row_that_was_asked_about_twice_counts_twice_and_one_that_two_versions_answered_for_each(source: Path) -> None:
    logged(
        predicted([1], [0.9], name="a"), predicted([1], [0.2], name="b"), predicted([1], [0.9], version=2, role="shadow", name="a", cycle=2)
    )
    labels(source, "a.csv", {1: "yes"})
    shadow, champion = quality(pipelines.get("toy"), 7, NOW).versions
    assert (shadow.version, shadow.role, shadow.predictions, shadow.metrics["accuracy"]) == (2, "shadow", 1, 1.0)
    assert (champion.version, champion.role, champion.predictions, champion.metrics["accuracy"]) == (1, "champion", 2, 0.5)


def test_quality_is_told_by_day_and_over_longer_times_by_week(source: Path) -> None:
    logged(*(predicted([day], [0.9], days_ago=day, name=str(day)) for day in range(1, 20)))
    labels(source, "a.csv", {day: "yes" if day < 5 else "no" for day in range(1, 20)})
    daily = quality(pipelines.get("toy"), 9.5, NOW)
    assert daily.by == "day"
    assert [(part.period, part.metrics["accuracy"]) for part in daily.periods][-5:] == [
        ("2026-09-16", 0.0),
        ("2026-09-17", 1.0),
        ("2026-09-18", 1.0),
        ("2026-09-19", 1.0),
        ("2026-09-20", 1.0),
    ]
    assert sum(part.predictions for part in daily.periods) == daily.versions[0].predictions == 9
    weekly = quality(pipelines.get("toy"), 28, NOW)
    assert [(part.period, part.predictions) for part in weekly.periods] == [("2026-08-31", 5), ("2026-09-07", 7), ("2026-09-14", 7)]


def test_drift_of_the_predictions_is_counted_from_the_versions_first_period(source: Path) -> None:
    random = np.random.default_rng(0)
    chances = [random.uniform(0, 1, 200), random.uniform(0, 1, 200), random.uniform(0.8, 1, 200)]
    logged(*(predicted(range(200), list(found), days_ago=5 - day, name=str(day)) for day, found in enumerate(chances)))
    first, same, moved = quality(pipelines.get("toy"), 7, NOW).periods
    assert first.drift is None
    assert same.drift is not None and moved.drift is not None
    assert same.drift < 0.15 < 0.25 < moved.drift
    assert (first.value, first.missing) == (None, 200)


def crowned(version: int, trained_until: datetime) -> Champion:
    lease = ledger.begin("toy", trigger="test", definition="d", flow_run=None)
    before = ledger.champion("toy")
    made = Champion(
        "toy", version, "models:/m", "0" * 64, lease.cycle, "linear", {}, trained_until.isoformat(), 1, ledger.now(), evidence_after=None
    )
    ledger.decide(
        lease,
        Decision("toy", lease.cycle, "promote", "", champion=version, previous=before.version if before else None),
        trained_rows=1,
        candidate=made,
    )
    ledger.release(lease)
    return made


def test_rows_that_the_version_was_trained_on_are_counted_and_not_scored(source: Path) -> None:
    crowned(1, datetime(2024, 1, 1, 0, 2))
    logged(predicted([1, 2, 3, 4], [0.9, 0.9, 0.9, 0.2]))
    labels(source, "a.csv", dict.fromkeys((1, 2, 3, 4), "yes"))
    (whole,) = quality(pipelines.get("toy"), 7, NOW).versions
    assert (whole.labelled, whole.seen, whole.metrics["accuracy"]) == (4, 2, 0.5)


def test_a_version_that_shadows_is_compared_on_the_rows_that_both_have_predicted(source: Path) -> None:
    random = np.random.default_rng(1)
    truth = random.uniform(size=400) < 0.5
    good, bad = (np.clip(np.where(truth, high, 1 - high) + random.normal(0, 0.05, 400), 0.01, 0.99).tolist() for high in (0.9, 0.6))
    logged(predicted(range(400), bad, name="a"), predicted(range(400), good, version=2, role="shadow", name="a", cycle=2))
    logged(predicted([900], [0.5], name="b"))
    labels(source, "a.csv", {number: "yes" if right else "no" for number, right in enumerate(truth)})
    (found,) = quality(pipelines.get("toy"), 7, NOW).comparisons
    assert (found.version, found.against, found.rows) == (2, 1, 400)
    assert found.difference.low is not None and found.difference.low > 0


def test_labels_that_nobody_asked_for_and_pipelines_without_predictions_give_nothing(source: Path) -> None:
    assert quality(pipelines.get("toy"), 7, NOW).versions == ()
    labels(source, "a.csv", {1: "yes"})
    assert quality(pipelines.get("toy"), 7, NOW).versions == ()
    logged(predicted([1], [0.9], days_ago=10))
    assert quality(pipelines.get("toy"), 7, NOW).versions == ()


def test_answers_of_another_type_than_before_are_scored_too(source: Path) -> None:
    logged(replace(predicted([5], [0.5], name="a"), answers={"predicted": ["yes"]}))  # the table's column becomes one of text
    logged(predicted([1, 2], [0.9, 0.2], name="b"))
    labels(source, "a.csv", {1: "yes", 2: "yes"})
    (whole,) = quality(pipelines.get("toy"), 7, NOW).versions
    assert (whole.predictions, whole.labelled) == (3, 2)
    assert whole.metrics["accuracy"] == 0.5


def test_where_no_label_can_be_joined_it_is_said_why(source: Path) -> None:
    with pytest.raises(UserError, match="neither key nor time"):
        quality(pipelines.get("sorts"), 7, NOW)
    spec = replace(pipelines.get("toy"), serving=Serving(private=("id",)))
    logged(predicted([1], [0.9]), spec=spec)
    with pytest.raises(UserError, match=r"\['id'\] names the rows and is in Serving.private"):
        quality(spec, 7, NOW)


def test_a_regression_without_a_key_is_joined_by_its_time(home: Path) -> None:
    spec = pipelines.get("amounts")
    moment = NOW.timestamp() - 3600
    days = [datetime(2026, 1, day).date() for day in (1, 2, 3)]
    rows = {"day": days, "weight": [1.0, 2.0, 3.0], "urgent": [True, False, True]}
    logged(Served(f"{int(moment * 1000):012x}{0:016x}", moment, 1, 1, "champion", rows, {"predicted": [1.0, 2.0, 4.0]}), spec=spec)
    schema = {
        "day": pl.Date,
        "weight": pl.Float64,
        "urgent": pl.Boolean,
        "amount": pl.Float64,
        "_file": pl.String,
        "_seq": pl.Int64,
        "_row": pl.Int64,
    }
    known = pl.DataFrame({"day": days[1:], "amount": [2.5, 3.0]}).with_columns(
        weight=pl.lit(1.0), urgent=pl.lit(True), _file=pl.lit("a"), _seq=pl.lit(1), _row=pl.int_range(2, dtype=pl.Int64)
    )
    lake.commit("amounts", "rows", [known.select(list(schema))], schema, [], token=1)
    (whole,) = quality(spec, 7, NOW).versions
    assert (whole.labelled, whole.missing, whole.value, whole.metrics["rmse"]) == (2, 1, 0.75, pytest.approx(((0.25 + 1) / 2) ** 0.5))


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["yes", "no", None]), st.integers(1, 4), st.integers(1, 9)),
        max_size=30,
        unique_by=lambda row: row[2:],
    )
)
@budget(max_examples=50, deadline=None)
def test_of_several_labels_the_last_to_arrive_counts_whatever_their_order(found: list[tuple[Any, ...]]) -> None:
    frame = pl.DataFrame(found, schema=TYPES, orient="row")
    wanted = {}
    for number, label, *_ in sorted(found, key=lambda row: row[2:]):
        if label is not None:
            wanted[number] = label
    assert dict(newest(frame.lazy(), ["id"], "label").collect().iter_rows()) == wanted
    asked = pl.DataFrame({"id": [0, 0, 3, None, 9]}, schema={"id": pl.Int64})
    both = joined(asked.lazy(), frame.lazy(), ["id"], "label").collect()
    assert sorted(map(str, both.rows())) == sorted(str((number, wanted.get(number))) for number in asked["id"])


def test_weeks_begin_on_monday() -> None:
    rows = pl.DataFrame({"_time": [datetime(2026, 9, 20, 23, 59), datetime(2026, 9, 21)]})
    assert [str(day) for day in in_periods(rows, 15)["_period"]] == ["2026-09-14", "2026-09-21"]


@pytest.mark.parametrize(
    ("name", "grouped"), [("accuracy", False), ("log_loss", True), ("roc_auc", False), ("roc_auc", True), ("f1", True)]
)
def test_an_interval_covers_the_truth_about_as_often_as_it_says(name: str, grouped: bool) -> None:
    random = np.random.default_rng(3)
    metric, missed, rounds = METRICS[name], 0, 60

    def drawn(rows: int) -> tuple[np.ndarray[Any, Any], pl.DataFrame]:
        p = random.uniform(0.02, 0.98, rows)
        truth = (random.uniform(size=rows) < p).astype(np.int64)
        return truth, pl.DataFrame({"predicted": (p > 0.5).astype(np.int64), "p_1": np.clip(p + random.normal(0, 0.1, rows), 0.01, 0.99)})

    real = estimate(metric, *drawn(200_000), None, 0.95).value
    for _ in range(rounds):
        truth, made = drawn(300)
        found = estimate(metric, truth, made, np.arange(300) // 15 if grouped else None, 0.95)
        assert found.low is not None and found.high is not None and real is not None
        missed += not found.low <= real <= found.high
    assert missed <= 8  # 3 are to be expected


def test_no_interval_is_made_of_too_few_rows_or_of_rows_that_are_all_alike() -> None:
    truth = np.ones(50, dtype=np.int64)
    made = pl.DataFrame({"predicted": truth, "p_1": [0.9] * 50})
    assert estimate(METRICS["log_loss"], truth, made, None, 0.95).low is None
    exact = estimate(METRICS["accuracy"], truth, made, None, 0.95)
    assert exact.low == pytest.approx(0.025 ** (1 / 50))
    assert estimate(METRICS["log_loss"], truth[:9], made.head(9), None, 0.95).low is None
    assert accuracy_score(truth, made["predicted"]) == exact.value


def test_the_command_shows_versions_periods_and_what_is_missing(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = io.StringIO()
    monkeypatch.setattr(measured, "console", Console(file=output, width=200))
    measured.show("toy", 28.0, as_json=False)
    assert "No prediction of toy was logged" in output.getvalue()
    recent = (datetime.now(UTC) - NOW).total_seconds() / -86_400 + 1
    logged(predicted([1, 2, 3, 4], [0.9, 0.2, 0.6, 0.4], days_ago=recent))
    labels(source, "a.csv", {1: "yes", 2: "no", 3: "no"})
    measured.show("toy", 28.0, as_json=False)
    assert "version 1" in output.getvalue()
    assert "1 still without a label" in output.getvalue()
    measured.show("toy", 28.0, as_json=True)
    assert json.loads(capsys.readouterr().out)["versions"][0]["missing"] == 1
