"""What a decision rests on: scores, differences with their intervals, what the serving probe found, and the rules laid to them.

Small frozen records, part of every stored decision; see `tasks.records` for how their meaning may change.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["promote", "keep", "hold", "skip"]


@dataclass(frozen=True)
class Scores:
    """One model's metrics on the unseen rows; None is a metric that cannot be computed there."""

    model: str
    metrics: dict[str, float | None]
    slices: dict[str, dict[str, float | None]] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """How much better the challenger is than the champion on the same rows (positive is better, whatever the metric's direction).

    `low` and `high` are the ends of the two-sided interval at `confidence`, to be shown. `proven_low` and `proven_high` are the one-sided
    bounds at level `alpha`, which the gate decides by: with probability 1 - alpha the true difference is above `proven_low`,
    and with the same it is below `proven_high`. None is a figure that cannot be computed.
    """

    metric: str
    improvement: float | None
    low: float | None
    high: float | None
    confidence: float
    method: str
    alpha: float | None = None
    proven_low: float | None = None
    proven_high: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Champion, challenger and baselines on the same unseen rows; `metric` is the gate's,
    `training` is how the challenger does on what it was fitted on.

    `differences` are those of every metric, `slice_differences` those of the gate's metric on each slice, at levels that hold for all slices
    together. `changed` is the share of rows that the challenger predicts otherwise than the champion (for a regression: by more than a tenth of the
    target's spread). `golden` is the difference on the trusted golden set. `reused` of the rows were used by the decisions of the cycles `reused_by`
    already, as far as their times tell; None where that was not counted.
    """

    rows: int
    first: str | None
    last: str | None
    challenger: Scores
    champion: Scores | None
    baselines: tuple[Scores, ...]
    references: tuple[Scores, ...]
    difference: Difference | None
    slice_rows: dict[str, int]
    predictions: str
    metric: str = ""
    training: dict[str, float | None] = field(default_factory=dict)
    champion_error: str | None = None
    differences: dict[str, Difference] = field(default_factory=dict)
    slice_differences: dict[str, Difference] = field(default_factory=dict)
    changed: float | None = None
    golden: Difference | None = None
    golden_error: str | None = None
    reused: int | None = None
    reused_by: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule of the gate: its figure, the bound it was held against, and a sentence a person understands.

    One that did not pass and `holds` does not keep the challenger out: a person has to say what becomes of it.
    """

    name: str
    passed: bool
    figure: float | None
    bound: float | None
    sentence: str
    holds: bool = False


@dataclass(frozen=True)
class Probe:
    """What the stored model did in a fresh process with the serving environment: its rules, one-row latencies, peak memory and size."""

    rules: tuple[Rule, ...]
    requests: int
    p50_ms: float | None
    p99_ms: float | None
    memory_mb: float | None
    load_seconds: float | None
    artifact_mb: float | None
    seconds: float


@dataclass(frozen=True)
class Budget:
    """The error budget as one decision found it: what it was allowed to spend, what earlier ones had spent and what is left after it.

    `evidence` is what the budget belongs to: "stream", or the digest of the golden set.
    """

    alpha: float
    per: str
    evidence: str
    allowed: float
    spent: float
    left: float
    decisions: int
    sentence: str


def rules_from(stored: list[dict[str, Any]]) -> tuple[Rule, ...]:
    """Read rules back from their JSON form."""
    return tuple(Rule(**rule) for rule in stored)


def probe_from(stored: dict[str, Any]) -> Probe:
    """Read a probe back from its JSON form."""
    return Probe(**{**stored, "rules": rules_from(stored["rules"])})


def budget_from(stored: dict[str, Any]) -> Budget:
    """Read a budget back from its JSON form."""
    return Budget(**stored)


def evaluation_from(stored: dict[str, Any]) -> Evaluation:
    """Read an evaluation back from its JSON form; what was added later has its default."""

    def scores(found: list[dict[str, Any]]) -> tuple[Scores, ...]:
        return tuple(Scores(**one) for one in found)

    def differences(name: str) -> dict[str, Difference]:
        return {key: Difference(**value) for key, value in stored.get(name, {}).items()}

    def difference(name: str) -> Difference | None:
        return Difference(**stored[name]) if stored.get(name) else None

    parts = {
        "challenger": Scores(**stored["challenger"]),
        "champion": Scores(**stored["champion"]) if stored["champion"] else None,
        "baselines": scores(stored["baselines"]),
        "references": scores(stored["references"]),
        "difference": difference("difference"),
        "golden": difference("golden"),
        "differences": differences("differences"),
        "slice_differences": differences("slice_differences"),
        "reused_by": tuple(stored.get("reused_by", ())),
    }
    return Evaluation(**{**stored, **parts})
