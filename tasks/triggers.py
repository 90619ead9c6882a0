"""Words of what starts a cycle: what a watcher knows of a pipeline, what the situation is, and the receipt of what came of it."""

from dataclasses import dataclass
from typing import Any, Literal

TRAINING, APPROVAL, SCORING, LABELS = (
    "continuous-training",
    "approval",
    "batch-scoring",
    "take-labels",
)  # the flows that deployments are made of
Outcome = Literal["ran", "asked", "waited", "skipped"]


def stream_of(pipeline: str, kind: str) -> str:
    """Name the stream of what lands at one of a pipeline's sources: that of the rows to train on has the pipeline's own name.

    >>> stream_of("churn", ""), stream_of("churn", "scoring")
    ('churn', 'churn:scoring')
    """
    return f"{pipeline}:{kind}" if kind else pipeline


def pipeline_of(stream: str) -> str:
    """Name the pipeline that a stream belongs to.

    >>> pipeline_of("churn:scoring"), pipeline_of("churn")
    ('churn', 'churn')
    """
    return stream.partition(":")[0]


@dataclass(frozen=True)
class Receipt:
    """What came of one moment at which a cycle could have begun, and why; equal ones in a row are kept as one, counted in `times`.

    `outcome`: ran (cycle `cycle` began), asked (a run was asked of Prefect), waited (for what `rule` names) or skipped.
    """

    outcome: Outcome
    rule: str
    why: str
    trigger: str = "arrival"
    outstanding: int = 0
    cycle: int | None = None
    first_at: str | None = None
    last_at: str | None = None
    times: int = 1


@dataclass(frozen=True)
class Situation:
    """What decides whether a cycle is due; all times in seconds, None where there is none.

    `quiet`: since the newest outstanding arrival was seen; `waiting`: since the oldest was; `since_start`: since the last cycle that
    arrivals started began; `since_end`: since the last cycle ended; `today`: cycles that arrivals started since midnight;
    `running`: the cycle that holds the lease; `unfinished`: what a cycle has left to be made good; `failures`: cycles failed in a row.
    """

    outstanding: int = 0
    quiet: float = 0.0
    waiting: float = 0.0
    since_start: float | None = None
    since_end: float | None = None
    today: int = 0
    running: int | None = None
    unfinished: str | None = None
    failures: int = 0


@dataclass(frozen=True)
class Watched:
    """What a watcher needs to know of a stream, without importing its pipeline's file: `retrain` has the fields of `tasks.spec.Retrain`."""

    name: str
    source: str
    queue: str | None
    retrain: dict[str, Any]
    digest: str
