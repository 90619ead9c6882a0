"""What runs in processes of its own, forked from a warm one: runs of deployments and whatever executes a pipeline's file.

A crash in here ends that process and nothing else.
"""

import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from tasks.errors import Unreachable


def execute(run: UUID, name: str) -> None:
    """Run a flow run of one of our flows, by the flow's name, as Prefect's own engine does, in this process."""
    from prefect.engine import handle_engine_signals
    from prefect.flow_engine import load_flow_run, run_flow

    from flows.approval import approval
    from flows.streams import function

    flow: Any = approval if name == approval.name else function(name)
    with handle_engine_signals(run):
        run_flow(flow, flow_run=load_flow_run(run))
    _leave(0)


def answer(function: Callable[..., Any], arguments: tuple[Any, ...], to: Connection) -> None:
    """Call a function and send what it gives, or the text of what it raises; that a server is away is sent as what it is."""
    try:
        to.send((function(*arguments), None))
    except Unreachable as error:
        to.send((None, error))
    except Exception as error:  # whatever a user's file does here is told to the parent, which goes on
        to.send((None, f"{type(error).__name__}: {error}"))
    finally:
        to.close()
    _leave(0)


def registered(pipeline: str) -> Any:
    """Register a pipeline with Prefect.

    Raises:
        Unreachable: if Prefect is at fault, and not the pipeline's file.
    """
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    from deployments.registration import register

    try:
        return register(pipeline)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise Unreachable(f"Prefect does not answer, it is asked again: {error!r:.200}") from error


def automation_is_on(stream: str) -> bool | None:
    """Tell whether a stream's automation is switched on."""
    from deployments.registration import is_on

    return is_on(stream)


def settle(pipeline: str) -> tuple[str, ...]:
    """Do what decisions of a pipeline have left to do outside."""
    from tasks.promote import settle_effects
    from tasks.report import settle_reports

    return settle_effects(pipeline) + settle_reports(pipeline)


def _leave(code: int) -> None:
    """End the process once Prefect's events and logs are sent, without waiting for what a library may still be up to."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=3)
    EventsWorker.drain_all(timeout=3)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
