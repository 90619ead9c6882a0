"""Register one deployment of continuous training for each pipeline, with its schedule, and run what is due. `python -m deployments.runner`."""

import logging

from prefect import serve
from prefect.deployments.runner import EntrypointType, RunnerDeployment  # type: ignore[attr-defined]
from prefect.schedules import Cron

from flows import pipelines
from flows.training import continuous_training
from tasks.errors import BrokenPipeline
from tasks.spec import Pipeline

logger = logging.getLogger(__name__)


def deployment(spec: Pipeline) -> RunnerDeployment:
    """Describe the deployment of one pipeline; its runs have trigger "schedule" and can be started by hand in the UI."""
    cron = spec.retrain.schedule
    made: RunnerDeployment = continuous_training.to_deployment(  # type: ignore[assignment]
        name=spec.name,
        parameters={"pipeline": spec.name, "trigger": "schedule" if cron else "deployment"},
        schedule=Cron(cron, timezone=spec.retrain.timezone) if cron else None,
        tags=[spec.name],
        description=f"Continuous training of {spec.name}: ingest, train, compare, decide.",
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return made


def known() -> list[Pipeline]:
    """Give the pipelines that can be imported; the others are named in the log, and keep none from running."""
    found = []
    for name in pipelines.names():
        try:
            found.append(pipelines.get(name))
        except BrokenPipeline as error:
            logger.error("%s is not deployed: %s", name, error)
    return found


def main() -> None:
    """Serve the deployments until the process is stopped."""
    serve(*[deployment(spec) for spec in known()])


if __name__ == "__main__":
    main()
