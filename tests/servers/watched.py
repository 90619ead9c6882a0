"""A watcher of the toy pipeline's source in the tests' own process, and what it has recorded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from flows.arrival import Watcher
from tasks.spec import Retrain
from tasks.stores import ledger
from tasks.triggers import Watched
from tests.landing import toy_rows


def toy(source: str, queue: str | None = None) -> Watched:
    """Describe the toy pipeline as one that watches that source."""
    return Watched("toy", source, queue, asdict(Retrain()), digest="d")


@contextmanager
def watching(watched: Watched) -> Iterator[list[str]]:
    """Watch inside the block, and give what is noted each time a cycle is asked for."""
    asked: list[str] = []

    def start(name: str, about: str) -> None:
        asked.append(about)

    watcher = Watcher(watched, nudge=lambda: asked.append("nudged"), start=start)
    watcher.begin()
    try:
        yield asked
    finally:
        watcher.end()
        for thread in watcher._threads:
            thread.join(60)
            assert not thread.is_alive()


def csv(count: int, first: int = 0) -> bytes:
    """Make a file of the toy pipeline's rows, their ids from `first` on."""
    return toy_rows(100).slice(first, count).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S").encode()


def names() -> list[str]:
    """Name every version that is recorded, oldest first."""
    return [part.name for part in reversed(ledger.history("toy"))]
