"""What steps tell each other: small frozen records of URIs, digests, counts and scores, never frames.

`RECORD_VERSION` is stored with every decision. To change a record's meaning: raise it, keep a reader of the old form in
`stores/ledger.py`, and add a test that reads a stored old record. Adding a field with a default needs no new version.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tasks.evidence import Budget, Evaluation, Probe, Rule, Verdict, budget_from, evaluation_from, probe_from, rules_from

RECORD_VERSION = 1

Served = Literal["refit", "tested"]
How = Literal["promoted", "approved", "rolled back"]
ArrivalState = Literal["pending", "ingested", "quarantined", "duplicate"]


@dataclass(frozen=True)
class Look:
    """What a listing says of one file: `stamp` changes whenever its bytes may have."""

    name: str
    uri: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Arrival:
    """One version of one file at the source. `seq` is its place in the order of arrival; `id` is stable over ledgers."""

    seq: int
    id: str
    name: str
    uri: str
    sha256: str
    size: int
    stamp: str
    state: ArrivalState = "pending"
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    reason: str | None = None
    seen_at: str | None = None
    cycle: int | None = None
    duplicate_of: int | None = None
    superseded: bool = False


@dataclass(frozen=True)
class Observation:
    """One look at a source: what is new, what still changes, what is ignored and why (`ignored` names the first 20 of `ignored_files`).

    `unread` says of files that could not be read this time, by their addresses, what kept them from it (of the first 20); the next look tries again.
    """

    files: int
    recorded: tuple[Arrival, ...]
    settling: tuple[Look, ...]
    ignored: tuple[str, ...]
    ignored_files: int = 0
    unread: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Staged:
    """One arrival's rows after the contract: Arrow files of good and of bad rows, or the reason why the whole file is quarantined.

    One that was `missed` could not be read this time, through no fault of its content: nothing of it is staged, and it is tried again,
    unless it is `gone` from the source.
    """

    arrival: Arrival
    good: str | None
    bad: str | None
    accepted: int
    rejected: int
    reason: str | None = None
    notes: tuple[str, ...] = ()
    missed: str | None = None
    gone: bool = False


@dataclass(frozen=True)
class Cleaned:
    """What became of a batch of arrivals: rows added to the lake, set aside with a reason, and dropped as repeats."""

    version: int
    arrivals: tuple[Arrival, ...]
    imputed: dict[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        return sum(arrival.accepted for arrival in self.arrivals)

    @property
    def rejected(self) -> int:
        return sum(arrival.rejected for arrival in self.arrivals)

    @property
    def repeated(self) -> int:
        return sum(arrival.repeated for arrival in self.arrivals)


@dataclass(frozen=True)
class Snapshot:
    """Exactly what a model was trained on: a version of the lake's rows, a window, and the digest of that content."""

    uri: str
    version: int
    rows: int
    first: str | None
    last: str | None
    digest: str


@dataclass(frozen=True)
class Prepared:
    """The snapshot's features, staged: rows before `cut` may be trained on, the `unseen` ones after it are newer than any training.

    `reused` of the unseen ones were used by the decisions of the cycles `reused_by` already.
    """

    snapshot: Snapshot
    features: str
    raw: str
    columns: dict[str, str]
    train: int
    unseen: int
    classes: tuple[Any, ...]
    train_classes: tuple[Any, ...]
    unseen_classes: tuple[Any, ...]
    trained_until: str | None
    cut: str | None
    reused: int = 0
    reused_by: tuple[int, ...] = ()


@dataclass(frozen=True)
class Compared:
    """The rows that a cycle's decision rests on, by the order of its first and its last one, as records keep it."""

    cycle: int
    first: str
    last: str


@dataclass(frozen=True)
class Trial:
    """One setting of one candidate: fitted on the older training rows and scored, by the gate's metric, on the newer ones."""

    candidate: str
    number: int
    params: dict[str, Any]
    score: float | None
    seconds: float
    run: str


@dataclass(frozen=True)
class Fitted:
    """A candidate's setting fitted on the first `rows` rows of the features, and staged as a file."""

    candidate: str
    params: dict[str, Any]
    uri: str
    rows: int
    seconds: float
    threads: int


@dataclass(frozen=True)
class Champion:
    """A model version that is or was in service, as the ledger knows it: since when, `how` it came there, and by `who`m if by a person.

    After a rollback only rows newer than `evidence_after` count as evidence against it: the demoted version had its say on the others.
    """

    pipeline: str
    version: int
    model_uri: str
    sha256: str
    cycle: int
    candidate: str
    params: dict[str, Any]
    trained_until: str | None
    trained_version: int
    since: str
    until: str | None = None
    reason: str | None = None
    served: Served = "refit"
    how: How = "promoted"
    who: str | None = None
    evidence_after: str | None = None


@dataclass(frozen=True)
class Registered:
    """A version in the model registry and the digest of its artifact."""

    version: int
    model_uri: str
    sha256: str


@dataclass(frozen=True)
class Decision:
    """How a cycle ended, and why. One for every cycle, kept for ever.

    `proposed` is the version that a decision to hold waits with; `served` says which of two models the version is: the one that was tested,
    or its twin that was fitted on all rows, the unseen ones included. `registry` says what was found wrong with the registry's alias.
    """

    pipeline: str
    cycle: int
    verdict: Verdict
    sentence: str
    rules: tuple[Rule, ...] = ()
    trigger: str = "manual"
    challenger: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    champion: int | None = None
    previous: int | None = None
    evaluation: Evaluation | None = None
    probe: Probe | None = None
    budget: Budget | None = None
    proposed: int | None = None
    served: Served | None = None
    snapshot: Snapshot | None = None
    arrivals: tuple[str, ...] = ()
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    notes: tuple[str, ...] = ()
    mlflow_run: str | None = None
    mlflow_url: str | None = None
    prefect_run: str | None = None
    prefect_url: str | None = None
    at: str | None = None
    seconds: float | None = None
    registry: str | None = None

    @property
    def quarantine_share(self) -> float | None:
        """The share of this cycle's rows that broke the contract; None if none came."""
        rows = self.accepted + self.rejected + self.repeated
        return self.rejected / rows if rows else None

    def as_dict(self) -> dict[str, Any]:
        """Give the documented JSON form: these fields by name, with `record_version`."""
        plain: dict[str, Any] = json.loads(json.dumps({"record_version": RECORD_VERSION, **asdict(self)}))
        return plain

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "Decision":
        """Read the JSON form back; fields that a later version added are left out."""
        nested: dict[str, Callable[[Any], Any]] = {
            "rules": rules_from,
            "evaluation": evaluation_from,
            "snapshot": _snapshot,
            "probe": probe_from,
            "budget": budget_from,
        }
        known = {name: stored[name] for name in cls.__dataclass_fields__ if name in stored}
        lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**{**known, **lists, **{name: read(known[name]) for name, read in nested.items() if known.get(name)}})


def _snapshot(stored: dict[str, Any]) -> Snapshot:
    return Snapshot(**stored)
