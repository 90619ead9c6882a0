"""Dispatch: start the runs of our deployments that are due, each in a process forked from a warm one, and follow them to their end.

Prefect's own runner asks its server every 10 s and starts a new interpreter, whose imports take seconds. This one asks every 2 s,
and at once when it was told that a run is coming; what it starts has imported everything.
"""

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, StateType
from prefect.client.schemas.responses import OrchestrationResult, SetStateStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed, Pending

from deployments import children
from flows.embedded import impatient
from tasks import settings
from tasks.errors import BrokenPipeline, RatchetError, Unreachable
from tasks.stores import ledger

if TYPE_CHECKING:
    from prefect.types._datetime import DateTime

logger = logging.getLogger(__name__)

FAULTS = (httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound)
IDLE, QUICK, COMING = 2.0, 0.05, 5.0  # seconds between two questions, the same while a run is coming, and how long it may take to come
ANSWER = 120.0  # seconds that a pipeline's file may take to import
SHOWN = 20.0
MOST = 20  # runs that are looked at of one deployment
LIMIT, LINGER = 14_400.0, 30.0  # seconds that a run may take, and after which one that has lost its lease is ended
FORK = multiprocessing.get_context("forkserver")


@dataclass
class Running:
    """A flow run and its process; `ended` says why it was ended, if it was."""

    run: FlowRun
    process: ForkServerProcess
    began: float
    cancelled: bool = False
    lost: float | None = None
    ended: str | None = None


def warm() -> None:
    """Let the process that others are forked from import everything."""
    FORK.set_forkserver_preload(["deployments.warm"])


def ask(function: Callable[..., Any], *arguments: Any, stop: threading.Event) -> Any:
    """Call a function in a forked process and give what it gives, unless told to stop meanwhile.

    Raises:
        Unreachable: if a server is away that it needs.
        BrokenPipeline: if it raises anything else, dies or does not end.
    """
    here, there = FORK.Pipe(duplex=False)
    process = FORK.Process(target=children.answer, args=(function, arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        given, error = here.recv() if _answered(here, stop) else (None, f"no answer within {ANSWER:.0f} s")
    except EOFError:
        process.join()
        given, error = None, f"its process ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
        here.close()
    if isinstance(error, Unreachable):
        raise error
    if error is not None:
        raise BrokenPipeline(f"{function.__name__}{arguments} could not be done: {error}")
    return given


def _answered(here: Connection, stop: threading.Event) -> bool:
    limit = time.monotonic() + ANSWER
    while time.monotonic() < limit and not stop.is_set():
        if here.poll(0.1):
            return True
    return False


def _due(deployments: list[UUID]) -> FlowRunFilter:
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=deployments),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
        next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(before_=cast("DateTime", datetime.now(UTC))),
    )


def _state(client: SyncPrefectClient, running: Running) -> StateType | None:
    """Give the state of a run; one that was deleted in Prefect counts as cancelled."""
    try:
        state = client.read_flow_run(running.run.id).state
    except ObjectNotFound:
        return StateType.CANCELLED
    return None if state is None else state.type


def under_way(client: SyncPrefectClient, deployment: UUID) -> bool:
    """Tell whether a run of a deployment is due, or has begun and is at work: not one whose cycle holds the lease no more, whatever it waits for."""
    begun = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING]))
    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]), state=begun)
    if client.read_flow_runs(flow_run_filter=_due([deployment]), sort=FlowRunSort.ID_DESC, limit=1):
        return True
    return any(_at_work(run.id) for run in client.read_flow_runs(flow_run_filter=mine, sort=FlowRunSort.ID_DESC, limit=MOST))


def _at_work(run: UUID) -> bool:
    cycle = ledger.cycle_of(str(run))
    return cycle is None or ledger.at_work(cycle)


class Dispatcher:
    """Starts due runs of `deployments` (each with the name of its flow), which may take as long as `limits` say.

    `ended` hears of the pipeline of each run that has ended.
    """

    def __init__(self, ended: Callable[[str], None]) -> None:
        self.deployments: dict[UUID, str] = {}
        self.limits: dict[UUID, float] = {}
        self._sign = f"Taken by the agent {uuid4().hex[:8]}."
        self._ended = ended
        self._running: dict[UUID, Running] = {}
        self._wake = threading.Event()
        self._coming, self._asked, self._shown = 0.0, -IDLE, -SHOWN

    def nudge(self) -> None:
        """Be told that a run is coming: look for it often for the next seconds."""
        self._coming = time.monotonic() + COMING
        self._wake.set()

    def mine(self) -> frozenset[UUID]:
        """Give the flow runs whose processes this dispatcher follows."""
        return frozenset(list(self._running))  # in one step: runs come and go meanwhile

    def run(self, stop: threading.Event) -> None:
        """Start and follow runs until told to stop, then end those that still run."""
        with impatient():
            self._serve(stop)
        self._end_all()

    def end_at_once(self) -> None:
        """Kill what still runs: the time to end by itself is over."""
        for running in list(self._running.values()):
            running.process.kill()

    def _serve(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                with get_client(sync_client=True) as client:
                    while not stop.is_set():
                        self._wake.clear()
                        quick = time.monotonic() < self._coming
                        self._once(client, quick=quick)
                        (stop if quick else self._wake).wait(QUICK if quick or self._running else IDLE)
            except (RatchetError, *FAULTS) as error:
                logger.warning("Prefect or the ledger does not answer: %r. It is asked again.", error)
                stop.wait(IDLE)

    def _once(self, client: SyncPrefectClient, *, quick: bool) -> None:
        """Ask for runs if it is time, and see which processes have ended."""
        if quick or time.monotonic() - self._asked >= IDLE:
            self._asked = time.monotonic()
            if not quick:
                self._show(client)
                self._end_overdue()
            self._start_due(client)
            self._end_cancelled(client)
        self._reap(client)

    def _start_due(self, client: SyncPrefectClient) -> None:
        if not self.deployments:
            return
        for run in client.read_flow_runs(
            flow_run_filter=_due(list(self.deployments)), sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC, limit=20
        ):
            if len(self._running) >= settings.read().workers and self._at_work() >= settings.read().workers:
                return
            if self._claim(client, run):
                process = FORK.Process(target=children.execute, args=(run.id, self.deployments[run.deployment_id or run.id]), name=run.name)
                process.start()
                self._running[run.id] = Running(run, process, time.monotonic())
                self._coming = 0.0

    def _at_work(self) -> int:
        """Count the runs that work: one that has let its lease run out keeps no other from taking over."""
        return sum(_at_work(identity) for identity in self._running)

    def _end_overdue(self) -> None:
        """End the runs that take too long, and those that have lost their lease and do not end by themselves."""
        now = time.monotonic()
        for identity, running in self._running.items():
            limit = self.limits.get(running.run.deployment_id or identity, LIMIT)
            cycle = ledger.cycle_of(str(identity))
            over = cycle is not None and cycle.state != "running" and not ledger.at_work(cycle)
            running.lost = (running.lost or now) if over else None
            if now - running.began > limit:
                running.ended = f"It took longer than {limit:g} s (Retrain.time_limit) and was ended."
            elif running.lost is not None and now - running.lost > LINGER:
                what = "lost its lease" if cycle is not None and cycle.state == "failed" else "had decided and its lease was over,"
                running.ended = f"It {what} and had not ended {LINGER:g} s later, so it was ended."
            if running.ended:
                running.process.kill()

    def _show(self, client: SyncPrefectClient) -> None:
        """Let the UI show the deployments as ready, which they are while somebody asks for their runs; not often, for this question writes."""
        if self.deployments and time.monotonic() - self._shown > SHOWN:
            self._shown = time.monotonic()
            client.get_scheduled_flow_runs_for_deployments(list(self.deployments), scheduled_before=datetime.now(UTC), limit=1)

    def _claim(self, client: SyncPrefectClient, run: FlowRun) -> bool:
        """Take a run: the server lets one dispatcher alone set it pending. Where the reply is lost, it is asked whose the run is."""
        try:
            answer: OrchestrationResult[Any] = client.set_flow_run_state(run.id, Pending(message=self._sign))
        except httpx.TransportError as error:
            state = client.read_flow_run(run.id).state
            logger.warning("%s: the reply to its claim was lost: %r", run.name, error)
            return state is not None and state.type == StateType.PENDING and state.message == self._sign
        return answer.status == SetStateStatus.ACCEPT

    def _end_cancelled(self, client: SyncPrefectClient) -> None:
        for running in list(self._running.values()):
            state = _state(client, running)
            if state == StateType.CANCELLING and not running.cancelled:
                running.cancelled = True
                running.process.terminate()

    def _reap(self, client: SyncPrefectClient) -> None:
        for identity, running in list(self._running.items()):
            if running.process.is_alive():
                continue
            running.process.join()
            if running.cancelled:
                with suppress(ObjectNotFound):  # it was deleted, too
                    client.set_flow_run_state(identity, Cancelled(message="Cancelled in Prefect; the cycle was stopped."), force=True)
            elif running.process.exitcode:
                self._tell_crash(client, running)
            del self._running[identity]  # not before its end was told: what is not followed here is closed with less of a reason
            self._ended(str(running.run.parameters.get("pipeline", "")))

    def _tell_crash(self, client: SyncPrefectClient, running: Running) -> None:
        """Close a run whose process ended without telling the server how."""
        code = running.process.exitcode or 0
        if _state(client, running) not in TERMINAL_STATES:
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            why = running.ended or f"The run's process {running.process.pid} ended with {how}."
            message = f"{why} Its lease is taken over, and what it left is finished, by the next cycle."
            client.set_flow_run_state(running.run.id, Crashed(message=message), force=True)
            logger.warning("%s: %s", running.run.name, message)

    def _end_all(self) -> None:
        for running in self._running.values():
            running.process.terminate()
        limit = time.monotonic() + 2.5
        for running in self._running.values():
            running.process.join(max(0.0, limit - time.monotonic()))
            running.process.kill()
