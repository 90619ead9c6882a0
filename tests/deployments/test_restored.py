"""Prefect's server comes back with an old database: what lands starts cycles as before, and nothing is lost, done twice or left running."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra import process, stack
from infra.parts import Stack
from tasks import settings
from tasks.settings import Settings
from tasks.stores import lake, ledger
from tests.deployments.test_agent import Place, agent, await_cycle, placed
from tests.waiting import until

pytestmark = pytest.mark.slow


@dataclass
class Prefect:
    """A stack whose Prefect server this file brings back to earlier states; the address stays."""

    settings: Settings
    stack: Stack

    @property
    def database(self) -> Path:
        return self.settings.home / "prefect" / "prefect.db"

    def back_up(self, name: str) -> Path:
        """Copy the database as it is at this moment, while the server works."""
        copy = self.settings.home / f"{name}.db"
        with closing(sqlite3.connect(self.database)) as live, closing(sqlite3.connect(copy)) as kept:
            live.backup(kept)
        return copy

    def restore(self, copy: Path) -> None:
        """Stop the server, put the copy in place of its database, and start it again."""
        part = next(part for part in self.stack.parts if part.name == "prefect")
        assert part.pid is not None
        assert part.since is not None
        process.stop(part.pid, part.since)
        for left in self.database.parent.glob(f"{self.database.name}-*"):
            left.unlink()
        shutil.copy(copy, self.database)
        self.stack = stack.up(self.settings)
        assert part.url in {found.url for found in self.stack.parts}


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    found = settings.read({"RATCHET_HOME": str(tmp_path_factory.mktemp("restored"))})
    try:
        yield Prefect(found, stack.up(found))
    finally:
        stack.down(found)


@pytest.fixture
def place(prefect: Prefect, tmp_path: Path) -> Iterator[Place]:
    with placed(tmp_path, prefect.stack) as place:
        yield place


def runs(place: Place, name: str, *states: str) -> list[dict[str, Any]]:
    """Give the runs of a pipeline's deployment, in these states if any are given."""
    wanted: dict[str, Any] = {"deployments": {"name": {"any_": [name]}}}
    if states:
        wanted["flow_runs"] = {"state": {"type": {"any_": list(states)}}}
    return list(place.api.post("flow_runs/filter", json=wanted).raise_for_status().json())


def unfinished(place: Place, name: str) -> list[dict[str, Any]]:
    return runs(place, name, "PENDING", "RUNNING", "CANCELLING")


def taken(name: str) -> list[list[str]]:
    """Give what each cycle took, in order; one that found nothing took nothing."""
    found = [decision["arrivals"] for decision in reversed(ledger.decisions(name))]
    return [arrivals for arrivals in found if arrivals]


def test_a_database_of_before_the_pipeline_was_known_gets_deployment_and_automation_anew(prefect: Prefect, place: Place) -> None:
    before = prefect.back_up("before")
    with agent(place):
        name = place.watched()
        place.land(name, "a.csv")
        await_cycle(name)
        prefect.restore(before)
        assert runs(place, name) == []
        place.land(name, "b.csv", first=400)
        until(lambda: ["b.csv"] in taken(name), "the cycle of what landed", 60)
        until(lambda: place.deployment(name) and place.automation(name), "the registration", 60)
        place.land(name, "c.csv", first=800)
        until(lambda: ["c.csv"] in taken(name), "the next cycle", 60)
        until(lambda: not unfinished(place, name), "the end of the runs")
        assert "AUTOMATION" in {(run["created_by"] or {}).get("type") for run in runs(place, name, "COMPLETED")}
    assert taken(name) == [["a.csv"], ["b.csv"], ["c.csv"]]
    assert ledger.tally(name) == {"ingested": 3}
    assert lake.scan(name).collect()["id"].n_unique() == lake.scan(name).collect().height == 90


def test_a_schedule_comes_back_though_nothing_lands(prefect: Prefect, place: Place) -> None:
    before = prefect.back_up("nightly")
    with agent(place):
        name = place.watched("Retrain(on_arrival=False, schedule='0 3 * * *')")
        prefect.restore(before)
        assert place.deployment(name) is None
        deployment = until(lambda: place.deployment(name), "the registration", 60)
        assert [one["schedule"]["cron"] for one in deployment["schedules"]] == ["0 3 * * *"]
        until(lambda: runs(place, name, "SCHEDULED"), "the nightly run", 60)


def test_a_database_of_while_a_run_was_under_way_does_not_keep_that_run_or_repeat_it(prefect: Prefect, place: Place) -> None:
    with agent(place):
        name = place.watched()
        place.land(name, "a.csv")
        (under_way,) = until(lambda: runs(place, name, "RUNNING"), "the run", 60)
        during = prefect.back_up("during")
        await_cycle(name)
        place.land(name, "b.csv", first=400)
        await_cycle(name, 2)
        until(lambda: not unfinished(place, name), "the end of the runs")
        prefect.restore(during)
        assert [run["id"] for run in unfinished(place, name)] == [under_way["id"]]
        until(lambda: not unfinished(place, name), "the end of the run that came back", 60)
        (closed,) = runs(place, name, "CRASHED")
        assert closed["id"] == under_way["id"]
        assert "its decision stands" in closed["state"]["message"]
        time.sleep(4)  # in which a cycle would be started that is not due
        assert taken(name) == [["a.csv"], ["b.csv"]]
        place.land(name, "c.csv", first=800)
        until(lambda: ["c.csv"] in taken(name), "the next cycle", 60)
        until(lambda: not unfinished(place, name), "the end of the runs")
    assert taken(name) == [["a.csv"], ["b.csv"], ["c.csv"]]
    assert ledger.tally(name) == {"ingested": 3}
