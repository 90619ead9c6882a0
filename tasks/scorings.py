"""Words of batch scoring: what became of an input, and of all inputs of one call. What they say travels between ledger, flow and command."""

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

Form = Literal["parquet", "csv"]
Outcome = Literal["scored", "known", "refused", "missed"]
FORMS: tuple[Form, ...] = ("parquet", "csv")


@dataclass(frozen=True)
class Pinned:
    """One content that is scored by one model version into one place, as the ledger knows it; `state` is running, done or refused.

    `at` is when it was begun: every row of it says so, also those that are scored after an interruption.
    """

    id: int
    pipeline: str
    sha256: str
    version: int
    output: str
    form: str
    file: str
    at: str
    state: str = "running"
    rows: int = 0
    rejected: int = 0
    reason: str | None = None
    outputs: tuple[str, ...] = ()
    ended_at: str | None = None


@dataclass(frozen=True)
class Scored:
    """What became of one input: scored, known (it was scored before), refused (it cannot be read), or missed (not this time, `reason` says why).

    `rows` is how many rows were read: those predicted and those `rejected`. `outputs` are the addresses of all that was written.
    """

    name: str
    file: str
    outcome: Outcome
    sha256: str | None = None
    version: int | None = None
    rows: int = 0
    rejected: int = 0
    reason: str | None = None
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    at: str | None = None
    seconds: float = 0.0

    @property
    def predicted(self) -> int:
        """How many rows were predicted."""
        return self.rows - self.rejected


@dataclass(frozen=True)
class Batch:
    """What one call of batch scoring came to."""

    pipeline: str
    input: str
    output: str
    version: int | None
    files: tuple[Scored, ...] = ()
    ignored: tuple[str, ...] = ()
    sentence: str = ""

    def count(self, outcome: Outcome) -> int:
        """Count the inputs of one outcome."""
        return sum(file.outcome == outcome for file in self.files)

    @property
    def rows(self) -> int:
        """Rows that were read in this call."""
        return sum(file.rows for file in self.files if file.outcome == "scored")

    @property
    def rejected(self) -> int:
        """Rows of them that break the contract."""
        return sum(file.rejected for file in self.files if file.outcome == "scored")

    def as_dict(self) -> dict[str, Any]:
        """Give the documented JSON form: these fields by name, and the counts."""
        counts = {"rows": self.rows, "predicted": self.rows - self.rejected, "rejected": self.rejected}
        plain: dict[str, Any] = json.loads(json.dumps({**asdict(self), **counts}))
        return plain


def told(files: tuple[Scored, ...], output: str) -> str:
    """Say in a sentence what became of the inputs.

    >>> told((Scored("a.csv", "/in/a.csv", "scored", version=3, rows=10, rejected=1),), "/out")
    '9 rows of 1 file were predicted by version 3 into /out; 1 row was rejected.'
    >>> told((), "/out")
    'There is nothing to score.'
    """
    if not files:
        return "There is nothing to score."
    done = [file for file in files if file.outcome == "scored"]
    rows, rejected = sum(file.predicted for file in done), sum(file.rejected for file in done)
    versions = sorted({file.version for file in done if file.version is not None})
    by = f"version {', '.join(map(str, versions))}"
    said = [f"{_many(rows, 'row')} of {_many(len(done), 'file')} were predicted by {by} into {output}"] if done else []
    said += [f"{_many(rejected, 'row')} {'was' if rejected == 1 else 'were'} rejected"] if rejected else []
    for outcome, words in (("known", "scored before and left"), ("refused", "refused"), ("missed", "not scored this time")):
        count = sum(file.outcome == outcome for file in files)
        said += [f"{_many(count, 'file')} {'was' if count == 1 else 'were'} {words}"] if count else []
    return "; ".join(said) + "."


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
