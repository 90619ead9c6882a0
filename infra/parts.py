"""The parts of a stack, and the file in the home that says which were started: `stack.json`, each process by number and start time."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infra import process
from tasks.errors import StackError
from tasks.settings import Settings


@dataclass(frozen=True)
class Service:
    """A process that a caller wants kept running beside the servers, with `environment` to find them.

    One that runs with another `version` than the caller's is stopped and started anew. One that was started with other settings
    (`given`, as pairs of name and value) is not: it keeps them until it is stopped.
    """

    name: str
    command: tuple[str, ...]
    version: str = ""
    given: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Part:
    """One part of the stack; one that was not started here has no process number."""

    name: str
    url: str | None
    owned: bool
    pid: int | None = None
    since: str | None = None
    version: str = ""
    command: tuple[str, ...] = ()
    given: tuple[tuple[str, str], ...] = ()

    @property
    def alive(self) -> bool:
        """Tell whether the very process that was started still runs; a server that is not ours is taken at its word."""
        return not self.owned or (self.pid is not None and self.since is not None and process.started(self.pid) == self.since)


@dataclass(frozen=True)
class Stack:
    """The parts that are running."""

    parts: tuple[Part, ...]

    def url(self, name: str) -> str:
        """Give the address of a server."""
        return next(part.url for part in self.parts if part.name == name) or ""

    @property
    def prefect_url(self) -> str:
        """Address of the Prefect UI."""
        return self.url("prefect").removesuffix("/api")

    @property
    def prefect_api_url(self) -> str:
        """Address of the Prefect API."""
        return f"{self.prefect_url}/api"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow."""
        return self.url("mlflow")


def recorded(settings: Settings) -> list[Part]:
    """Read what was started; servers that the settings name take the place of embedded ones.

    Raises:
        StackError: if the file cannot be read.
    """
    path = settings.home / "stack.json"
    try:
        stored = [_part(part) for part in json.loads(path.read_text())["parts"]] if path.exists() else []
    except (ValueError, KeyError, TypeError) as error:
        raise StackError(
            f"{path} cannot be read: {error}. Remove it; servers it spoke of can be found with `ps`, by {settings.home}."
        ) from error
    given = {"prefect": settings.prefect_api_url, "mlflow": settings.mlflow_tracking_uri}
    own = {part.url: part for part in stored}
    named = [Part(name, url, owned=False) for name, url in given.items() if url and url.removesuffix("/api") not in own]
    return [part for part in stored if part.name not in {other.name for other in named}] + named


def _part(stored: dict[str, Any]) -> Part:
    command, given = tuple(stored.get("command", ())), tuple((name, value) for name, value in stored.get("given", ()))
    return Part(**{**stored, "command": command, "given": given})


def record(settings: Settings, parts: Sequence[Part]) -> None:
    """Write down what was started, all of it or nothing."""
    path = settings.home / "stack.json"
    fresh = path.with_suffix(".tmp")
    fresh.write_text(json.dumps({"parts": [asdict(part) for part in parts if part.owned]}, indent=1))
    fresh.replace(path)
