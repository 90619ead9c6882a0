"""A flow that finds its servers by itself: called from Python it uses the embedded stack, and starts it when it is not up.

Inside a deployment's run Prefect's engine calls the function, with the servers named in the environment already.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from prefect import Flow, get_client
from prefect.context import FlowRunContext, get_run_context
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.task_runners import ThreadPoolTaskRunner

from infra import stack
from tasks import settings

P = ParamSpec("P")
R = TypeVar("R")


class Workers(ThreadPoolTaskRunner[Any]):
    """Threads for the tasks of one flow run, as many as the settings say when it starts, not when the flow was imported."""

    def duplicate(self) -> "Workers":
        """Give the runner of one flow run."""
        return Workers(max_workers=settings.read().workers)


class EmbeddedFlow(Flow[P, R]):
    """A Prefect flow whose direct call never ends up on Prefect's hidden temporary server."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        """Run the flow on the servers of the settings, or else on the embedded stack."""
        with connected():
            return super().__call__(*args, **kwargs)


def embedded(**options: Any) -> Callable[[Callable[P, R]], EmbeddedFlow[P, R]]:
    """Make a function an `EmbeddedFlow` with the options of a Prefect flow."""
    runner: Any = Workers()
    return lambda function: EmbeddedFlow(function, task_runner=runner, **options)


def tag_run(*names: str, process: str) -> None:
    """Tag the running flow run, so that runs can be filtered in the UI, and name its process, so that a dead run can be told from a slow one.

    Task runs are not tagged: for every tagged one Prefect asks its server for a concurrency slot before it starts.
    """
    run = get_run_context()
    if isinstance(run, FlowRunContext) and run.flow_run is not None:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.flow_run.id, tags={*run.flow_run.tags, *names}, infrastructure_pid=process)


@contextmanager
def connected() -> Iterator[None]:
    """Let Prefect and MLflow talk to the configured servers, or to the embedded stack, inside the block.

    Heartbeats are off here: they serve an automation that watches remote runs, the lease is what tells that a cycle is dead, and
    stopping their thread costs up to a second at the end of every flow run.
    """
    found = settings.read()
    variables = stack.environment(found, stack.find(found) or stack.up(found))
    with (
        _variables(variables),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_API_URL: variables["PREFECT_API_URL"]}),
    ):
        yield


@contextmanager
def impatient() -> Iterator[None]:
    """Let this thread ask Prefect once and not wait long, inside the block, where its client would try for minutes: for who asks again anyway."""
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 10.0}):
        yield


@contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
