"""What the agent watches now, for whoever asks in another process: `watches.json` in the home, written by the agent and true while that lives."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks import settings
from tasks.stores import ledger

FRESH = 180.0  # seconds for which the word of an agent on another machine is taken


@dataclass(frozen=True)
class Watch:
    """Whether one pipeline's source is watched; `note` says why it is not, or not as it should be, and is "" if all is well."""

    file: str
    source: str
    watched: bool
    note: str = ""


def publish(watches: Mapping[str, Watch]) -> None:
    """Write down what this process watches, by pipeline, all of it or nothing."""
    path = _path()
    fresh = path.with_suffix(".tmp")
    told = {"process": ledger.holder(), "pipelines": {name: asdict(watch) for name, watch in watches.items()}}
    fresh.write_text(json.dumps(told, indent=1))
    fresh.replace(path)


def read() -> dict[str, Watch] | None:
    """Give what is watched, by pipeline, or None if no agent says anything, or none that said something is there any more."""
    path = _path()
    try:
        told, age = json.loads(path.read_text()), time.time() - path.stat().st_mtime
        if ledger.gone(told["process"]) or (_elsewhere(told["process"]) and age > FRESH):
            return None
        return {name: Watch(**watch) for name, watch in told["pipelines"].items()}
    except (OSError, ValueError, KeyError, TypeError):  # not there, or of another version of this file
        return None


def _elsewhere(process: str) -> bool:
    return process.partition("/")[0] != ledger.holder().partition("/")[0]


def _path() -> Path:
    return settings.read().home / "watches.json"
