"""A decision with everything a report can tell, made by hand, and ways to look at what was set from it."""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
from markdown_it import MarkdownIt

from tasks import frames
from tasks.document import Mark, Paragraph, Table
from tasks.evidence import Budget, Difference, Evaluation, Probe, Rule, Scores
from tasks.facts import Facts
from tasks.records import Champion, Decision, Prepared, Snapshot
from tasks.spec import Pipeline

VOID = {"meta", "br", "hr", "img", "input", "link"}


def difference(metric: str, improvement: float | None = 0.02, low: float | None = 0.01, high: float | None = 0.03) -> Difference:
    return Difference(metric, improvement, low, high, 0.95, "paired bootstrap", 0.001, low, high)


EVALUATION = Evaluation(
    rows=1344,
    first="2024-01-01T00:00:00",
    last="2024-01-28T23:30:00",
    challenger=Scores(
        "boosting", {"log_loss": 0.41, "roc_auc": 0.9, "f1": None}, {"weekend": {"log_loss": 0.4}, "rare": {"log_loss": None}}
    ),
    champion=Scores(
        "version 2", {"log_loss": 0.43, "roc_auc": 0.89, "f1": 0.8}, {"weekend": {"log_loss": 0.39}, "rare": {"log_loss": 0.5}}
    ),
    baselines=(Scores("majority", {"log_loss": 0.69, "roc_auc": 0.5, "f1": None}),),
    references=(Scores("previous_row", {"log_loss": 0.5, "roc_auc": 0.7, "f1": 0.7}),),
    difference=difference("log_loss"),
    slice_rows={"weekend": 384, "rare": 3},
    predictions="/gone/predictions.arrow",
    metric="log_loss",
    training={"log_loss": 0.3, "roc_auc": 0.95, "f1": 0.9},
    differences={
        "roc_auc": difference("roc_auc", 0.01, -0.01, 0.03),
        "log_loss": difference("log_loss"),
        "f1": difference("f1", None, None, None),
    },
    slice_differences={"weekend": difference("log_loss", -0.01, -0.015, -0.005)},
    changed=0.123,
    golden=difference("log_loss", 0.001, -0.01, 0.012),
)
RULES = (
    Rule("beats_champion", True, 0.01, 0.0, "log_loss 0.41 against champion 2's 0.43: better beyond doubt"),
    Rule("slice_weekend", False, -0.01, 0.0, "on weekend log_loss 0.4 is worse than the champion's 0.39"),
    Rule("too_good", False, 0.001, 0.01, "the error is suspiciously small", holds=True),
)
DECISION = Decision(
    pipeline="electricity",
    cycle=4,
    verdict="keep",
    sentence="Champion 2 stays. Not promoted is boosting: on weekend log_loss 0.4 is worse than the champion's 0.39.",
    rules=RULES,
    trigger="arrival",
    challenger="boosting",
    params={"max_iter": 100},
    champion=2,
    previous=2,
    evaluation=EVALUATION,
    probe=Probe((Rule("probe_loads", True, 1.0, None, "it loads in a fresh process"),), 225, 1.2, 2.4, 210.0, 0.8, 0.6, 1.9),
    budget=Budget(0.05, "year", "stream", 0.001, 0.004, 0.045, 3, "0.045 of 0.05 is left this year."),
    snapshot=Snapshot("s3://lake/electricity/rows", 7, 12000, "2023-06-01", "2024-01-28", "ab" * 32),
    arrivals=("part-003.csv", "part-004.csv"),
    accepted=950,
    rejected=50,
    notes=("part-003.csv has rows in quarantine: price above 1.",),
    mlflow_run="run-1",
    mlflow_url="http://127.0.0.1:5000/#/experiments/1/runs/run-1",
    prefect_run="flow-1",
    prefect_url="http://127.0.0.1:4200/runs/flow-run/flow-1",
    at="2024-01-29T03:00:00+00:00",
    seconds=4.2,
)
CHAMPION = Champion(
    "electricity", 2, "models:/m-2", "cd" * 32, 2, "forest", {}, "2024", 3, "2024-01-15T03:00:00", how="approved", who="Ada"
)
DETAILS: dict[str, Any] = {
    "kind": "binary",
    "seconds": 1.5,
    "params": {"gate": "Gate(metric='log_loss')", "seed": "0"},
    "code": {"git_commit": "0123abcd", "lock_sha256": "ef" * 32},
    "positive": "UP",
    "features": {"period": "float64", "weekday": "float64"},
    "target": {"name": "class", "training": {"UP": 0.4, "all others": 0.6}, "unseen": {"UP": 0.45, "all others": 0.55}},
    "drift": {"period": 0.01, "weekday": 0.25},
    "effects": [{"feature": "period", "mean": 0.1, "deviation": 0.01}, {"feature": "weekday", "mean": -0.001, "deviation": 0.002}],
}
FACTS = Facts(DECISION, DETAILS, CHAMPION, None, (Paragraph("curves"), Table(("true", "0"), (("0", "7"),))))
MARK = Mark("x", 1.0, "1")


def around(value: Any, payload: str) -> Any:
    """Put the payload around every text in a value, keys of mappings included; words of our own that stand for a choice stay."""
    if isinstance(value, str):
        return f"{payload}{value}{payload}"
    if is_dataclass(value) and not isinstance(value, type):
        chosen = {part.name: getattr(value, part.name) for part in fields(value) if part.name not in ("verdict", "served", "how")}
        return replace(value, **{name: around(part, payload) for name, part in chosen.items()})
    if isinstance(value, dict):
        return {around(name, payload): around(part, payload) for name, part in value.items()}
    return type(value)(around(part, payload) for part in value) if isinstance(value, list | tuple) else value


def hostile(payload: str) -> Facts:
    """Give the facts with the payload around every text that data or users can have a say in: names, labels, sentences, addresses, errors."""
    target, code = DETAILS["target"], DETAILS["code"]
    details = DETAILS | {name: around(DETAILS[name], payload) for name in ("positive", "features", "drift")}
    details["code"] = {name: around(value, payload) for name, value in code.items()}
    details["params"] = {name: around(value, payload) for name, value in DETAILS["params"].items()}
    details["target"] = {name: around(value, payload) for name, value in target.items()}
    details["effects"] = [one | {"feature": around(one["feature"], payload)} for one in DETAILS["effects"]]
    champion = around(CHAMPION, payload)
    return Facts(around(DECISION, payload), details, champion, champion, around(FACTS.curves, payload))


def staged(pipeline: Pipeline, rows: pl.DataFrame, train: int, into: Path) -> Prepared:
    """Stage rows as the feature step does."""
    made = frames.apply_features(pipeline.features, frames.to_pandas(rows.select(frames.known_in_time(pipeline))), pipeline.name)
    target = frames.target_of(pipeline, rows)
    pl.from_pandas(made, nan_to_null=False).with_columns(target.alias("_target")).write_ipc(
        into / "features.arrow", compression="uncompressed"
    )
    columns = {str(name): str(dtype) for name, dtype in made.dtypes.items()}
    snapshot = Snapshot("lake", 1, rows.height, None, None, "ab" * 32)
    return Prepared(snapshot, str(into / "features.arrow"), "", columns, train, rows.height - train, (), (), (), None, None)


@dataclass
class Seen(HTMLParser):
    """What a parser makes of a page: elements with their attributes, in order, and the text of each kind of element."""

    elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"comment {data}")


def seen(page: str) -> Seen:
    """Parse a page."""
    found = Seen()
    found.feed(page)
    found.close()
    return found


def rendered(markdown: str) -> Seen:
    """Render markdown as a viewer does that lets HTML through (CommonMark with tables and strikethrough), and parse that."""
    return seen(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))
