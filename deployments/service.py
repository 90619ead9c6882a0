"""Start servers of champions: one in the foreground, or those that belong to `ratchet up`."""

import os
import sys
from pathlib import Path

from deployments import stack
from flows import pipelines
from infra.parts import Service
from tasks import settings
from tasks.errors import BrokenPipeline


def serve(name: str, host: str, port: int, workers: int | None, certificate: Path | None, key: Path | None) -> None:
    """Become the server of a pipeline's champion.

    Versions that are not on this machine are brought from the embedded MLflow server, if that runs. This process is replaced, so that
    numerical libraries are imported with as many threads as they are to have.

    Raises:
        UnknownPipeline: if there is no such pipeline.
    """
    pipelines.path(name)
    options = {"--host": host, "--port": port, "--workers": workers, "--certificate": certificate, "--key": key}
    given = [str(word) for option, value in options.items() if value is not None for word in (option, value)]
    found = stack.find()
    environment = settings.server_environment() | ({"MLFLOW_TRACKING_URI": found.mlflow_url} if found else {})
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "deployments.online", name, *given], environment)  # noqa: S606


def wanted() -> list[Service]:
    """Describe the servers that belong to the stack: one for each pipeline whose file names a port."""
    found = []
    for name in pipelines.names():
        if "Serving" not in pipelines.path(name).read_text(errors="replace"):  # a file takes seconds to import
            continue
        try:
            port = pipelines.get(name).serving.port
        except BrokenPipeline:  # `ratchet up` says of it that it is not watched, and why
            continue
        if port is not None:
            words = (sys.executable, "-m", "deployments.command", "serve", name, "--port", str(port))
            found.append(Service(f"serve-{name}", words, f"{stack.code()} {port}"))
    return found
