"""What a user writes: one `Pipeline` in one file. Frozen, and a key that does not exist is refused.

A pipeline file needs this module, pandas, scikit-learn and pandera, and nothing else of Ratchet.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import pandas as pd

from tasks.gates import Gate, positive, require
from tasks.services import Rollout, Serving
from tasks.sources import Scoring, Source, is_cron, is_zone

__all__ = ["Candidate", "Gate", "Holdout", "Kind", "Pipeline", "Retrain", "Rollout", "Scoring", "Serving", "Slice", "Source", "Window"]

Kind = Literal["binary", "multiclass", "regression"]
KINDS: tuple[Kind, ...] = ("binary", "multiclass", "regression")


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which rows of the lake a snapshot holds: the newest `days` or the newest `rows`, or all of them."""

    days: float | None = None
    rows: int | None = None

    def __post_init__(self) -> None:
        require(self.days is None or self.rows is None, "Window takes days or rows, not both; leave one out.")
        positive("Window", days=self.days, rows=self.rows)


@dataclass(frozen=True, kw_only=True)
class Holdout:
    """Which newest rows of the snapshot no candidate is trained on: the last `days`, `rows` or `share` of them."""

    days: float | None = None
    rows: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        given = [value for value in (self.days, self.rows, self.share) if value is not None]
        require(len(given) == 1, "Holdout takes exactly one of days, rows and share, for example Holdout(days=28).")
        positive("Holdout", days=self.days, rows=self.rows, share=self.share)
        require(self.share is None or self.share < 1, f"Holdout.share is {self.share}; expected less than 1.")

    @property
    def span(self) -> timedelta | None:
        """Length in time, where it was given in days."""
        return None if self.days is None else timedelta(days=self.days)


@dataclass(frozen=True)
class Candidate:
    """An unfitted scikit-learn estimator to try.

    With a `search` (parameter name to the values to try), `trials` settings are drawn and the best on the newest part of the
    training rows is fitted on all of them. A name of the estimator's parameters is written as in `set_params`.

    A regression's estimator may have a method `predict_interval(features)` that gives the lower and the upper end of each row, shape (rows, 2):
    they are answered, logged and written beside each prediction as `low` and `high`.
    """

    name: str
    estimator: Any
    search: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    trials: int = 0

    def __post_init__(self) -> None:
        require(self.name.isidentifier(), f"Candidate name {self.name!r} is no identifier; use letters, digits and underscores.")
        for method in ("fit", "predict", "get_params", "set_params"):
            require(
                hasattr(self.estimator, method),
                f"Candidate {self.name!r}: {self.estimator!r} has no {method}(); expected a scikit-learn estimator, unfitted.",
            )
        unknown = sorted(set(self.search) - set(self.estimator.get_params()))
        require(not unknown, f"Candidate {self.name!r}: search names {unknown}, which the estimator does not have; see get_params().")
        require(bool(self.search) == (self.trials > 0), f"Candidate {self.name!r}: give search and trials together, or neither.")
        empty = sorted(name for name, values in self.search.items() if len(values) == 0)
        require(not empty, f"Candidate {self.name!r}: search has no values for {empty}.")


@dataclass(frozen=True)
class Slice:
    """A named part of the rows that is scored by itself: those where `where(raw frame)` is true."""

    name: str
    where: Callable[[pd.DataFrame], "pd.Series[bool]"]


@dataclass(frozen=True, kw_only=True)
class Retrain:
    """When to run a cycle by itself, while `ratchet up` runs. A cycle takes everything that is outstanding, however it was started.

    - `on_arrival`: data that lands starts a cycle; what follows here, up to `max_per_day`, says when.
    - `min_arrivals`: fewest outstanding arrivals; with fewer than `min_rows` new rows a cycle takes them in, and trains nothing.
    - `debounce`: seconds without a new arrival before the cycle starts, but never more than `debounce_limit` after the first one.
    - `min_interval`: seconds between the starts of two cycles that arrivals started; `max_per_day`: most of those in a day of `timezone`.
    - `time_limit`: seconds after which a cycle that has not ended is ended; the next one finishes what it left.
    - `schedule`: a cron expression in `timezone` that starts a cycle, whatever has landed.
    """

    on_arrival: bool = True
    min_arrivals: int = 1
    min_rows: int = 1
    debounce: float = 0.0
    debounce_limit: float = 600.0
    min_interval: float = 0.0
    max_per_day: int | None = None
    time_limit: float = 14_400.0
    schedule: str | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        limits = {"max_per_day": self.max_per_day, "time_limit": self.time_limit}
        positive("Retrain", min_rows=self.min_rows, min_arrivals=self.min_arrivals, **limits)
        for name, value in {"debounce": self.debounce, "min_interval": self.min_interval}.items():
            require(value >= 0, f"Retrain.{name} is {value}; expected 0 seconds or more.")
        require(
            self.debounce <= self.debounce_limit,
            f"Retrain.debounce is {self.debounce} s, more than debounce_limit ({self.debounce_limit} s); raise the limit.",
        )
        require(
            is_cron(self.schedule),
            f"Retrain.schedule is {self.schedule!r}; expected a cron expression of five fields, for example '0 2 * * *'.",
        )
        require(is_zone(self.timezone), f"Retrain.timezone is {self.timezone!r}; expected a name like 'Europe/Berlin' or 'UTC'.")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One model's whole definition.

    - `contract`: a `pandera.polars.DataFrameModel` that every raw row must meet.
    - `target`: the column to predict; `hindsight`: columns known only afterwards, which `features` never gets to see.
    - `time`: the column that orders the rows (without it they are ordered as they arrived, a rewritten file as newly arrived); `key`: columns that name a row.
    - `features`: a pure function from raw rows (a pandas frame without target and hindsight) to model inputs, row by row.
    - `impute`: column to the constant that stands for a missing value; anything that is fitted belongs in a candidate.
    - `label_lag`: how many rows back the newest label is that is known when a row is predicted; where rows are ordered by `time`,
      "the label of that row" is a baseline (with hourly rows and labels that arrive a day late, 24).
    - `positive`: the label that counts as 1 where `kind` is binary.
    - `serving`: how the champion answers online; `scoring`: a source of rows to predict as they land; `labels`: a source of labels that come later,
      files with the columns of `key` (or else `time`) and the target, which are joined to what was predicted.
    - `blocks`: which rows may be alike, so that an interval must not take them for independent: "time" (rows that follow each other), "rows" (none:
      every row is a draw of its own) or the columns that name an entity (all rows of a customer, say, are one draw).
    """

    name: str
    kind: Kind
    contract: Any
    target: str
    features: Callable[[pd.DataFrame], pd.DataFrame]
    candidates: Sequence[Candidate]
    holdout: Holdout
    gate: Gate
    time: str | None = None
    key: tuple[str, ...] = ()
    hindsight: tuple[str, ...] = ()
    impute: Mapping[str, Any] = field(default_factory=dict)
    slices: tuple[str | Slice, ...] = ()
    positive: Any = None
    label_lag: int = 1
    blocks: Literal["time", "rows"] | tuple[str, ...] = "time"
    window: Window = field(default_factory=Window)
    source: Source = field(default_factory=Source)
    retrain: Retrain = field(default_factory=Retrain)
    serving: Serving = field(default_factory=Serving)
    scoring: Scoring | None = None
    labels: Source | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.name.isidentifier(), f"Pipeline name {self.name!r} is no identifier; name it like its file.")
        require(self.kind in KINDS, f"Pipeline.kind is {self.kind!r}; expected one of {', '.join(KINDS)}.")
        require(bool(self.candidates), "Pipeline.candidates is empty; give at least one Candidate.")
        positive("Pipeline", label_lag=self.label_lag)
        fits = self.blocks in ("time", "rows") or (isinstance(self.blocks, tuple) and len(self.blocks) > 0)
        require(fits, f"Pipeline.blocks is {self.blocks!r}; expected 'time', 'rows' or the columns that name an entity, as ('customer',).")
        names = [candidate.name for candidate in self.candidates]
        require(len(set(names)) == len(names), f"Pipeline.candidates has a name twice: {names}.")
        require(
            (self.positive is not None) == (self.kind == "binary"),
            "Pipeline.positive names the label that counts as 1: give it when kind is 'binary', and only then.",
        )
        self._check_columns()

    def _check_columns(self) -> None:
        known = list(self.contract.to_schema().columns)
        named = {
            "target": (self.target,),
            "time": (self.time,) if self.time else (),
            "key": self.key,
            "hindsight": self.hindsight,
            "impute": tuple(self.impute),
            "blocks": self.blocks if isinstance(self.blocks, tuple) else (),
            "serving.private": self.serving.private,
            "serving.sticky": self.serving.rollout.sticky if self.serving.rollout else (),
            "slices": tuple(part for part in self.slices if isinstance(part, str)),
        }
        for what, columns in named.items():
            missing = [column for column in columns if column not in known]
            require(not missing, f"Pipeline.{what} names {missing}, which the contract does not have; it has {known}.")
        order = str(self.contract.to_schema().columns[self.time].dtype) if self.time else "Int64"
        require(
            order.startswith(("Int64", "Date")),
            f"Pipeline.time is {self.time!r} of type {order}; rows are ordered by an int, a date or a datetime.",
        )
        spans = self.holdout.days is not None or self.window.days is not None
        require(
            self.time is not None or not spans, "Holdout(days=...) and Window(days=...) need Pipeline.time; give it, or use rows or share."
        )
        require(self.labels is None or bool(self.key or self.time), "Pipeline.labels are joined by key or time; give one of them.")
        reserved = [column for column in known if column.startswith("_")]
        require(not reserved, f"The contract names {reserved}; names that begin with an underscore are Ratchet's own.")
        require(
            self.target not in (self.time, *self.hindsight),
            "Pipeline.target is listed as time or hindsight too; the target is left out of features by itself.",
        )
        require(self.time not in self.hindsight, "Pipeline.time is listed in hindsight; features may need it, and rows are ordered by it.")
