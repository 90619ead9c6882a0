"""The embedded stack with the one process that this project adds to it: the agent, which watches the sources and runs the cycles."""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from infra import stack
from infra.parts import Part, Service, Stack
from tasks import settings

ROOT = Path(__file__).resolve().parent.parent
_VARIABLES = {
    "prefect_api_url": "PREFECT_API_URL",
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "s3_endpoint": "AWS_ENDPOINT_URL",
    "sqs_endpoint": "AWS_ENDPOINT_URL_SQS",
    "region": "AWS_REGION",
    "do_not_track": "DO_NOT_TRACK",
}


def agent() -> Service:
    """Describe the agent of this code and these settings; where the code is another, `up` replaces it; one with other settings keeps running."""
    return Service("agent", (sys.executable, "-m", "deployments.agent"), code(), _given())


def code() -> str:
    """Give the digest of this code, but for the pipelines: what runs sees by itself when those change."""
    found = hashlib.sha256()
    for package in ("tasks", "flows", "deployments", "infra"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent.name != "pipelines":
                found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _given() -> tuple[tuple[str, str], ...]:
    """Give the settings of this process; but for the directories of pipelines only the digest of each, since an address may hold a password."""
    own = {part.url for part in parts() if part.url}
    return tuple((_VARIABLES.get(name, f"RATCHET_{name.upper()}"), _told(value, own)) for name, value in asdict(settings.read()).items())


def _told(value: Any, own: set[str]) -> str:
    if isinstance(value, tuple):
        return os.pathsep.join(map(str, value)) or "(only the shipped ones)"
    same = value is None or str(value).removesuffix("/api") in own  # a server that is part of this stack, named or not
    return "" if same else hashlib.sha256(str(value).encode()).hexdigest()[:16]


def differences() -> tuple[str, ...]:
    """Say in which settings the agent that runs, or that its keeper starts again and again, was started otherwise than it would be now."""
    started = {part.name: part for part in parts()}
    kept = any(started[name].alive for name in ("agent", stack.KEEPER.name) if name in started)
    there = dict(started["agent"].given) if kept and "agent" in started else {}
    here = dict(_given())
    other = [name for name in here if name in there and there[name] != here[name]]
    return tuple(
        f"{name} is {there[name]} there, {here[name]} here" if name == "RATCHET_PIPELINES" else f"{name} is another there" for name in other
    )


def up(services: Sequence[Service] = ()) -> Stack:
    """Start or find the servers, the agent and these services, and what keeps them running."""
    return stack.up(settings.read(), [agent(), *services])


def down() -> tuple[Part, ...]:
    """Stop what was started."""
    return stack.down(settings.read())


def parts() -> tuple[Part, ...]:
    """Give what was started and not stopped since, dead or alive."""
    return stack.parts(settings.read())


def find() -> Stack | None:
    """Find the servers running, or give None."""
    return stack.find(settings.read())
