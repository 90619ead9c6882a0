"""A real server of a champion, in a process of its own, on a free port of loopback; and champions put into the ledger as a cycle would."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from tasks import settings
from tasks.records import Champion
from tasks.stores import ledger
from tasks.stores.ledger.champions import crown
from tests.waiting import until


@dataclass
class Running:
    """A server process and a client of it."""

    process: "subprocess.Popen[bytes]"
    client: httpx.Client
    log: Path

    def ready(self) -> bool:
        """Tell whether it answers predictions."""
        return self.status().get("ready") is True

    def status(self) -> dict[str, Any]:
        """Give what /readyz says, or nothing."""
        try:
            found: dict[str, Any] = self.client.get("/readyz").json()
        except httpx.TransportError:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log.read_text()}") from None
            return {}
        return found

    def version(self) -> int | None:
        """Give the version that answers."""
        return self.status().get("version")

    def predict(self, rows: list[dict[str, Any]], **headers: str) -> httpx.Response:
        """Ask for predictions."""
        return self.client.post("/v1/predict", json={"rows": rows}, headers=headers)


@contextmanager
def serving(name: str, log: Path, *words: str, environment: Mapping[str, str] | None = None, wait: bool = True) -> Iterator[Running]:
    """Serve a pipeline in a process of its own; it is ended at the end, if it has not by then."""
    port = free_port()
    command = [sys.executable, "-m", "deployments.online", name, "--port", str(port), *words]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            env={**settings.server_environment(), **(environment or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    secure = "https" if "--certificate" in words else "http"
    with httpx.Client(base_url=f"{secure}://127.0.0.1:{port}", timeout=30, verify=False) as client:  # noqa: S501
        running = Running(process, client, log)
        try:
            if wait:
                until(running.ready, "the server is ready", 60)
            yield running
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """Give a port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def enthrone(candidate: Champion, version: int, **more: Any) -> Champion:
    """Make a stored model the champion, under a version's number."""
    made = replace(candidate, version=version, cycle=version, since=ledger.now(), **more)
    with ledger.transaction() as connection:
        crown(connection, made)
    return made
