"""What many tests need: a home of their own, the test pipelines, and real servers for whole cycles."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import stack
from infra.parts import Stack
from tasks import settings

PIPELINES = Path(__file__).parent / "pipelines"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test alone, with the test pipelines and without waiting for files to settle."""
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RATCHET_PIPELINES", str(PIPELINES))
    monkeypatch.setenv("RATCHET_SETTLE", "0")
    for name in ("RATCHET_LEDGER_URL", "RATCHET_LAKE", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded stack in a home of its own, stopped at the end."""
    found = settings.read({"RATCHET_HOME": str(tmp_path_factory.mktemp("servers"))})
    try:
        yield stack.up(found)
    finally:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all()  # what they still have to send would be tried for a minute at exit
        EventsWorker.drain_all()
        stack.down(found)


@pytest.fixture
def cycle_home(home: Path, servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh home (ledger, lake, inbox) on the session's servers."""
    monkeypatch.setenv("PREFECT_API_URL", servers.prefect_api_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", servers.mlflow_url)
    return home
