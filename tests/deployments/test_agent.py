"""The agent as it runs: data lands and cycles start by themselves, files of pipelines come, change and go, and no loss of Prefect's is ours."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from deployments import stack
from deployments.registration import automation_name
from infra.parts import Stack
from tasks.stores import files, ledger
from tests import snare
from tests.landing import toy_rows
from tests.servers import proxy
from tests.servers.client import Patient
from tests.servers.proxy import Fault
from tests.waiting import until

pytestmark = pytest.mark.slow


class Place:
    """A home with pipelines whose names nobody else uses, and the server that knows them."""

    def __init__(self, root: Path, servers: Stack) -> None:
        self.home, self.own, self.servers = root / "home", root / "own", servers
        self.home.mkdir()
        self.own.mkdir()
        self.api = httpx.Client(base_url=f"{servers.prefect_api_url}/", timeout=30, transport=Patient(retries=3))
        self.names: list[str] = []

    def environment(self) -> dict[str, str]:
        own = {"RATCHET_HOME": self.home, "RATCHET_PIPELINES": self.own, "RATCHET_SETTLE": 0, "RATCHET_SWEEP": 2, "RATCHET_WORKERS": 4}
        given = {"PREFECT_API_URL": self.servers.prefect_api_url, "MLFLOW_TRACKING_URI": self.servers.mlflow_url}
        return {**{name: str(value) for name, value in own.items()}, **given}

    def pipeline(self, retrain: str = "Retrain()") -> str:
        """Add a pipeline's file."""
        name = f"p_{uuid4().hex}"
        snare.write(self.own, name, retrain)
        self.names.append(name)
        return name

    def watched(self, retrain: str = "Retrain()") -> str:
        """Add a pipeline's file, and wait until its source is watched."""
        name = self.pipeline(retrain)
        until(lambda: self.automation(name), "the registration", 90)
        return name

    def land(self, name: str, file: str, rows: int = 30, first: int = 0) -> None:
        """Let rows land; thirty are too few to train on, which makes a short cycle."""
        text = toy_rows(rows, first=first).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S")
        files.land(text.encode(), self.home / "inbox" / name, file)

    def deployment(self, name: str) -> dict[str, Any] | None:
        answer = self.api.get(f"deployments/name/continuous-training/{name}")
        return dict(answer.json()) if answer.status_code == 200 else None

    def automation(self, name: str) -> dict[str, Any] | None:
        found = self.api.post("automations/filter", json={"limit": 200}).raise_for_status().json()
        return next((dict(one) for one in found if one["name"] == automation_name(name)), None)

    def switch(self, name: str, *, on: bool) -> None:
        automation = self.automation(name)
        assert automation is not None
        self.api.patch(f"automations/{automation['id']}", json={"enabled": on}).raise_for_status()

    def forget(self) -> None:
        for name in self.names:
            for kind, found in (("automations", self.automation(name)), ("deployments", self.deployment(name))):
                if found:
                    self.api.delete(f"{kind}/{found['id']}")
        self.api.close()


def receipts(name: str) -> set[tuple[str, str]]:
    return {(found.outcome, found.rule) for found in ledger.receipts(name)}


def await_cycle(name: str, number: int = 1, patience: float = 60) -> dict[str, Any]:
    return until(lambda: ledger.decision(name, number), f"cycle {number}", patience)


@contextmanager
def placed(root: Path, servers: Stack) -> Iterator[Place]:
    place = Place(root, servers)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in place.environment().items():
            environment.setenv(name, value)
        for name in ("RATCHET_LEDGER_URL", "RATCHET_LAKE", "RATCHET_CRASH_AT"):
            environment.delenv(name, raising=False)
        try:
            yield place
        finally:
            place.forget()


@contextmanager
def brought_up(root: Path, servers: Stack) -> Iterator[Place]:
    """Bring an agent up in a place, as `ratchet up` does, and down again."""
    with placed(root, servers) as place:
        try:
            stack.up()
            yield place
        finally:
            stack.down()


@pytest.fixture(scope="module")
def place(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One agent for all tests that do not stop it."""
    with brought_up(tmp_path_factory.mktemp("agent"), servers) as place:
        yield place


def test_data_that_lands_starts_a_cycle_through_event_and_automation(place: Place) -> None:
    name = place.watched()
    place.land(name, "a.csv", 400)
    decision = await_cycle(name)
    assert (decision["verdict"], decision["trigger"], decision["arrivals"]) == ("promote", "arrival", ["a.csv"])
    assert {("asked", "arrival"), ("ran", "began")} <= receipts(name)
    run = place.api.get(f"flow_runs/{decision['prefect_run']}").json()
    assert run["created_by"]["type"] == "AUTOMATION"
    place.land(name, "b.csv", first=400)
    assert await_cycle(name, 2)["arrivals"] == ["b.csv"]


def test_a_cycle_starts_without_the_automation_if_that_was_deleted(place: Place) -> None:
    name = place.watched()
    automation = place.automation(name)
    assert automation is not None
    place.api.delete(f"automations/{automation['id']}").raise_for_status()
    place.land(name, "a.csv")
    assert await_cycle(name)["trigger"] == "arrival"


def test_an_automation_that_is_switched_off_is_respected_with_a_receipt_until_it_is_on_again(place: Place) -> None:
    name = place.watched()
    place.switch(name, on=False)
    place.land(name, "a.csv")
    until(lambda: ("waited", "switched_off") in receipts(name), "the receipt")
    time.sleep(4)  # in which it is insisted once more
    assert ledger.last_cycle(name) is None
    assert place.api.post("flow_runs/filter", json={"deployments": {"name": {"any_": [name]}}}).json() == []
    place.switch(name, on=True)
    await_cycle(name)


def test_a_run_that_died_before_its_cycle_began_is_made_good_without_hands(place: Place) -> None:
    name = place.watched()
    with snare.laid(place.home, name, "exit"):
        place.land(name, "a.csv")
        snare.caught(place.home, name)
        runs = {"deployments": {"name": {"any_": [name]}}, "flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}}
        until(lambda: place.api.post("flow_runs/filter", json=runs).json(), "the crash")
        time.sleep(4)  # in which the start is insisted on, in vain
    assert ledger.last_cycle(name) is None
    await_cycle(name)


def test_what_lands_while_a_run_is_paused_that_has_decided_starts_a_cycle_once_its_lease_is_over(place: Place) -> None:
    name = place.watched()
    with snare.laid(place.home, name, "freeze"):
        place.land(name, "a.csv")
        await_cycle(name)
    place.land(name, "b.csv", first=400)
    assert await_cycle(name, 2, patience=20)["arrivals"] == ["b.csv"]  # long before the first run is ended


def test_a_deployment_that_was_deleted_comes_back_and_its_cycle_runs(place: Place) -> None:
    name = place.watched()
    deployment = place.deployment(name)
    assert deployment is not None
    place.api.delete(f"deployments/{deployment['id']}").raise_for_status()
    place.land(name, "a.csv")
    await_cycle(name)


def test_an_edited_file_is_registered_anew_and_a_removed_one_is_left_alone(place: Place) -> None:
    name = place.watched()
    snare.write(place.own, name, "Retrain(schedule='0 3 * * *', min_arrivals=2)")
    until(lambda: (place.deployment(name) or {})["schedules"], "the schedule")
    place.land(name, "a.csv")
    until(lambda: ("waited", "min_arrivals") in receipts(name), "the new policy's receipt")
    other = place.watched()
    (place.own / f"{name}.py").unlink()
    third = place.watched()  # so that the agent has looked at the files since
    place.land(name, "b.csv")
    for one in (other, third):
        place.land(one, "a.csv")
        await_cycle(one)
    assert [arrival.name for arrival in ledger.history(name)] == ["a.csv"]


def test_files_that_cannot_be_used_stop_no_other_and_are_watched_once_they_are_right(place: Place) -> None:
    broken = place.pipeline()
    (place.own / f"{broken}.py").write_text("import nothing_of_that_name\n")
    deadly = place.pipeline()
    with snare.laid(place.home, deadly, "segfault"):
        good = place.watched()
        until(lambda: receipts(broken) and receipts(deadly), "the receipts")
        assert "nothing_of_that_name" in ledger.receipts(broken)[0].why
        assert "its process ended with -11" in ledger.receipts(deadly)[0].why
    place.land(good, "a.csv")
    await_cycle(good)
    snare.write(place.own, broken)
    until(lambda: place.automation(broken), "the registration", 90)
    place.land(broken, "a.csv")
    await_cycle(broken)


def test_a_file_that_no_longer_imports_is_said_to_be_so_and_what_lands_waits_until_it_is_right(place: Place) -> None:
    name = place.watched()
    place.land(name, "a.csv")
    await_cycle(name)
    path = place.own / f"{name}.py"
    right = path.read_text()
    path.write_text("import nothing_of_that_name\n")
    place.land(name, "b.csv", first=400)
    until(lambda: ledger.receipts(name)[0].rule == "pipeline" and "nothing_of" in ledger.receipts(name)[0].why, "the receipt", 60)
    place.land(name, "c.csv", first=500)
    until(lambda: "c.csv" in {found.name for found in ledger.history(name)}, "the record")
    time.sleep(8)  # in which runs would be insisted on
    assert ledger.receipts(name)[0].rule == "pipeline"
    assert len(place.api.post("flow_runs/filter", json={"deployments": {"name": {"any_": [name]}}}).json()) <= 2
    path.write_text(right)
    assert set(await_cycle(name, 2)["arrivals"]) == {"b.csv", "c.csv"}


@contextmanager
def agent(place: Place, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run an agent of the test's own; whatever is left of it is killed at the end."""
    environment = {**os.environ, "PREFECT_HOME": str(place.home / "prefect"), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false", **variables}
    with (place.home / "agent.log").open("ab") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "deployments.agent"],
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield running
    finally:
        snare.end(running.pid)
        running.wait()


def left_of(running: subprocess.Popen[bytes]) -> set[int]:
    """Ask an agent to end, and give what is left of its processes after five seconds."""
    running.send_signal(signal.SIGTERM)
    limit = time.monotonic() + 5
    while snare.group(running.pid) and time.monotonic() < limit:
        running.poll()
        time.sleep(0.05)
    return snare.group(running.pid)


@pytest.fixture
def own(servers: Stack, tmp_path: Path) -> Iterator[Place]:
    """A place whose agent the test starts and stops."""
    with placed(tmp_path, servers) as place:
        yield place


def test_told_to_end_while_a_cycle_runs_it_leaves_no_process(own: Place) -> None:
    with agent(own) as running:
        name = own.watched()
        with snare.laid(own.home, name, "sleep"):
            own.land(name, "a.csv")
            pid = snare.caught(own.home, name)
            assert pid in snare.group(running.pid)
            assert left_of(running) == set()


def test_told_to_end_while_prefect_is_away_it_leaves_no_process(own: Place) -> None:
    with proxy.running(own.servers.prefect_api_url) as gate, agent(own, PREFECT_API_URL=f"{gate.url}/api") as running:
        own.watched()
        gate.set(Fault("refuse", times=10_000))
        until(lambda: gate.hits >= 2, "questions without an answer")
        time.sleep(3)
        assert left_of(running) == set()


def test_a_killed_agent_leaves_its_cycle_to_end_and_the_next_agent_takes_up_what_landed(own: Place) -> None:
    with agent(own) as first:
        name = own.watched()
        with snare.laid(own.home, name, "sleep"):
            own.land(name, "a.csv")
            pid = snare.caught(own.home, name)
            first.kill()
            first.wait()
            own.land(name, "b.csv", first=400)
        os.kill(pid, signal.SIGKILL)
    with agent(own):
        assert set(await_cycle(name)["arrivals"]) == {"a.csv", "b.csv"}


def test_a_task_in_which_a_cycle_was_killed_is_closed_with_the_run_and_the_reason(own: Place) -> None:
    with agent(own, RATCHET_CRASH_AT="clean.marked:SIGKILL"):
        name = own.watched()
        own.land(name, "a.csv")
        crashed = {"deployments": {"name": {"any_": [name]}}, "flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}}
        run = until(lambda: own.api.post("flow_runs/filter", json=crashed).json(), "the crash", 90)[-1]
        tasks = {"flow_runs": {"id": {"any_": [run["id"]]}}}

        def ended() -> list[dict[str, Any]] | None:
            found = own.api.post("task_runs/filter", json=tasks).json()
            states = [one["state"] for one in found]
            return states if "CRASHED" in {one["type"] for one in states} else None

        states = until(ended, "the end of the task")
    assert {one["type"] for one in states} == {"COMPLETED", "CRASHED"}
    assert "signal SIGKILL" in next(one["message"] for one in states if one["type"] == "CRASHED")
