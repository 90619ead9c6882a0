"""The embedded stack with the one process that this project adds to it: the agent, which watches the sources and runs the cycles."""

import hashlib
import sys
from pathlib import Path

from infra import stack
from infra.parts import Part, Service, Stack
from tasks import settings

ROOT = Path(__file__).resolve().parent.parent


def agent() -> Service:
    """Describe the agent of this code and these settings; where either is another one, `up` replaces it."""
    code = hashlib.sha256()
    for package in ("tasks", "flows", "deployments", "infra"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.parent.name != "pipelines":  # those it sees change by itself
                code.update(path.read_bytes())
    code.update(repr(settings.read()).encode())
    return Service("agent", (sys.executable, "-m", "deployments.agent"), code.hexdigest()[:16])


def up() -> Stack:
    """Start or find the servers and the agent, and what keeps them running."""
    return stack.up(settings.read(), [agent()])


def down() -> tuple[Part, ...]:
    """Stop what was started."""
    return stack.down(settings.read())


def parts() -> tuple[Part, ...]:
    """Give what was started and not stopped since, dead or alive."""
    return stack.parts(settings.read())


def find() -> Stack | None:
    """Find the servers running, or give None."""
    return stack.find(settings.read())
