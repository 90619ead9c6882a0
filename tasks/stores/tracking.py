"""MLflow runs: one for each cycle, and one below it for each setting tried. One of the two importers of mlflow.

The client is used with run ids throughout, never MLflow's "active run": steps run in several threads.
"""

import functools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import settings
from tasks.errors import Unreachable
from tasks.records import Snapshot
from tasks.stores import ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient

LEDGER = "ratchet.ledger"  # the tag of a run that says whose it is


@functools.cache
def _client(uri: str) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def reached(what: str) -> Iterator[None]:
    """Say what was not done, should MLflow not do it inside the block.

    Raises:
        Unreachable: if no MLflow server is named, or it does not answer, or refuses.
    """
    place = settings.read().mlflow_tracking_uri
    if place is None:  # MLflow would make a database of its own in the working directory
        raise Unreachable(f"No MLflow server is named that could {what}. Start one with `ratchet up`, or set MLFLOW_TRACKING_URI.")
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        raise Unreachable(f"MLflow at {place} did not {what}: {str(error)[:300]}. Is it up? See `ratchet doctor`.") from error


def client() -> "MlflowClient":
    """Give the client of the MLflow server that the settings name."""
    return _client(settings.read().mlflow_tracking_uri or "")


@functools.cache
def _experiment(uri: str, name: str) -> str:
    found = _client(uri).get_experiment_by_name(name)
    return found.experiment_id if found else str(_client(uri).create_experiment(name))


def experiment(name: str) -> str:
    """Give the id of the experiment of that name, made where there is none."""
    return _experiment(settings.read().mlflow_tracking_uri or "", name)


def start(pipeline: str, name: str, *, parent: str | None = None, tags: Mapping[str, str] | None = None) -> str:
    """Start a run, below `parent` if one is given, and give its id.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    own = {"mlflow.parentRunId": parent, LEDGER: ledger.identity()} if parent else {LEDGER: ledger.identity()}
    with reached(f"start a run of {pipeline!r}"):
        run = client().create_run(experiment(pipeline), run_name=name, tags={**own, **(tags or {})})
    return str(run.info.run_id)


def abandon(pipeline: str) -> int:
    """End the runs that processes of this ledger have left open, and count them.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    mine = f"attributes.status = 'RUNNING' and tags.`{LEDGER}` = '{ledger.identity()}'"
    with reached(f"end the runs that {pipeline!r} left open (they are ended later)"):
        left = client().search_runs([experiment(pipeline)], mine)
        for run in left:
            client().set_terminated(run.info.run_id, "KILLED")
    return len(left)


@contextmanager
def finished(run: str) -> Iterator[None]:
    """End the run with the block: finished, or failed if it raises.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    finally:
        with reached(f"end the run {run}"):
            client().set_terminated(run, status)


def log(
    run: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log in one request; metrics that are undefined are left out.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    with reached(f"log to the run {run}"):
        client().log_batch(
            run,
            metrics=[Metric(name, float(value), now, 0) for name, value in (metrics or {}).items() if value is not None],
            params=[Param(name, str(value)[:6000]) for name, value in (params or {}).items()],
            tags=[RunTag(name, str(value)[:5000]) for name, value in (tags or {}).items()],
        )


def log_snapshot(run: str, pipeline: str, snapshot: Snapshot) -> None:
    """Log the snapshot as the run's dataset, under its own digest: MLflow's samples a frame and misses changes."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": snapshot.uri, "version": snapshot.version})
    profile = json.dumps({"num_rows": snapshot.rows, "first": snapshot.first, "last": snapshot.last, "sha256": snapshot.digest})
    dataset = Dataset(
        name=f"{pipeline} v{snapshot.version}",
        digest=snapshot.digest[:16],
        source_type="delta",
        source=source,
        schema="{}",
        profile=profile,
    )
    with reached(f"log the dataset of the run {run}"):
        client().log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])


def log_files(run: str, directory: Path) -> None:
    """Upload the files of a directory as the run's artifacts.

    Raises:
        Unreachable: if MLflow does not take them.
    """
    with reached(f"take the files of the run {run}"):
        client().log_artifacts(run, str(directory))


def url(run: str) -> str:
    """Give the address of the run's page.

    Raises:
        Unreachable: if MLflow does not say where it is.
    """
    base = (settings.read().mlflow_tracking_uri or "").rstrip("/")
    with reached(f"tell of the run {run}"):
        return f"{base}/#/experiments/{client().get_run(run).info.experiment_id}/runs/{run}"
