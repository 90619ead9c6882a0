"""Register a pipeline with Prefect: its deployment, with its schedule, and the automation that starts it when a cycle is due.

Both can be switched off in Prefect's UI and stay so: what is there already is changed only when the pipeline's file did.
"""

import logging
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.deployments.runner import EntrypointType, RunnerDeployment  # type: ignore[attr-defined]
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from prefect.schedules import Cron

from flows import pipelines
from flows.approval import approval
from flows.training import continuous_training, source_of
from tasks.spec import Pipeline
from tasks.stores import events
from tasks.triggers import Watched

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """A pipeline as Prefect knows it, and what its watcher needs to know."""

    watched: Watched
    deployment: UUID
    approval: UUID
    automation: UUID


def register(name: str) -> Registered:
    """Import a pipeline and bring its deployment and its automation up to date.

    Raises:
        UnknownPipeline, BrokenPipeline: if there is none, or its file does not import.
    """
    spec, digest = pipelines.get(name), pipelines.digest(name)
    watched = Watched(name, source_of(spec), spec.source.queue, asdict(spec.retrain), digest)
    with get_client(sync_client=True) as client:
        deployed = _deployed(client, describe(spec, digest))
        asking = _deployed(client, describe_approval(name))
        return Registered(watched, deployed, asking, _automated(client, name, deployed))


def automation_name(pipeline: str) -> str:
    """Name a pipeline's automation.

    >>> automation_name("churn")
    'churn: train when data has landed'
    """
    return f"{pipeline}: train when data has landed"


def describe(spec: Pipeline, digest: str) -> RunnerDeployment:
    """Describe the deployment of a pipeline; a run that somebody starts in the UI has the trigger "ui"."""
    cron = spec.retrain.schedule
    made: RunnerDeployment = continuous_training.to_deployment(  # type: ignore[assignment]
        name=spec.name,
        parameters={"pipeline": spec.name, "trigger": "ui"},
        schedule=Cron(cron, timezone=spec.retrain.timezone, parameters=_parameters(spec.name, "schedule")) if cron else None,
        tags=[spec.name],
        version=digest[:16],
        description=f"Continuous training of {spec.name}: ingest, train, compare, decide.",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return made


def _parameters(pipeline: str, trigger: str) -> dict[str, Any]:
    return {"pipeline": pipeline, "trigger": trigger}


def describe_approval(pipeline: str) -> RunnerDeployment:
    """Describe the deployment whose runs ask a person whether a version may serve."""
    made: RunnerDeployment = approval.to_deployment(  # type: ignore[assignment]
        name=pipeline,
        parameters={"pipeline": pipeline},
        tags=[pipeline, "approval"],
        version="1",
        description=f"Asks whether a version of {pipeline} that a cycle holds may take the champion's place. Started by the cycle; answer by resuming its run.",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return made


def _deployed(client: SyncPrefectClient, wanted: RunnerDeployment) -> UUID:
    try:
        found = client.read_deployment_by_name(f"{wanted.flow_name}/{wanted.name}")
    except ObjectNotFound:
        found = None
    if found is not None and found.version == wanted.version:
        return found.id
    made: UUID = wanted.apply()  # type: ignore[assignment]
    return made


def _automated(client: SyncPrefectClient, pipeline: str, deployment: UUID) -> UUID:
    wanted = AutomationCore(
        name=automation_name(pipeline),
        description="Ratchet says that a cycle is due (its policy is the pipeline's Retrain); this starts it. Switch it off to train by hand only.",
        trigger=EventTrigger(
            expect={events.DUE},
            match={"prefect.resource.id": events.resource(pipeline)},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(source="selected", deployment_id=deployment, parameters=_parameters(pipeline, "arrival"), job_variables=None)
        ],
    )
    found = client.read_automations_by_name(wanted.name)
    if not found:
        return client.create_automation(wanted)
    if found[0].actions != wanted.actions or found[0].trigger.model_dump(exclude={"id"}) != wanted.trigger.model_dump(exclude={"id"}):
        client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
    return found[0].id


def is_on(pipeline: str) -> bool | None:
    """Tell whether the pipeline's automation is switched on, or None if there is none (any more)."""
    found: list[Automation] = get_client(sync_client=True).read_automations_by_name(automation_name(pipeline))  # type: ignore[assignment]
    return found[0].enabled if found else None
