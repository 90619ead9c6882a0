"""Stories on the session's servers, on SQLite and on a real PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from infra.parts import Stack
from tests.chaos import story
from tests.chaos.story import Story
from tests.servers import postgres

Stage = Callable[[int], AbstractContextManager[Story]]


@pytest.fixture(scope="module")
def stage(servers: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Set the stage of a seed's story."""

    @contextmanager
    def begun(seed: int) -> Iterator[Story]:
        with story.begun(seed, tmp_path_factory.mktemp(f"story-{seed}"), servers) as played:
            yield played

    return begun


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server."""
    if absent := postgres.absent():
        pytest.skip(f"PostgreSQL is not installed: {', '.join(absent)}")
    with postgres.running() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The ledger's database: the file in the home, or a fresh one on the server."""
    monkeypatch.delenv("RATCHET_LEDGER_URL", raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv("RATCHET_LEDGER_URL", postgres.fresh_database(request.getfixturevalue("postgres_url")))
    return str(request.param)
