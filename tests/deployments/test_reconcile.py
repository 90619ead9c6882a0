"""Runs in Prefect whose process is gone are closed with the reason; those that live, and those of others, are left alone."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Completed, Crashed, Pending, Running, Scheduled, State

from deployments import reconcile
from deployments.reconcile import NAMELESS, close_dead, close_tasks, reason
from infra.parts import Stack
from tasks.stores import ledger
from tasks.triggers import TRAINING
from tests.servers.client import prefect_at

pytestmark = pytest.mark.slow


@flow(name=TRAINING)
def ours(pipeline: str = "p") -> None:
    """A flow of the name that is looked for."""


@flow(name="of-another")
def theirs() -> None:
    """A flow that is none of ours."""


@task
def step() -> None:
    """A task of a run."""


@pytest.fixture
def client(home: Path, servers: Stack) -> Iterator[SyncPrefectClient]:
    with prefect_at(servers.prefect_api_url), get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def dead() -> str:
    """The name of a process that is gone."""
    code = "from tasks.stores import ledger; print(ledger.holder())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def run(client: SyncPrefectClient, state: State[None], process: str | None = None, *, of: object = ours) -> FlowRun:
    made = client.create_flow_run(of, state=state)  # type: ignore[arg-type]
    if process:
        client.update_flow_run(made.id, infrastructure_pid=process)
    return client.read_flow_run(made.id)


def state(client: SyncPrefectClient, made: FlowRun) -> tuple[str, str]:
    found = client.read_flow_run(made.id).state
    assert found is not None
    return found.type.value, found.message or ""


@pytest.mark.parametrize("begun", [Pending(), Running(), Cancelling()], ids=lambda state: state.name)
def test_a_run_whose_process_is_gone_is_closed_with_the_reason(client: SyncPrefectClient, dead: str, begun: State[None]) -> None:
    made = run(client, begun, dead)
    assert made.id in {closed.id for closed in close_dead(client, ())}
    assert state(client, made) == ("CRASHED", f"The run is dead, its process {dead} is gone. It had not begun a cycle.")
    assert made.id not in {closed.id for closed in close_dead(client, ())}


def test_what_lives_may_live_is_known_to_live_or_has_ended_is_left_alone(client: SyncPrefectClient, dead: str) -> None:
    left = [
        run(client, Running(), ledger.holder()),
        run(client, Running(), "another-host:pid:[1]/1/1"),
        run(client, Running()),  # has just begun, and will name its process
        run(client, Scheduled()),
        run(client, Completed(), dead),
        run(client, Running(), dead, of=theirs),
    ]
    known = run(client, Running(), dead)
    before = [state(client, made) for made in (*left, known)]
    closed = {made.id for made in close_dead(client, {known.id})}
    assert closed.isdisjoint({made.id for made in (*left, known)})
    assert [state(client, made) for made in (*left, known)] == before
    close_dead(client, ())
    assert state(client, known)[0] == "CRASHED"


def test_a_dead_run_of_another_agents_deployment_is_left_to_that_agent(client: SyncPrefectClient, dead: str) -> None:
    def of(deployment: UUID) -> FlowRun:
        made = client.create_flow_run_from_deployment(deployment, state=Running())
        client.update_flow_run(made.id, infrastructure_pid=dead)
        return client.read_flow_run(made.id)

    flow_id = client.create_flow(ours)
    served, other = (client.create_deployment(flow_id, f"{name}-{uuid4().hex}") for name in ("served", "other"))
    ended, left, known = of(served), of(other), of(other)
    ledger.begin("p", trigger="arrival", definition="d", flow_run=str(known.id))
    loose = run(client, Running(), dead)
    closed = {made.id for made in close_dead(client, (), [served])}
    assert closed >= {ended.id, known.id, loose.id}
    assert left.id not in closed
    assert state(client, left)[0] == "RUNNING"
    assert left.id in {made.id for made in close_dead(client, ())}


def test_a_run_of_a_cycle_that_the_ledger_has_closed_is_dead_wherever_its_process_is(client: SyncPrefectClient) -> None:
    made = run(client, Running(), "another-host:pid:[1]/1/1")
    lease = ledger.begin("p", trigger="arrival", definition="d", flow_run=str(made.id))
    assert reason(made, datetime.now(UTC)) is None
    ledger.end(lease, error="The process fell silent.")
    assert made.id in {closed.id for closed in close_dead(client, ())}
    kind, why = state(client, made)
    assert kind == "CRASHED"
    assert "the ledger has closed it: The process fell silent." in why
    assert why.endswith("It was cycle 1 of p; what it left is finished by the next cycle.")


def test_a_run_that_died_after_its_decision_is_said_to_have_decided(client: SyncPrefectClient, dead: str) -> None:
    made = run(client, Running(), dead)
    lease = ledger.begin("p", trigger="arrival", definition="d", flow_run=str(made.id))
    ledger.end(lease)
    why = reason(made, datetime.now(UTC))
    assert why is not None
    assert why.endswith("It was cycle 1 of p; its decision stands.")


def test_a_run_that_names_no_process_is_dead_after_a_minute_and_not_before(client: SyncPrefectClient) -> None:
    made = run(client, Pending())
    assert made.state is not None
    began = made.state.timestamp
    assert reason(made, began + NAMELESS - timedelta(seconds=1)) is None
    assert "it has named no process for 60 s" in (reason(made, began + NAMELESS + timedelta(seconds=1)) or "")
    close_dead(client, ())
    assert state(client, made)[0] == "PENDING"


def test_task_runs_that_a_dead_run_has_left_are_closed_with_its_reason_and_those_of_others_are_left_alone(
    client: SyncPrefectClient, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(of: FlowRun, state: State[None], key: str) -> UUID:
        return client.create_task_run(step, flow_run_id=of.id, dynamic_key=key, state=state).id

    def states(tasks: list[UUID]) -> list[tuple[str, str]]:
        found = [client.read_task_run(one).state for one in tasks]
        return [(state.type.value, state.message or "") for state in found if state is not None]

    with monkeypatch.context() as at_once:  # what tests of other files have left on this server is not this one's
        at_once.setattr(reconcile, "LATE", timedelta())
        while close_tasks(client):
            pass
    killed = run(client, Running(), dead)
    left = [begun(killed, state, str(number)) for number, state in enumerate((Running(), Pending()))]
    others = [
        begun(killed, Completed(), "done"),
        begun(run(client, Running(), ledger.holder()), Running(), "lives"),
        begun(run(client, Completed()), Running(), "is heard of later"),
        begun(run(client, Crashed(), dead, of=theirs), Running(), "theirs"),
    ]
    before = states(others)
    assert close_tasks(client) == ()
    close_dead(client, ())
    assert set(left).isdisjoint({one.id for one in close_tasks(client)})  # what they had to say may still be on its way
    monkeypatch.setattr(reconcile, "LATE", timedelta())
    assert {one.id for one in close_tasks(client)} == set(left)
    assert (
        states(left)
        == [("CRASHED", f"Its run ended before it did. The run is dead, its process {dead} is gone. It had not begun a cycle.")] * 2
    )
    assert states(others) == before
    assert close_tasks(client) == ()
