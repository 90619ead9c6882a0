"""What a challenger must meet to take the champion's place, as a user declares it. Part of `tasks.spec`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The rules a challenger must meet on rows that neither it nor the champion was trained on. All of them have to pass.

    Against the champion:
    - `metric`: what is compared; its direction comes with it.
    - `against`: "superior", proven better than the champion by more than `margin`, or "non_inferior", proven to be worse by less than `margin`.
    - `no_evidence`: what happens if neither that nor the opposite is proven: "keep" the champion, "promote" all the same (then only a proven
      failure keeps the champion), or "hold" for a person to decide.
    - `alpha`, `per`: the error budget. The probability that any challenger is promoted, without what `against` asks for being true, stays below
      `alpha` in a "year", or in that many decisions; after those, nothing is promoted until a fresh `golden` set is given.
    - `golden`: a file of trusted rows that no arrival can touch; the challenger must not be proven worse on it by more than `margin`.
    - `slice_tolerance`: no declared slice of at least `min_slice_rows` may be proven worse than the champion by more; None: slices are only shown.
    - `max_changed`: greatest share of rows that are predicted otherwise than by the champion.

    Absolute: `bound` of the metric and `bounds` of others (floors, or ceilings where lower is better, as calibration_error); `beat_baselines`.
    - `too_good`: if the challenger's error is below this share of the best baseline's, a leak is suspected and a person has to decide.

    Data: `min_rows` unseen, `min_train_rows`; `label_rate`, the least and the greatest share of positive labels;
    `max_quarantine_share` of the rows that came since the last training; `max_drift` of any feature between the champion's training rows and the unseen ones
    (largest difference of a value's share, or of a decile's: 0 to 1).

    Cost: `max_fit_seconds`, `max_artifact_mb`, and of the serving probe `max_memory_mb` and `max_latency_ms`: the 99th percentile over one-row
    requests, each timed at its fastest of five, so that it is the model's and not of what else the machine does.

    Publishing:
    - `serve`: "refit", the recipe that passed, fitted anew on all rows, or "tested", the very model that was tested.
    - `max_refit_change`: greatest share of unseen rows that the refitted model may predict otherwise than its tested twin.
    - `approval`: "automatic" or "manual"; manual holds what passed until somebody says `ratchet approve` (or answers in Prefect).
    - `moved_alias`: what to do if the registry's alias is not the ledger's champion: "restore" it, or "hold" all promotions until it is put right.
    - `confidence`: of the intervals that are shown.
    """

    metric: str
    against: Literal["superior", "non_inferior"] = "superior"
    margin: float = 0.0
    no_evidence: Literal["keep", "promote", "hold"] = "keep"
    alpha: float = 0.05
    per: Literal["year"] | int = "year"
    golden: str | None = None
    slice_tolerance: float | None = 0.0
    min_slice_rows: int = 50
    max_changed: float | None = None
    bound: float | None = None
    bounds: Mapping[str, float] = field(default_factory=dict)
    beat_baselines: bool = True
    too_good: float | None = 0.01
    min_rows: int = 200
    min_train_rows: int = 200
    label_rate: tuple[float, float] | None = None
    max_quarantine_share: float | None = None
    max_drift: float | None = None
    max_fit_seconds: float | None = None
    max_artifact_mb: float | None = None
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None
    serve: Literal["refit", "tested"] = "refit"
    max_refit_change: float = 0.2
    approval: Literal["automatic", "manual"] = "automatic"
    moved_alias: Literal["restore", "hold"] = "restore"
    confidence: float = 0.95

    def __post_init__(self) -> None:
        self._check_choices()
        self._check_ranges()
        require(
            self.metric not in self.bounds, f"Gate.bounds has {self.metric!r}, the gate's own metric; say it once, as bound={self.bound}."
        )
        require(
            self.against == "superior" or self.margin > 0,
            "Gate(against='non_inferior') needs a margin above 0: how much worse than the champion is still good enough.",
        )
        require(
            self.no_evidence == "keep" or self.approval == "automatic",
            f"Gate(approval='manual', no_evidence={self.no_evidence!r}) contradict each other: every promotion waits for a person already.",
        )

    def _check_choices(self) -> None:
        choices: dict[str, tuple[str, ...]] = {
            "against": ("superior", "non_inferior"),
            "no_evidence": ("keep", "promote", "hold"),
            "serve": ("refit", "tested"),
            "approval": ("automatic", "manual"),
            "moved_alias": ("restore", "hold"),
        }
        for name, known in choices.items():
            found = getattr(self, name)
            require(found in known, f"Gate.{name} is {found!r}; expected one of {', '.join(map(repr, known))}.")
        horizon = self.per == "year" or (isinstance(self.per, int) and not isinstance(self.per, bool) and self.per > 0)
        require(horizon, f"Gate.per is {self.per!r}; expected 'year' or a number of decisions.")

    def _check_ranges(self) -> None:
        positive("Gate", min_rows=self.min_rows, min_train_rows=self.min_train_rows, min_slice_rows=self.min_slice_rows)
        positive("Gate", max_fit_seconds=self.max_fit_seconds, max_artifact_mb=self.max_artifact_mb)
        positive("Gate", max_latency_ms=self.max_latency_ms, max_memory_mb=self.max_memory_mb)
        require(0.5 <= self.confidence < 1, f"Gate.confidence is {self.confidence}; expected at least 0.5 and less than 1.")
        require(0 < self.alpha < 0.5, f"Gate.alpha is {self.alpha}; expected more than 0 and less than 0.5.")
        require(
            self.margin >= 0,
            f"Gate.margin is {self.margin}; expected 0 or more. For 'not worse by more than that' write against='non_inferior', margin={-self.margin}.",
        )
        named = {"slice_tolerance": self.slice_tolerance, "margin": self.margin, "bound": self.bound, **self.bounds}
        for name, value in named.items():
            require(value is None or math.isfinite(value), f"Gate.{name} is {value}; expected a finite number.")
        require(
            self.slice_tolerance is None or self.slice_tolerance >= 0,
            f"Gate.slice_tolerance is {self.slice_tolerance}; expected 0 or more.",
        )
        shares = {
            name: getattr(self, name) for name in ("max_changed", "max_quarantine_share", "max_drift", "too_good", "max_refit_change")
        }
        for name, share in shares.items():
            require(share is None or 0 <= share <= 1, f"Gate.{name} is {share}; expected a share from 0 to 1.")
        low, high = self.label_rate or (0.0, 1.0)
        require(0 <= low < high <= 1, f"Gate.label_rate is {self.label_rate}; expected (least, greatest), shares from 0 to 1.")


def positive(owner: str, **values: float | None) -> None:
    """Refuse a value that is given and not above 0."""
    for name, value in values.items():
        require(value is None or value > 0, f"{owner}.{name} is {value}; expected more than 0.")


def require(holds: bool, otherwise: str) -> None:
    """Refuse what a user declared, and say why.

    Raises:
        ValueError: if it does not hold.
    """
    if not holds:
        raise ValueError(otherwise)
