"""How the two servers are started: command, environment, health, and what to do when their database is broken."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "true",  # Prefect's SDK and MLflow; MLflow takes only the word "true"
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Server:
    """One kind of embedded server; `health` is the path that answers 200 once it serves."""

    name: str
    port: int
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: str
    database: Path
    holds: str


def prefect(home: Path, port: int) -> Server:
    """Describe the Prefect server, with a home and a database of its own."""
    own = home / "prefect"
    return Server(
        name="prefect",
        port=port,
        command=(sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        environment={
            **QUIET,
            "PREFECT_HOME": str(own),
            "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{own / 'prefect.db'}",
            "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",  # survives a restart
            "PREFECT_API_URL": "",
        },
        health="/api/health",
        database=own / "prefect.db",
        holds="the record of runs that the UI shows; ledger, lake and models are not in it",
    )


def mlflow(home: Path, port: int) -> Server:
    """Describe the MLflow server: one worker, no job runner, artifacts through the server."""
    own = home / "mlflow"
    return Server(
        name="mlflow",
        port=port,
        command=(
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{own / 'mlflow.db'}", "--artifacts-destination", str(own / "artifacts")),
        ),
        environment={**QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_TRACKING_URI": ""},
        health="/health",
        database=own / "mlflow.db",
        holds="runs and the model registry; the ledger knows every champion and its digest, and local copies of champions are in models/",
    )
