"""Register a pipeline with Prefect: for each of its streams a deployment, with its schedule, and the automation that starts it when it is due.

They can be switched off in Prefect's UI and stay so: what is there already is changed only when the pipeline's file did.
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
from flows.streams import KINDS, Stream, function, streams
from tasks.stores import events
from tasks.triggers import APPROVAL, Watched, pipeline_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Branch:
    """One stream of a pipeline as Prefect knows it, and what its watcher needs to know; `flow` is what its deployment runs."""

    watched: Watched
    flow: str
    deployment: UUID
    automation: UUID


@dataclass(frozen=True)
class Registered:
    """A pipeline as Prefect knows it: its streams, that of the rows to train on first, and the deployment that asks for approvals."""

    branches: tuple[Branch, ...]
    approval: UUID

    @property
    def watched(self) -> Watched:
        """What the first stream's watcher needs to know."""
        return self.branches[0].watched

    @property
    def deployment(self) -> UUID:
        """The deployment that trains."""
        return self.branches[0].deployment

    @property
    def automation(self) -> UUID:
        """The automation that starts it."""
        return self.branches[0].automation

    @property
    def deployments(self) -> dict[UUID, str]:
        """All deployments, with the name of the flow that each runs."""
        return {branch.deployment: branch.flow for branch in self.branches} | {self.approval: APPROVAL}


def register(name: str) -> Registered:
    """Import a pipeline and bring its deployments and automations up to date.

    Raises:
        UnknownPipeline, BrokenPipeline: if there is none, or its file does not import.
    """
    spec, digest = pipelines.get(name), pipelines.digest(name)
    with get_client(sync_client=True) as client:
        branches = tuple(_branch(client, stream, digest) for stream in streams(spec))
        return Registered(branches, _deployed(client, describe_approval(name)))


def _branch(client: SyncPrefectClient, stream: Stream, digest: str) -> Branch:
    watched = Watched(stream.name, stream.uri, stream.source.queue, asdict(stream.retrain), digest)
    deployed = _deployed(client, describe(stream, digest))
    return Branch(watched, stream.kind.flow, deployed, _automated(client, stream, deployed))


def automation_name(stream: str) -> str:
    """Name a stream's automation.

    >>> automation_name("churn"), automation_name("churn:scoring")
    ('churn: train when data has landed', 'churn: predict when data has landed')
    """
    return f"{pipeline_of(stream)}: {KINDS[stream.partition(':')[2]].purpose} when data has landed"


def describe(stream: Stream, digest: str) -> RunnerDeployment:
    """Describe the deployment of a stream; a run that somebody starts in the UI has the trigger "ui"."""
    name, cron = stream.pipeline, stream.retrain.schedule
    made: RunnerDeployment = function(stream.kind.flow).to_deployment(
        name=name,
        parameters={"pipeline": name, "trigger": "ui"},
        schedule=Cron(cron, timezone=stream.retrain.timezone, parameters=_parameters(name, "schedule")) if cron else None,
        tags=[name],
        version=digest[:16],
        description=stream.kind.description.format(name),
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


def _automated(client: SyncPrefectClient, stream: Stream, deployment: UUID) -> UUID:
    what = stream.kind.purpose
    wanted = AutomationCore(
        name=automation_name(stream.name),
        description=f"Ratchet says that a cycle is due (the pipeline's file says when that is); this starts it. Switch it off to {what} by hand only.",
        trigger=EventTrigger(
            expect={events.DUE},
            match={"prefect.resource.id": events.resource(stream.name)},
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            RunDeployment(
                source="selected", deployment_id=deployment, parameters=_parameters(stream.pipeline, "arrival"), job_variables=None
            )
        ],
    )
    found = client.read_automations_by_name(wanted.name)
    if not found:
        return client.create_automation(wanted)
    if found[0].actions != wanted.actions or found[0].trigger.model_dump(exclude={"id"}) != wanted.trigger.model_dump(exclude={"id"}):
        client.update_automation(found[0].id, wanted.model_copy(update={"enabled": found[0].enabled}))
    return found[0].id


def is_on(stream: str) -> bool | None:
    """Tell whether the stream's automation is switched on, or None if there is none (any more)."""
    found: list[Automation] = get_client(sync_client=True).read_automations_by_name(automation_name(stream))  # type: ignore[assignment]
    return found[0].enabled if found else None
