"""The floor of the trigger: a flow that Prefect serves as its tutorials show it, started by an event, with nothing tuned."""

import time
from pathlib import Path

from prefect import flow, task
from prefect.events import DeploymentEventTrigger


@task
def first(path: str) -> None:
    """Write the moment at which the first task's first line runs."""
    moment = time.time()
    seen = Path(path).parent.parent / "seen" / Path(path).name
    seen.with_suffix(".tmp").write_text(f"{moment}\n")
    seen.with_suffix(".tmp").rename(seen)


@flow(name="plain")
def plain(path: str) -> None:
    """Run one task."""
    first(path)


if __name__ == "__main__":
    plain.serve(name="plain", triggers=[DeploymentEventTrigger(expect={"plain.landed"}, parameters={"path": "{{ event.payload.path }}"})])
