"""The embedded stack with the one process that this project adds to it: the runner of the deployments."""

import hashlib
import sys

from flows import pipelines
from infra import stack
from infra.stack import Part, Service, Stack
from tasks import settings


def runner() -> Service:
    """Describe the runner of the pipelines as they are now; when one is added or changed it is another one, and `up` replaces it."""
    known = "".join(f"{name}:{pipelines.digest(name)}\n" for name in pipelines.names())
    return Service("runner", (sys.executable, "-m", "deployments.runner"), hashlib.sha256(known.encode()).hexdigest()[:16])


def up() -> Stack:
    """Start or find the servers and the runner."""
    return stack.up(settings.read(), [runner()])


def down() -> tuple[Part, ...]:
    """Stop what was started."""
    return stack.down(settings.read())


def find() -> Stack | None:
    """Find the servers running, or give None."""
    return stack.find(settings.read())
