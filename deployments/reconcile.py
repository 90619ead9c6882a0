"""Reconcile: close the flow runs in Prefect whose process is gone. What they were doing is finished by the next cycle; the ledger decides that.

Prefect leaves a run that was killed in Pending or Running for ever. A run names its process (host, number, start) when it begins.
"""

import logging
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Crashed

from tasks.stores import ledger
from tasks.triggers import APPROVAL, TRAINING

logger = logging.getLogger(__name__)

UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
MOST = 200  # runs that are looked at in one round, Prefect's own limit
NAMELESS = timedelta(seconds=60)  # after which a run is dead that has begun and named no process


def close_dead(client: SyncPrefectClient, mine: Collection[UUID]) -> tuple[FlowRun, ...]:
    """Mark the dead runs crashed, each with the reason, and give them; `mine` are those known to be alive."""
    found = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[TRAINING, APPROVAL])),
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))),
        sort=FlowRunSort.ID_DESC,
        limit=MOST,
    )
    dead = []
    for run in found:
        why = reason(run, datetime.now(UTC)) if run.id not in mine else None
        if why is not None:
            client.set_flow_run_state(run.id, Crashed(message=why), force=True)
            logger.warning("%s: %s", run.name, why)
            dead.append(run)
    return tuple(dead)


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
