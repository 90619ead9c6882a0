"""What many tests need: a home of their own, the test pipelines, and real servers for whole cycles."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from infra import stack
from infra.parts import Stack
from tasks import settings
from tasks.errors import LedgerError
from tasks.stores.ledger import access
from tests.servers import postgres, radosgw

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


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server, stopped at the end; what needs it is skipped where there is none."""
    if missing := postgres.absent():
        pytest.skip(f"not installed: {', '.join(missing)}; see .ci/packages")
    with postgres.running() as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 server, stopped at the end; what needs it is skipped where there is none."""
    if missing := radosgw.absent():
        pytest.skip(f"not installed: {', '.join(missing)}; see .ci/packages")
    with radosgw.running(tmp_path_factory.mktemp("rgw")) as address:
        yield address


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run([str(shutil.which("umount")), "-l", str(place)], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def new_ledger(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Every test once a kind of ledger, on an empty one; what it gives may be called for another empty one, and gives its address."""
    made: list[str] = []

    def anew() -> str:
        if request.param == "postgresql":
            made.append(postgres.fresh_database(request.getfixturevalue("postgres_url")))
        else:
            home.mkdir(exist_ok=True)
            made.append(f"sqlite:///{home / f'ledger-{len(made)}.db'}")
        monkeypatch.setenv("RATCHET_LEDGER_URL", made[-1])
        return made[-1]

    anew()
    yield anew
    for url in made:
        with suppress(LedgerError):  # a test may leave one that is refused
            access._open(url).dispose()
        if request.param == "postgresql":
            postgres.drop_database(url)
