"""The embedded stack with the one process that this project adds to it: the runner of the deployments."""

import sys

from infra import stack
from infra.stack import Part, Service, Stack
from tasks import settings

RUNNER = Service(name="runner", command=(sys.executable, "-m", "deployments.runner"))


def up() -> Stack:
    """Start or find the servers and the runner."""
    return stack.up(settings.read(), [RUNNER])


def down() -> tuple[Part, ...]:
    """Stop what was started."""
    return stack.down(settings.read())


def find() -> Stack | None:
    """Find the servers running, or give None."""
    return stack.find(settings.read())
