"""A whole stack in a home of its own: both servers, agent and keeper, with the settings that a user gets, and the toy pipeline to watch."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx

from deployments import stack
from infra.parts import Stack
from tasks import settings
from tests.landing import toy_rows

TOY = Path(__file__).parents[1] / "pipelines" / "toy.py"
T = TypeVar("T")


@contextmanager
def variables(**given: str) -> Iterator[None]:
    """Let the environment have these variables of ours, Prefect's and MLflow's, and none but these."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("RATCHET_", "PREFECT_", "MLFLOW_")):
            del os.environ[name]
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def home(**given: str) -> Iterator[Path]:
    """Give a home that has seen nothing and knows the toy pipeline."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        own = Path(place) / "pipelines"
        own.mkdir()
        shutil.copy(TOY, own)
        with variables(RATCHET_HOME=f"{place}/home", RATCHET_PIPELINES=str(own), **given):
            yield Path(place) / "home"


@contextmanager
def standing(**given: str) -> Iterator[Stack]:
    """Run a stack with agent and keeper, and wait until the agent watches the toy pipeline's source."""
    with home(**given):
        try:
            found = stack.up()
            watched(found)
            yield found
        finally:
            stack.down()


def watched(found: Stack) -> None:
    """Wait until the agent has registered the pipeline; what lands from here on is seen by the first listing or by the watcher."""
    named = {"any_": ["toy: train when data has landed"]}
    once(lambda: list_of(found, "/automations/filter", automations={"name": named}), 60)


def once(ready: Callable[[], T], patience: float, every: float = 0.05) -> T:
    """Give the first answer that is true.

    Raises:
        TimeoutError: if there is none in time.
    """
    limit = time.monotonic() + patience
    while not (answer := ready()):
        if time.monotonic() > limit:
            raise TimeoutError(f"waited for {patience:.0f} s in vain")
        time.sleep(every)
    return answer


def list_of(found: Stack, path: str, **question: Any) -> list[dict[str, Any]]:
    """Ask the Prefect server for what meets a filter."""
    answer = httpx.post(f"{found.prefect_api_url}{path}", json=question, timeout=30)
    answer.raise_for_status()
    given: list[dict[str, Any]] = answer.json()
    return given


def one(found: Stack, path: str, **question: str) -> Any:
    """Ask the Prefect server for one thing."""
    answer = httpx.get(f"{found.prefect_api_url}{path}", params=question, timeout=30)
    answer.raise_for_status()
    return answer.json()


def ready(number: int, rows: int = 20) -> Path:
    """Write a file of the toy pipeline into the inbox under a hidden name, and give what it is to be called."""
    inbox = settings.read().inbox / "toy"
    inbox.mkdir(parents=True, exist_ok=True)
    path = inbox / f"part-{number:05d}.csv"
    toy_rows(rows, first=number * 1000).write_csv(hidden(path), datetime_format="%Y-%m-%dT%H:%M:%S")
    return path


def hidden(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def land(path: Path) -> float:
    """Rename a file into place, and give the moment just before."""
    moment = time.time()
    hidden(path).rename(path)
    return moment
