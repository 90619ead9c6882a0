"""One real Prefect server and one real MLflow server for all whole cycles of the session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from infra import stack
from infra.stack import Stack
from tasks import settings


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded stack in a home of its own, stopped at the end."""
    found = settings.read({"RATCHET_HOME": str(tmp_path_factory.mktemp("servers"))})
    try:
        yield stack.up(found)
    finally:
        APILogWorker.drain_all()  # what they still have to send would be tried for a minute at exit
        EventsWorker.drain_all()
        stack.down(found)


@pytest.fixture
def cycle_home(home: Path, servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home (ledger, lake, inbox) on the session's servers."""
    monkeypatch.setenv("PREFECT_API_URL", servers.prefect_api_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.mlflow_url)
    return home
