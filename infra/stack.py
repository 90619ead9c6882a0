"""The embedded stack: one Prefect and one MLflow server on SQLite in the home, and what a caller wants kept running beside them.

`stack.json` in the home says what was started, each process by number and start time. All of it is guarded by a file lock, so that two
callers at once start one stack. Where PREFECT_API_URL or MLFLOW_TRACKING_URI name a server, that one is used and none is started.
"""

import fcntl
import os
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from infra import process, servers
from infra.parts import Part, Service, Stack, record, recorded
from infra.servers import Server
from tasks.errors import StackError
from tasks.settings import Settings

PATIENCE = 120.0
_PORTS = {"prefect": 4200, "mlflow": 5000}
KEEPER = Service("keeper", (sys.executable, "-m", "infra.keeper"))


def environment(settings: Settings, stack: Stack) -> dict[str, str]:
    """Give what a process needs in its environment to work with the stack."""
    return {
        **servers.QUIET,
        "RATCHET_HOME": str(settings.home),  # these four absolute: a process started there may have another working directory
        "RATCHET_PIPELINES": os.pathsep.join(map(str, settings.pipelines)),
        "RATCHET_LEDGER_URL": settings.ledger_url,
        "RATCHET_LAKE": settings.lake,
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": stack.prefect_api_url,
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # never Prefect's hidden temporary server
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # the default is pickle
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # the default of 7 makes a dead server hang a cycle for minutes
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }


def find(settings: Settings) -> Stack | None:
    """Give the stack if both servers are there and answer, or None."""
    stack = Stack(tuple(recorded(settings)))
    names = [part.name for part in stack.parts if part.alive]
    if "prefect" not in names or "mlflow" not in names:
        return None
    healthy = all(_answers(part.url or "", _health(part)) for part in stack.parts if part.owned and part.url)
    return stack if healthy else None


def up(settings: Settings, services: Sequence[Service] = ()) -> Stack:
    """Start what is missing of the stack, or find all of it running. With services, a keeper starts again what dies of all this.

    Raises:
        StackError: if a part does not start; what this call started is stopped again.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with _locked(settings):
        return _bring_up(settings, _wanted(settings, services))


def _wanted(settings: Settings, services: Sequence[Service]) -> list[Service]:
    """Give what is to run beside the servers: nothing more where one of it runs with other settings, or is about to be started again with them."""
    started = {part.name: part for part in parts(settings)}
    kept = KEEPER.name in started and started[KEEPER.name].alive
    for service in services:
        part = started.get(service.name)
        if part is not None and part.given not in ((), service.given) and (part.alive or kept):
            return []
    return [*services, KEEPER] if services else []


def mend(settings: Settings, silent: Sequence[Part] = ()) -> tuple[Part, ...]:
    """Start what has died of the parts that were started, and start anew the `silent` ones; give what was started.

    Raises:
        StackError: if a part does not start again.
    """
    with _locked(settings):
        started = parts(settings)
        if all(part.alive for part in started) and not silent:
            return ()
        for part in silent:
            _stop(part)
        services = [Service(part.name, part.command, part.version, part.given) for part in started if part.command]
        found = _bring_up(settings, services)
        return tuple(part for part in found.parts if part.owned and part not in started)


def _bring_up(settings: Settings, services: Sequence[Service]) -> Stack:
    wanted = {service.name: service.version for service in services}
    known = recorded(settings)
    before = [part for part in known if part.alive]
    outdated = [part for part in before if part.version != wanted.get(part.name, part.version)]
    parts = {part.name: part for part in before if part not in outdated}
    for part in outdated:
        _stop(part)
    new: list[Part] = []
    try:
        new += _start_servers(settings, parts)
        stack = Stack((*parts.values(), *new))
        new += [_start_service(settings, stack, service) for service in services if service.name not in parts]
    except BaseException:
        for part in new:
            _stop(part)
        raise
    stack = Stack(tuple(sorted((*parts.values(), *new), key=lambda part: part.name)))
    record(settings, [*stack.parts, *(() if services else _left_to_the_keeper(known, before))])
    return stack


def _left_to_the_keeper(known: Sequence[Part], alive: Sequence[Part]) -> list[Part]:
    """Give the services that have died, where there is a keeper that is about to start them again: without their record it would not."""
    kept = any(part.name == KEEPER.name for part in alive)
    return [part for part in known if kept and part.command and part.pid is not None and part not in alive]


def down(settings: Settings) -> tuple[Part, ...]:
    """Stop exactly what was started, and give it."""
    if not settings.home.exists():
        return ()
    with _locked(settings):
        known = recorded(settings)
        order = sorted(known, key=lambda part: (part.name != KEEPER.name, part.url is not None))  # first who would start the others again
        stopped = tuple(part for part in order if _stop(part))
        record(settings, [replace(part, pid=None, since=None) for part in known if part.owned])
        return stopped


def _stop(part: Part) -> bool:
    return part.owned and part.pid is not None and part.since is not None and process.stop(part.pid, part.since)


def _start_servers(settings: Settings, running: dict[str, Part]) -> list[Part]:
    """Start both servers side by side, as far as they are missing, and wait until they answer."""
    if not {"prefect", "mlflow"} - running.keys():
        return []
    with _ports_kept():
        return _started(settings, running)


def _started(settings: Settings, running: dict[str, Part]) -> list[Part]:
    ports = {part.name: int(part.url.rpartition(":")[2]) for part in recorded(settings) if part.owned and part.url}
    made: list[tuple[Part, Server]] = []
    kinds: dict[str, Callable[[Path, int], Server]] = {"prefect": servers.prefect, "mlflow": servers.mlflow}
    try:
        for name, describe in kinds.items():
            if name not in running:
                server = describe(settings.home, _free_port(ports.get(name, _PORTS[name])))
                made.append((_launch(settings, server), server))
        for part, server in made:
            _await(settings, part, server)
    except BaseException:
        for part, _ in made:
            _stop(part)
        raise
    return [part for part, _ in made]


def _launch(settings: Settings, server: Server) -> Part:
    server.database.parent.mkdir(parents=True, exist_ok=True)
    pid = process.start(server.command, server.environment, _log(settings, server.name))
    return Part(server.name, f"http://127.0.0.1:{server.port}", owned=True, pid=pid, since=process.started(pid))


def _start_service(settings: Settings, stack: Stack, service: Service) -> Part:
    pid = process.start(service.command, environment(settings, stack), _log(settings, service.name))
    made = Part(service.name, None, owned=True, pid=pid, since=process.started(pid), version=service.version, command=service.command)
    return replace(made, given=service.given)


def _await(settings: Settings, part: Part, server: Server) -> None:
    limit = time.monotonic() + PATIENCE
    while not _answers(part.url or "", server.health):
        if not part.alive or time.monotonic() > limit:
            raise StackError(_explained(settings, part, server))
        time.sleep(0.1)


def _explained(settings: Settings, part: Part, server: Server) -> str:
    log = _log(settings, part.name)
    what = "ended while it started" if not part.alive else f"did not answer within {PATIENCE:.0f} s"
    return (
        f"The {part.name} server {what}. What this call started was stopped again; nothing else was changed.\n"
        f"The last lines of {log}:\n{process.tail(log)}\n"
        f"If its database {server.database} is damaged or half migrated, move it away and start again:\n"
        f"    mv '{server.database}' '{server.database}.broken' && ratchet up\n"
        f"It holds {server.holds}."
    )


def _health(part: Part) -> str:
    return "/api/health" if part.name == "prefect" else "/health"


def silent(part: Part) -> bool:
    """Tell whether a server of ours is alive and does not answer."""
    return part.owned and part.url is not None and part.alive and not _answers(part.url, _health(part))


def parts(settings: Settings) -> tuple[Part, ...]:
    """Give what was started and not stopped since, dead or alive."""
    return tuple(part for part in recorded(settings) if part.owned and part.pid is not None)


def _answers(url: str, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=2) as answer:  # noqa: S310  the address is one that this file made
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port(wanted: int) -> int:
    """Give the wanted port if nothing listens there, or else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StackError("This machine has no free port on 127.0.0.1; close some connections and run `ratchet up` again.")


@contextmanager
def _ports_kept() -> Iterator[None]:
    """Let no other stack of this user choose its ports before those that were chosen here are taken."""
    path = Path(tempfile.gettempdir()) / f"ratchet-ports-{os.getuid()}.lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _log(settings: Settings, name: str) -> Path:
    return settings.home / "logs" / f"{name}.log"


@contextmanager
def _locked(settings: Settings) -> Iterator[None]:
    with (settings.home / "stack.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
