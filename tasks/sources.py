"""Where data lands, as a user declares it: rows to train on, rows to predict, labels. Part of `tasks.spec`."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks.gates import require


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where data lands and how its files are read.

    `uri` is a directory, a single file or an `s3://bucket/prefix`; without one it is `inbox/<pipeline>` in the home, of labels
    `labels/<pipeline>`. A prefix is taken as a directory is: `s3://data/in` has `in/may.csv` and not `inner/may.csv`. Where an object of exactly
    that key exists, it alone is the source.
    Where S3 tells a queue of its events, `queue` is that SQS queue's URL: arrivals are then seen within a second instead of at the next sweep.
    Files end in .csv, .csv.gz, .parquet, .jsonl or .ndjson; others are ignored. A CSV cell whose whole text is in `null_values` is missing.
    """

    uri: str | None = None
    queue: str | None = None
    separator: str = ","
    null_values: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        require(len(self.separator) == 1, f"Source.separator is {self.separator!r}; expected one character.")
        on_s3 = self.uri is not None and self.uri.startswith("s3://")
        require(self.queue is None or on_s3, "Source.queue tells of objects on S3; give an s3:// uri with it, or leave it out.")


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Rows to predict as they land: an unlabelled `source`, and where the predictions go.

    - `source`: without a `uri` it is `inbox/<pipeline>.scoring` in the home. Target and hindsight may be in its files, and are not looked at.
    - `output`: a directory or `s3://bucket/prefix`; without one it is `scored/<pipeline>` in the home. Nothing in it is ever overwritten:
      a file of an input's predictions is `predictions/<input>-<digest>-<pipeline>-v<version>-<part>.parquet`, one of its rows that break the contract
      has the same name below `rejected`.
    - `on_arrival`: rows that land are predicted by themselves, while `ratchet up` runs; `schedule`: a cron expression in `timezone` for it.
    """

    source: Source
    output: str | None = None
    on_arrival: bool = True
    schedule: str | None = None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        require(
            is_cron(self.schedule),
            f"Scoring.schedule is {self.schedule!r}; expected a cron expression of five fields, for example '0 2 * * *'.",
        )
        require(is_zone(self.timezone), f"Scoring.timezone is {self.timezone!r}; expected a name like 'Europe/Berlin' or 'UTC'.")


def is_cron(text: str | None) -> bool:
    """Tell whether a schedule is left out or has the five fields of cron."""
    return text is None or len(text.split()) == 5


def is_zone(name: str) -> bool:
    """Tell whether a time zone of that name is known."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
