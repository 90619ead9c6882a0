"""Where things are and how much of the machine may be used. The only reader of the environment.

| variable              | meaning                                                        | default                   |
|-----------------------|----------------------------------------------------------------|---------------------------|
| RATCHET_HOME          | directory of everything Ratchet keeps                          | .ratchet                  |
| RATCHET_PIPELINES     | directories with pipeline files, separated as in PATH          | (only the shipped ones)   |
| RATCHET_LEDGER_URL    | SQLAlchemy URL of the ledger                                   | sqlite file in the home   |
| RATCHET_LAKE          | directory or s3:// prefix of the Delta tables                  | lake/ in the home         |
| RATCHET_THREADS       | threads inside one fit                                         | 1                         |
| RATCHET_WORKERS       | fits, and blocks of rows that are scored, at the same time     | number of cores           |
| RATCHET_SETTLE        | seconds between two looks at a file that has just changed      | 0.5                       |
| RATCHET_LEASE         | seconds after which a silent cycle's lease may be taken over   | 60                        |
| RATCHET_SWEEP         | seconds between two full listings of a watched source          | 30                        |
| PREFECT_API_URL       | use this Prefect server and start none                         | (embedded)                |
| MLFLOW_TRACKING_URI   | use this MLflow server and start none                          | (embedded)                |
| AWS_ENDPOINT_URL      | S3 endpoint that is not Amazon's                               | (Amazon)                  |
| RATCHET_CRASH_AT      | for tests: "point:SIGNAL", see `tasks.crash`                   | (never)                   |
| AWS_ENDPOINT_URL_SQS  | SQS endpoint that is not that of the queue's own URL           | (the queue's)             |
| AWS_REGION            | region of a queue whose URL does not name one                  | us-east-1                 |
| DO_NOT_TRACK          | "true" keeps Prefect and MLflow from sending telemetry         | true, set by Ratchet      |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import BadSetting


@dataclass(frozen=True)
class Settings:
    """One reading of the environment."""

    home: Path
    pipelines: tuple[Path, ...]
    ledger_url: str
    lake: str
    threads: int
    workers: int
    settle: float
    lease: float
    sweep: float
    crash_at: str | None
    prefect_api_url: str | None
    mlflow_tracking_uri: str | None
    s3_endpoint: str | None
    sqs_endpoint: str | None
    region: str
    do_not_track: bool

    @property
    def work(self) -> Path:
        """Directory of what a running cycle stages; emptied when the cycle ends."""
        return self.home / "work"

    @property
    def models(self) -> Path:
        """Directory of verified copies of model artifacts, one directory a digest."""
        return self.home / "models"

    @property
    def serving(self) -> Path:
        """Directory of what servers keep, one directory a pipeline: which version served last, and predictions that are not in the lake yet."""
        return self.home / "serving"

    @property
    def tokens(self) -> Path:
        """File of the tokens that requests must bear: a name and a token a line."""
        return self.home / "tokens"

    @property
    def inbox(self) -> Path:
        """Directory of the sources of pipelines that name none, one directory a pipeline."""
        return self.home / "inbox"


def read(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ`, the process's own by default.

    Raises:
        BadSetting: if a number is not one or is out of its range, or a path cannot be used.

    >>> read({"RATCHET_HOME": "/srv/ratchet"}).ledger_url
    'sqlite:////srv/ratchet/ledger.db'
    """
    env = os.environ if environ is None else environ
    home = Path(env.get("RATCHET_HOME") or ".ratchet").expanduser().absolute()
    if "%" in f"{home}{env.get('RATCHET_LAKE', '')}":
        raise BadSetting(
            f"RATCHET_HOME or RATCHET_LAKE has a '%' in its path ({home}), which Delta tables cannot be below. Choose another directory."
        )
    return Settings(
        home=home,
        pipelines=tuple(Path(part).expanduser().absolute() for part in env.get("RATCHET_PIPELINES", "").split(os.pathsep) if part),
        ledger_url=env.get("RATCHET_LEDGER_URL") or f"sqlite:///{home / 'ledger.db'}",
        lake=env.get("RATCHET_LAKE") or str(home / "lake"),
        threads=int(_number(env, "RATCHET_THREADS", 1, least=1)),
        workers=int(_number(env, "RATCHET_WORKERS", os.cpu_count() or 1, least=1)),
        settle=_number(env, "RATCHET_SETTLE", 0.5, least=0),
        lease=_number(env, "RATCHET_LEASE", 60, least=1),
        sweep=_number(env, "RATCHET_SWEEP", 30, least=0.1),
        crash_at=env.get("RATCHET_CRASH_AT") or None,
        prefect_api_url=env.get("PREFECT_API_URL") or None,
        mlflow_tracking_uri=env.get("MLFLOW_TRACKING_URI") or None,
        s3_endpoint=env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or None,
        sqs_endpoint=env.get("AWS_ENDPOINT_URL_SQS") or None,
        region=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or "us-east-1",
        do_not_track=env.get("DO_NOT_TRACK", "").lower() == "true",
    )


def serving_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of a process that serves a model and needs no server: no address, no password, nothing that a shell left there.

    The home is absolute, so that the process may start in another directory, and numerical libraries get as many threads as one fit.

    Raises:
        BadSetting: as `read`.

    >>> made = serving_environment({"RATCHET_HOME": "/srv/ratchet", "RATCHET_LEDGER_URL": "postgresql://me:word@db", "AWS_PROFILE": "mine"})
    >>> made["RATCHET_HOME"], made["OMP_NUM_THREADS"], "RATCHET_LEDGER_URL" in made, "AWS_PROFILE" in made
    ('/srv/ratchet', '1', False, False)
    """
    env = os.environ if environ is None else environ
    found = read(env)
    passed = {name: value for name, value in env.items() if name in _SERVING or name.startswith(("RATCHET_", "OPENBLAS", "OMP"))}
    threads = {name: str(found.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")}
    return {name: value for name, value in {**threads, **passed, "RATCHET_HOME": str(found.home)}.items() if name not in _NOT_SERVING}


def server_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of a process that answers requests and follows the ledger: this one's, with few threads and an absolute home.

    Raises:
        BadSetting: as `read`.

    >>> server_environment({"RATCHET_HOME": "/srv/ratchet", "OMP_NUM_THREADS": "4"})["OMP_NUM_THREADS"]
    '4'
    """
    env = os.environ if environ is None else environ
    found = read(env)
    threads = {name: str(found.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")}
    return {**threads, **env, "RATCHET_HOME": str(found.home)}


_SERVING = ("PATH", "HOME", "LANG", "TZ")
_NOT_SERVING = ("RATCHET_LEDGER_URL", "RATCHET_LAKE", "RATCHET_CRASH_AT")


def _number(env: Mapping[str, str], name: str, default: float, *, least: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        value = float(text)
    except ValueError as error:
        raise BadSetting(f"{name} is {text!r}; expected a number of at least {least}. Correct it or unset it.") from error
    if not value >= least:
        raise BadSetting(f"{name} is {text!r}; expected at least {least}. Correct it or unset it.")
    return value
