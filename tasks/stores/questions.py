"""Questions to people in Prefect: a flow run that is suspended until somebody answers, once for each version that waits for an approval."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled

from tasks.errors import Unreachable
from tasks.triggers import APPROVAL

OPEN = (StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED)


def ask(pipeline: str, cycle: int) -> None:
    """Start the run that asks whether the version of a cycle may serve; asking twice asks once.

    Where the pipeline has no such deployment (nobody runs `ratchet up`), there is only the command to answer with.

    Raises:
        Unreachable: if the Prefect server does not take it.
    """
    with _reached("ask for the approval") as client:
        try:
            deployment = client.read_deployment_by_name(f"{APPROVAL}/{pipeline}")
        except ObjectNotFound:
            return
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"pipeline": pipeline, "cycle": cycle},
            name=f"{pipeline} · approve the version of cycle {cycle}?",
            idempotency_key=key(pipeline, cycle),
            tags=[pipeline, "approval"],
        )


def withdraw(pipeline: str, cycle: int, why: str) -> None:
    """End the run that asks, if it still does: it was answered elsewhere, or needs no answer any more.

    Raises:
        Unreachable: if the Prefect server does not take it.
    """
    mine = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key(pipeline, cycle)]))
    with _reached("take the question back") as client:
        for run in client.read_flow_runs(flow_run_filter=mine, sort=FlowRunSort.ID_DESC, limit=1):
            if run.state is not None and run.state.type in OPEN:
                client.set_flow_run_state(run.id, Cancelled(name="Answered", message=why), force=True)


def key(pipeline: str, cycle: int) -> str:
    """Name the question, the same however often it is asked.

    >>> key("churn", 4)
    'approval churn 4'
    """
    return f"{APPROVAL} {pipeline} {cycle}"


def run_of(pipeline: str, cycle: int) -> UUID | None:
    """Give the flow run that asks about the version of a cycle, or None.

    Raises:
        Unreachable: if the Prefect server does not say.
    """
    mine = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[key(pipeline, cycle)]))
    with _reached("tell of the question") as client:
        return next((run.id for run in client.read_flow_runs(flow_run_filter=mine, sort=FlowRunSort.ID_DESC, limit=1)), None)


@contextmanager
def _reached(what: str) -> Iterator[SyncPrefectClient]:
    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise Unreachable(f"The Prefect server did not {what}: {error!r:.300}. It is tried again by the next cycle.") from error
