"""Telling a decision to MLflow and Prefect: what a real cycle leaves there, and what can still be told when its files are gone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from flows import pipelines
from flows.embedded import connected
from flows.training import continuous_training
from infra.parts import Stack
from tasks import report
from tasks.records import Decision, Fitted, Prepared
from tasks.spec import Pipeline
from tasks.stores import ledger
from tasks.stores.ledger import access, schema
from tasks.train import fit_rows
from tests.landing import toy_rows
from tests.told import DECISION, DETAILS, rendered, seen, staged


def fitted(pipeline: Pipeline, prepared: Prepared, into: Path) -> Fitted:
    return fit_rows(pipeline, prepared, pipeline.candidates[0], {}, prepared.train, into)


def test_details_are_plain_json_with_drift_effects_and_the_spread_of_the_target(home: Path, tmp_path: Path) -> None:
    toy = pipelines.get("toy")
    rows = pl.concat([toy_rows(400), toy_rows(100, first=400).with_columns(colour=pl.lit("green"))])
    prepared = staged(toy, rows, 400, tmp_path)
    model = fitted(toy, prepared, tmp_path)
    found = report.details(toy, prepared, model) | report.what_it_goes_by(toy, prepared, model)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["kind"] == "binary"
    assert found["features"] == {"x": "float64", "square": "float64", "colour": "str"}
    assert found["drift"]["colour"] > 0.4 > 0.15 > found["drift"]["x"]
    assert found["effects"][0]["feature"] == "x"
    assert found["target"]["training"]["yes"] == pytest.approx((rows.head(400)["label"] == "yes").mean())
    assert sum(found["target"]["unseen"].values()) == pytest.approx(1)


def test_a_model_that_fails_on_shuffled_rows_is_told_and_stops_nothing(home: Path, tmp_path: Path) -> None:
    toy = pipelines.get("toy")
    prepared = staged(toy, toy_rows(300), 200, tmp_path)
    model = fitted(toy, prepared, tmp_path)
    Path(model.uri).write_bytes(b"no model")
    found = report.details(toy, prepared, model) | report.what_it_goes_by(toy, prepared, model)
    assert found["effects"] == []
    assert found["effects_problem"]
    assert found["drift"]


def test_the_spread_of_each_kind_of_target(home: Path) -> None:
    several = report.spread(pipelines.get("sorts"), pl.Series(["a", "b", "a", "c"]))
    assert several == {"a": 0.5, "b": 0.25, "c": 0.25}
    number = report.spread(pipelines.get("amounts"), pl.Series([1.0, 2.0, 3.0]))
    assert (number["least"], number["median"], number["mean"], number["greatest"]) == (1.0, 2.0, 2.0, 3.0)
    assert report.spread(pipelines.get("amounts"), pl.Series([1.0, np.inf]))["greatest"] is None
    assert set(report.spread(pipelines.get("amounts"), pl.Series([], dtype=pl.Float64)).values()) == {None}


def test_what_is_gone_is_left_out_and_the_rest_is_written(home: Path, tmp_path: Path) -> None:
    facts = report.facts_of(DECISION, DETAILS)
    assert facts.curves == ()
    into = tmp_path / "out"
    into.mkdir()
    report.write(facts, into)
    assert {path.name for path in into.iterdir()} == {"report.html", "decision.md", "model_card.md", "decision.json"}
    assert json.loads((into / "decision.json").read_text()) == DECISION.as_dict()


def test_predictions_at_hand_are_drawn(home: Path, tmp_path: Path) -> None:
    rows = {"truth": [0, 1, 1], "predicted": [0, 1, 0], "p_1": [0.1, 0.8, 0.4]}
    pl.DataFrame(rows | {f"champion_{name}": rows[name] for name in ("predicted", "p_1")}).write_ipc(tmp_path / "predictions.arrow")
    assert DECISION.evaluation
    here = replace(DECISION, evaluation=replace(DECISION.evaluation, predictions=str(tmp_path / "predictions.arrow")))
    (tmp_path / "out").mkdir()
    report.write(report.facts_of(here, DETAILS), tmp_path / "out")
    assert {"scores.png", "roc.png", "calibration.png", "report.html"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "Calibration on the unseen rows" in (tmp_path / "out" / "report.html").read_text()


def artifact(servers: Stack, decision: Decision, name: str, into: Path) -> str:
    client = mlflow.MlflowClient(servers.mlflow_url)
    return Path(client.download_artifacts(decision.mlflow_run, name, str(into))).read_text()


def land(home: Path, name: str, frame: pl.DataFrame) -> None:
    (home / "inbox" / "toy").mkdir(parents=True, exist_ok=True)
    frame.write_csv(home / "inbox" / "toy" / name, datetime_format="%Y-%m-%dT%H:%M:%S")


@pytest.mark.slow
def test_a_promotion_and_a_kept_champion_are_told_in_mlflow_and_prefect(cycle_home: Path, servers: Stack, tmp_path: Path) -> None:
    land(cycle_home, "a.csv", toy_rows(400))
    first = continuous_training("toy")
    land(cycle_home, "b.csv", toy_rows(400, first=400))
    second = continuous_training("toy")
    assert (first.verdict, second.verdict) == ("promote", "keep")
    champion = ledger.champion("toy")
    assert champion is not None
    card = artifact(servers, first, "model_card.md", tmp_path)
    assert f"(version {champion.version})" in card
    assert champion.sha256 in card
    page = seen(artifact(servers, second, "report.html", tmp_path))
    text = " ".join(" ".join(page.text).split())
    assert not page.wrong
    for words in (
        f"Champion {champion.version} of toy stays",
        "Calibration on the unseen rows",
        "Drift of the inputs",
        "What the challenger goes by",
        "promoted in cycle 1",
    ):
        assert words in text, words
    told = artifact(servers, second, "decision.md", tmp_path)
    assert "positive_x" in told
    with httpx.Client(base_url=servers.prefect_api_url + "/") as api:
        made = api.post("artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [second.prefect_run]}}}).json()
    assert next(one["data"] for one in made if one["key"] == "toy-decision") == told


@pytest.mark.slow
def test_a_report_that_was_left_untold_is_told_later_from_what_was_kept(
    cycle_home: Path, servers: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(cycle_home, "a.csv", toy_rows(400))
    with monkeypatch.context() as away:
        away.setattr("tasks.report.to_mlflow", _die)
        with pytest.raises(KeyboardInterrupt):
            continuous_training("toy")
    with connected():
        assert report.settle_reports("toy") == ()
    decision = Decision.from_dict(ledger.decision("toy", 1) or {})
    text = artifact(servers, decision, "report.html", tmp_path)
    assert "Drift of the inputs" in text
    assert "What the challenger goes by" in text
    assert "Calibration" not in text.partition("<h2>Predictions")[2]
    assert {tag for tag, _ in rendered(artifact(servers, decision, "decision.md", tmp_path)).elements} >= {"h1", "h2", "table"}


def _die(facts: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_a_report_queued_by_an_older_version_is_told(cycle_home: Path, servers: Stack, tmp_path: Path) -> None:
    land(cycle_home, "a.csv", toy_rows(400))
    decision = continuous_training("toy")
    old = json.dumps({"kind": "binary", "seconds": 0.5, "params": {"seed": "0"}})
    with access.transaction() as connection:
        connection.execute(sa.update(schema.outbox).where(schema.outbox.c.effect == "report").values(payload=old, done_at=None))
    with connected():
        assert report.settle_reports("toy") == ()
    text = artifact(servers, decision, "report.html", tmp_path)
    assert "Drift of the inputs" not in text
    assert f"Version {decision.champion} of toy is promoted" in text
