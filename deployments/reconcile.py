"""Reconcile: close the flow runs in Prefect whose process is gone. What they were doing is finished by the next cycle; the ledger decides that.

Prefect leaves a run that was killed in Pending or Running for ever, and its task runs too. A run names its process (host, number, start)
when it begins.
"""

import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort
from prefect.states import Crashed

from flows.streams import KINDS
from tasks.stores import ledger
from tasks.triggers import APPROVAL

if TYPE_CHECKING:
    from prefect.types._datetime import DateTime

logger = logging.getLogger(__name__)

UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_OURS = FlowFilter(name=FlowFilterName(any_=[APPROVAL, *(kind.flow for kind in KINDS.values())]))
MOST = 200  # runs that are looked at in one round, Prefect's own limit
ENDED = [StateType.CRASHED, StateType.CANCELLED, StateType.FAILED]
LATE = timedelta(seconds=5)  # in which what the tasks of a run had to say before it ended has reached the server
NAMELESS = timedelta(seconds=60)  # after which a run is dead that has begun and named no process


def close_dead(client: SyncPrefectClient, mine: Collection[UUID], served: Collection[UUID] | None = None) -> tuple[FlowRun, ...]:
    """Mark the dead runs crashed, each with the reason, and give them; `mine` are those known to be alive.

    Of deployments that are not among the `served` ones, where those are given, only what is a cycle in this ledger is closed: an agent with another
    ledger, on the same Prefect server, knows more of its own.
    """
    found = client.read_flow_runs(
        flow_filter=_OURS,
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))),
        sort=FlowRunSort.ID_DESC,
        limit=MOST,
    )
    dead = []
    for run in found:
        why = reason(run, datetime.now(UTC)) if run.id not in mine else None
        if why is not None and (served is None or _of(run, served)):
            client.set_flow_run_state(run.id, Crashed(message=why), force=True)
            logger.warning("%s: %s", run.name, why)
            dead.append(run)
    return tuple(dead)


def _of(run: FlowRun, served: Collection[UUID]) -> bool:
    return run.deployment_id is None or run.deployment_id in served or ledger.cycle_of(str(run.id)) is not None


def close_tasks(client: SyncPrefectClient) -> tuple[TaskRun, ...]:
    """Mark the task runs crashed that are left unfinished by a run that has ended otherwise than well, with its message, and give them."""
    before = cast("DateTime", datetime.now(UTC) - LATE)
    ended = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=ENDED)), end_time=FlowRunFilterEndTime(before_=before))
    unfinished = TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED)))
    left = client.read_task_runs(flow_filter=_OURS, flow_run_filter=ended, task_run_filter=unfinished, sort=TaskRunSort.ID_DESC, limit=MOST)
    told: dict[UUID, str] = {}
    for task in left:
        if task.flow_run_id is not None and task.flow_run_id not in told:
            state = client.read_flow_run(task.flow_run_id).state
            told[task.flow_run_id] = (state and state.message) or "It has said no reason."
        message = f"Its run ended before it did. {told.get(task.flow_run_id or task.id, '')}"
        client.set_task_run_state(task.id, Crashed(message=message), force=True)
    return tuple(left)


def reason(run: FlowRun, now: datetime) -> str | None:
    """Say why a run is dead, or None if it may be alive."""
    cycle = ledger.cycle_of(str(run.id))
    began = run.state.timestamp if run.state else None
    if run.infrastructure_pid and ledger.gone(run.infrastructure_pid):
        what = f"its process {run.infrastructure_pid} is gone"
    elif cycle is not None and cycle.state == "failed":
        what = f"the ledger has closed it: {cycle.error}"
    elif not run.infrastructure_pid and began is not None and now - began > NAMELESS:
        what = f"it has named no process for {NAMELESS.seconds} s"
    else:
        return None
    if cycle is None:
        return f"The run is dead, {what}. It had not begun a cycle."
    left = "its decision stands" if cycle.state == "done" else "what it left is finished by the next cycle"
    return f"The run is dead, {what}. It was cycle {cycle.id} of {cycle.pipeline}; {left}."
