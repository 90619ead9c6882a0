"""The dispatcher on a real Prefect server: a due run is executed once in a process of its own, and whatever becomes of that is told."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import get_client

from deployments import children, dispatch
from deployments.dispatch import Dispatcher
from infra.parts import Stack
from tasks.errors import BrokenPipeline
from tasks.stores import ledger
from tasks.triggers import TRAINING
from tests import snare
from tests.landing import toy_rows
from tests.servers import proxy
from tests.servers.client import Patient, prefect_at
from tests.servers.proxy import Fault
from tests.waiting import until

pytestmark = pytest.mark.slow


class Desk:
    """A home with one pipeline, registered, whose file does what a snare says when it is imported."""

    def __init__(self, home: Path, api: httpx.Client, api_url: str) -> None:
        self.home, self.api, self.api_url = home, api, api_url
        self.deployment: UUID = dispatch.ask(children.registered, "toy", stop=threading.Event()).deployment
        self.ended: list[str] = []

    def create(self, **parameters: str) -> str:
        given = {"pipeline": "toy", "trigger": "arrival", **parameters}
        return str(self.made({"parameters": given})["id"])

    def made(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Create a run, again if the server is too busy for it (503)."""
        path = f"deployments/{self.deployment}/create_flow_run"
        answer = until(lambda: (found := self.api.post(path, json=asked)).status_code != 503 and found, "the run")
        return dict(answer.raise_for_status().json())

    def state(self, run: str) -> dict[str, Any]:
        return dict(self.api.get(f"flow_runs/{run}").raise_for_status().json()["state"])

    def await_state(self, run: str, kind: str) -> dict[str, Any]:
        until(lambda: self.state(run)["type"] == kind, f"the state {kind}")
        return self.state(run)

    @contextmanager
    def dispatching(self, count: int = 1) -> Iterator[list[Dispatcher]]:
        """Let dispatchers work, and hold that all of it is gone soon after they were told to stop."""
        stop, dispatchers = threading.Event(), [Dispatcher(self.ended.append) for _ in range(count)]
        threads = [threading.Thread(target=one.run, args=(stop,)) for one in dispatchers]
        for one, thread in zip(dispatchers, threads, strict=True):
            one.deployments[self.deployment] = TRAINING
            thread.start()
        try:
            yield dispatchers
        finally:
            stop.set()
            limit = time.monotonic() + 5
            for thread in threads:
                thread.join(max(0.0, limit - time.monotonic()))
            assert not any(thread.is_alive() for thread in threads)

    def run_once(self) -> None:
        """Let a run be executed."""
        with self.dispatching() as (one,):
            run = self.create()
            one.nudge()
            self.await_state(run, "COMPLETED")

    def snared(self, kind: Any) -> AbstractContextManager[None]:
        return snare.laid(self.home, "toy", kind)

    def caught(self) -> int:
        return snare.caught(self.home, "toy")


@pytest.fixture(scope="module")
def desk(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One home for all tests of this file: what is forked has the environment of the process that it is forked from."""
    root = tmp_path_factory.mktemp("dispatch")
    (root / "own").mkdir()
    (root / "home").mkdir()
    snare.write(root / "own", "toy")
    given = {"HOME": root / "home", "PIPELINES": root / "own", "SETTLE": 0, "WORKERS": 4}
    with pytest.MonkeyPatch.context() as environment:
        for name, value in given.items():
            environment.setenv(f"RATCHET_{name}", str(value))
        environment.setenv("MLFLOW_TRACKING_URI", servers.mlflow_url)
        environment.setenv("PREFECT_HOME", str(root / "prefect"))
        with (
            prefect_at(servers.prefect_api_url),
            httpx.Client(base_url=f"{servers.prefect_api_url}/", timeout=30, transport=Patient()) as api,
        ):
            forkserver._forkserver._stop()  # type: ignore[attr-defined]  # one of another file has that file's environment
            dispatch.warm()
            made = Desk(root / "home", api, servers.prefect_api_url)
            try:
                yield made
            finally:
                api.delete(f"deployments/{made.deployment}")
                forkserver._forkserver._stop()  # type: ignore[attr-defined]


def test_a_due_run_is_executed_in_a_process_of_its_own_and_its_pipeline_told_of(desk: Desk) -> None:
    (desk.home / "inbox" / "toy").mkdir(parents=True, exist_ok=True)
    toy_rows(400).write_parquet(desk.home / "inbox" / "toy" / "a.parquet")
    with desk.dispatching() as (one,):
        run = desk.create()
        one.nudge()
        desk.await_state(run, "COMPLETED")
        until(lambda: desk.ended == ["toy"], "the word that the run has ended")
        assert one.mine() == frozenset()
    decision = ledger.decision("toy", 1)
    assert decision is not None
    assert (decision["verdict"], decision["trigger"], decision["prefect_run"]) == ("promote", "arrival", run)
    cycle = ledger.last_cycle("toy")
    assert cycle is not None
    assert cycle.state == "done"
    assert ledger.lease_holder("toy") is None


def test_a_run_that_is_due_later_waits_for_its_time(desk: Desk) -> None:
    later = {"parameters": {"pipeline": "toy"}, "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}}}
    with desk.dispatching() as (one,):
        run = desk.made(later)["id"]
        first = desk.create()
        one.nudge()
        desk.await_state(first, "COMPLETED")
    assert desk.state(run)["type"] == "SCHEDULED"
    desk.api.delete(f"flow_runs/{run}")


@pytest.mark.parametrize(
    ("kind", "how"),
    [("exit", "exit code 7"), ("segfault", "signal SIGSEGV"), ("sleep", "signal SIGKILL")],
    ids=["exits", "segfaults", "killed"],
)
def test_a_run_whose_process_dies_is_told_how_and_the_next_run_is_executed(desk: Desk, kind: str, how: str) -> None:
    with desk.dispatching() as (one,):
        with desk.snared(kind):
            run = desk.create()
            one.nudge()
            pid = desk.caught()
            if kind == "sleep":
                os.kill(pid, signal.SIGKILL)
            message = desk.await_state(run, "CRASHED")["message"]
        assert f"process {pid} ended with {how}" in message
        after = desk.create()
        one.nudge()
        desk.await_state(after, "COMPLETED")


def test_a_run_whose_process_has_died_is_followed_until_that_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    followed, tell = [], Dispatcher._tell_crash

    def told(self: Dispatcher, client: Any, running: Any) -> None:
        tell(self, client, running)
        followed.append(running.run.id in self.mine())

    monkeypatch.setattr(Dispatcher, "_tell_crash", told)
    with desk.dispatching() as (one,):
        with desk.snared("exit"):
            run = desk.create()
            one.nudge()
            desk.await_state(run, "CRASHED")
        until(lambda: not one.mine(), "it is followed no more")
    assert followed == [True]


def test_a_run_that_is_cancelled_in_prefect_ends_with_its_process(desk: Desk) -> None:
    with desk.dispatching() as (one,), desk.snared("sleep"):
        run = desk.create()
        one.nudge()
        pid = desk.caught()
        desk.api.post(f"flow_runs/{run}/set_state", json={"state": {"type": "CANCELLING"}}).raise_for_status()
        desk.await_state(run, "CANCELLED")
        until(lambda: snare.gone(pid), "the end of the process")


def test_a_run_that_is_deleted_in_prefect_while_it_runs_stops_nobody_else(desk: Desk) -> None:
    with desk.dispatching() as (one,):
        with desk.snared("sleep"):
            run = desk.create()
            one.nudge()
            pid = desk.caught()
            desk.api.delete(f"flow_runs/{run}").raise_for_status()
            time.sleep(2 * dispatch.IDLE)  # so that it is asked for
            os.kill(pid, signal.SIGKILL)
        after = desk.create()
        one.nudge()
        desk.await_state(after, "COMPLETED")


def test_a_run_that_takes_too_long_is_ended_with_the_reason_and_the_next_run_is_executed(desk: Desk) -> None:
    with desk.dispatching() as (one,):
        one.limits[desk.deployment] = 1.0
        with desk.snared("sleep"):
            run = desk.create()
            one.nudge()
            desk.caught()
            assert desk.await_state(run, "CRASHED")["message"].startswith("It took longer than 1 s (Retrain.time_limit)")
        one.limits.clear()
        after = desk.create()
        one.nudge()
        desk.await_state(after, "COMPLETED")


def test_a_run_that_is_paused_after_its_decision_keeps_no_other_from_working_and_is_ended(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_WORKERS", "1")
    with desk.dispatching() as (one,):
        with desk.snared("freeze"):
            toy_rows(30, first=7_000).write_parquet(desk.home / "inbox" / "toy" / "frozen.parquet")
            run = desk.create()
            one.nudge()
            frozen = until(lambda: (found := ledger.cycle_of(run)) and found.state == "done" and found, "the decision")
            until(lambda: not ledger.at_work(frozen), "the end of its lease")
        with get_client(sync_client=True) as client:
            assert not dispatch.under_way(client, desk.deployment)
        assert desk.state(run)["type"] == "RUNNING"
        after = desk.create()
        one.nudge()
        desk.await_state(after, "COMPLETED")
        assert desk.state(run)["type"] == "RUNNING"
        monkeypatch.setattr(dispatch, "LINGER", 1.0)
        message = desk.await_state(run, "CRASHED")["message"]
        assert message.startswith("It had decided and its lease was over, and had not ended 1 s later, so it was ended.")


def test_two_dispatchers_execute_each_run_once(desk: Desk) -> None:
    desk.run_once()  # so that nothing is outstanding
    before = ledger.receipts("toy")[0]
    with desk.dispatching(2) as both:
        runs = [desk.create() for _ in range(4)]
        for one in both:
            one.nudge()
        for run in runs:
            assert desk.await_state(run, "COMPLETED")["name"] == "Skipped"  # there is nothing outstanding
        assert [desk.api.get(f"flow_runs/{run}").json()["run_count"] for run in runs] == [1] * 4
    found = ledger.receipts("toy")[0]
    executed = found.times - (before.times if before.rule == found.rule else 0)
    assert (found.rule, executed) == ("nothing", 4)


def test_no_more_runs_at_a_time_than_there_are_workers(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_WORKERS", "1")
    with desk.dispatching() as (one,):
        with desk.snared("sleep"):
            first = desk.create()
            one.nudge()
            pid = desk.caught()
        second = desk.create()
        one.nudge()
        time.sleep(1)
        assert (desk.state(second)["type"], len(one.mine())) == ("SCHEDULED", 1)
        os.kill(pid, signal.SIGKILL)
        desk.await_state(first, "CRASHED")
        one.nudge()
        desk.await_state(second, "COMPLETED")


def test_told_to_stop_it_ends_what_runs(desk: Desk) -> None:
    with desk.snared("sleep"):
        with desk.dispatching() as (one,):
            desk.create()
            one.nudge()
            pid = desk.caught()
        assert snare.gone(pid)


def test_runs_that_become_due_while_prefect_is_away_are_executed_once_it_is_back(desk: Desk) -> None:
    with proxy.running(desk.api_url) as gate, prefect_at(f"{gate.url}/api"), desk.dispatching():
        until(lambda: gate.requests, "a first question")
        gate.set(Fault("refuse", times=1000))
        run = desk.create()
        until(lambda: gate.hits >= 2, "two questions without an answer")
        assert desk.state(run)["type"] == "SCHEDULED"
        gate.set(None)
        desk.await_state(run, "COMPLETED")


def test_told_twice_that_a_run_is_coming_it_asks_no_more_often_than_if_told_once(desk: Desk) -> None:
    with proxy.running(desk.api_url) as gate, prefect_at(f"{gate.url}/api"), desk.dispatching() as (one,):
        one.nudge()
        time.sleep(0.5)
        one.nudge()
        gate.requests.clear()
        time.sleep(1)
        asked = len(gate.requests)
    assert 0 < asked <= 1.5 / dispatch.QUICK


@pytest.mark.parametrize(
    ("kind", "said"),
    [("exit", "its process ended with 7"), ("segfault", "its process ended with -11"), ("raise", "KeyError: 'of the user'")],
)
def test_a_file_that_ends_its_process_when_it_is_imported_ends_that_one_alone(desk: Desk, kind: str, said: str) -> None:
    with desk.snared(kind), pytest.raises(BrokenPipeline, match=said):
        dispatch.ask(children.registered, "toy", stop=threading.Event())
    assert dispatch.ask(children.registered, "toy", stop=threading.Event()).deployment == desk.deployment


def test_a_file_that_does_not_end_its_import_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "ANSWER", 2.0)
    with desk.snared("sleep"), pytest.raises(BrokenPipeline, match="no answer within 2 s"):
        dispatch.ask(children.registered, "toy", stop=threading.Event())
    assert snare.gone(desk.caught())
