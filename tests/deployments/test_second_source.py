"""The second source as the agent has it: rows that land there are predicted by themselves, and the first source is not confused by it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pytest
from rich.console import Console

from deployments import account, show, watches
from deployments.registration import automation_name, register
from infra.parts import Stack
from tasks.errors import UserError
from tasks.stores import files, ledger
from tests import scoring
from tests.championed import champion
from tests.deployments.test_agent import Place, brought_up
from tests.landing import toy_rows
from tests.servers.client import prefect_at
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with brought_up(tmp_path_factory.mktemp("second"), servers) as place:
        yield place


def scored(place: Place, words: str = "Scoring(source=Source())") -> str:
    """Add a pipeline whose second source is watched, and wait until it is."""
    name = f"s_{uuid4().hex}"
    scoring.write(place.own, name, words)
    place.names.append(name)
    until(lambda: (found := (watches.read() or {}).get(f"{name}:scoring")) and found.watched, "the watch", 90)
    return name


def land(place: Place, name: str, file: str, count: int = 30) -> None:
    text = toy_rows(count).drop("label", "after").write_csv(datetime_format="%Y-%m-%dT%H:%M:%S")
    files.land(text.encode(), place.home / "inbox" / f"{name}.scoring", file)


def settled(name: str, file: str) -> Any:
    return until(lambda: [part for part in ledger.named(f"{name}:scoring", file) if part.state != "pending"], file, 60)[0]


def test_rows_that_land_at_the_second_source_are_predicted_by_themselves(place: Place, tmp_path: Path) -> None:
    name = scored(place)
    champion(tmp_path, name=name)
    land(place, name, "a.csv")
    assert (settled(name, "a.csv").state, settled(name, "a.csv").accepted) == ("ingested", 30)
    assert pl.read_parquet(place.home / "scored" / name / "predictions" / "*.parquet").height == 30
    cycle = ledger.last_cycle(f"{name}:scoring")
    assert cycle is not None
    run = place.api.get(f"flow_runs/{cycle.flow_run}").json()
    assert (cycle.trigger, run["created_by"]["type"], run["parameters"]["pipeline"]) == ("arrival", "AUTOMATION", name)
    until(lambda: place.api.get(f"flow_runs/{cycle.flow_run}").json()["state"]["name"] == "Scored", "the end")
    assert (ledger.last_cycle(name), ledger.history(name)) == (None, ())
    land(place, name, "b.csv", 31)
    assert settled(name, "b.csv").accepted == 31


def test_what_lands_before_there_is_a_champion_waits_for_it_with_a_receipt(place: Place, tmp_path: Path) -> None:
    name = scored(place)
    land(place, name, "a.csv")
    until(lambda: any(found.rule == "champion" for found in ledger.receipts(f"{name}:scoring")), "the receipt", 60)
    champion(tmp_path, name=name)
    assert until(lambda: ledger.named(f"{name}:scoring", "a.csv")[0].accepted, "the predictions", 30) == 30


def test_a_source_that_starts_nothing_by_itself_is_recorded_and_waits(place: Place) -> None:
    name = scored(place, "Scoring(source=Source(), on_arrival=False, schedule='0 4 * * *', timezone='Europe/Berlin')")
    land(place, name, "a.csv")
    until(lambda: any(found.rule == "on_arrival" for found in ledger.receipts(f"{name}:scoring")), "the receipt", 60)
    (schedule,) = place.api.get(f"deployments/name/batch-scoring/{name}").json()["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 4 * * *", "Europe/Berlin")
    assert schedule["parameters"] == {"pipeline": name, "trigger": "schedule"}
    assert [part.name for part in ledger.outstanding(f"{name}:scoring")] == ["a.csv"]


def test_status_and_arrivals_tell_both_sources_apart(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = scored(place, "Scoring(source=Source(), on_arrival=False)")
    land(place, name, "rows.csv")
    until(lambda: ledger.named(f"{name}:scoring", "rows.csv"), "the arrival", 60)
    show.status(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert name in {row["name"] for row in told["pipelines"]}
    assert {row["name"]: (row["outstanding"], row["watched"]) for row in told["sources"]}[f"{name}:scoring"] == (1, True)
    account.arrivals(account.named(name, "scoring"), 5, as_json=True, unseen=False)
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["rows.csv"]
    account.arrivals(name, 5, as_json=True, unseen=False)
    assert json.loads(capsys.readouterr().out) == []
    console = Console(width=300)
    for module in (show, account):
        monkeypatch.setattr(module, "console", console)
    show.status(as_json=False)
    account.arrivals(account.named(name, "scoring"), 5, as_json=False, unseen=True)
    account.why(account.named(name, "scoring"), "rows.csv", as_json=False)
    shown = capsys.readouterr().out
    assert f"{name}:scoring" in shown
    assert "on_arrival" in shown
    with pytest.raises(UserError, match="There is no source 'nope'; expected scoring"):
        account.named(name, "nope")


def test_a_pipeline_that_is_scored_no_more_is_watched_there_no_more(place: Place) -> None:
    name = scored(place)
    text = (place.own / f"{name}.py").read_text()
    (place.own / f"{name}.py").write_text(text.replace("scoring=Scoring(source=Source()),", ""))
    until(lambda: f"{name}:scoring" not in (watches.read() or {}), "the watch's end", 90)
    until(lambda: (watches.read() or {})[name].watched, "the first source")


def test_registering_twice_changes_nothing_and_every_source_has_its_own_automation(place: Place, servers: Stack) -> None:
    name = scored(place)
    with prefect_at(servers.prefect_api_url, retries=3):
        first, second = register(name), register(name)
    assert first == second
    assert [branch.watched.name for branch in first.branches] == [name, f"{name}:scoring"]
    assert automation_name(f"{name}:scoring") == f"{name}: predict when data has landed"
    automation = place.api.get(f"automations/{first.branches[1].automation}").json()
    assert automation["trigger"]["match"] == {"prefect.resource.id": f"ratchet.pipeline.{name}:scoring"}
    assert automation["actions"][0]["deployment_id"] == str(first.branches[1].deployment)
