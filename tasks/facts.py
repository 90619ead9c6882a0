"""What a report and a model card are told from: the decision and what stands beside it, and how figures and names are put in words."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.document import Block, Cell, Table
from tasks.evidence import Difference, Rule
from tasks.records import Champion, Decision

_RULES = {
    "defined": "the metric can be computed",
    "bound": "bound of the gate's metric",
    "evaluation": "it can be compared",
    "beats_champion": "better than the champion",
    "budget": "within the error budget",
    "changed": "predicts like the champion",
    "refit_change": "predicts like its tested twin",
    "too_good": "not too good to be true",
    "label_rate": "share of positive labels",
    "quarantine_share": "share of rows in quarantine",
    "drift": "inputs have not moved too far",
    "fit_seconds": "quick enough to fit",
    "alias": "the alias is where it belongs",
    "approval": "approved by a person",
    "training_rows": "enough rows to train on",
    "unseen_rows": "enough unseen rows",
    "training_classes": "enough classes in the training rows",
    "known_classes": "no class is new",
    "golden": "not worse on the golden set",
    "probe_loads": "loads in a fresh process",
    "probe_same_as_trained": "predicts what the trained model does",
    "probe_one_by_one": "one row alone is predicted as in a batch",
    "probe_any_order": "the order of the rows does not matter",
    "probe_finite": "all predictions are finite",
    "probe_schema": "columns are as signed",
    "probe_edge_rows": "answers for missing and unseen values",
    "latency": "quick enough for one row",
    "memory": "small enough in memory",
    "artifact_size": "small enough on disk",
}
_BEFORE = {"beats_": "better than baseline ", "slice_": "not worse on slice ", "bound_": "bound of "}


@dataclass(frozen=True)
class Facts:
    """A decision, the `details` that were kept with it (see `tasks.report.details`; old ones have fewer), the `champion` it was made against,
    the version that it put in `service`, and, where the predictions are still at hand, the `curves` drawn from them.
    """

    decision: Decision
    details: Mapping[str, Any] = field(default_factory=dict)
    champion: Champion | None = None
    served: Champion | None = None
    curves: tuple[Block, ...] = ()


def shown(value: float | None) -> str:
    """Write a figure for people: four digits, and all of them before the point.

    >>> shown(0.123456), shown(34.75), shown(12345.6), shown(200.0), shown(None)
    ('0.1235', '34.75', '12,346', '200', 'undefined')
    """
    if value is None or not math.isfinite(value):
        return "undefined"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value + 0.0:.4g}"  # what is -0.0 becomes 0.0


def share(value: float | None) -> str:
    """Write a share as per cent.

    >>> share(0.1234)
    '12.3 %'
    """
    return "undefined" if value is None else f"{round(100 * value, 1):g} %"


def interval(found: Difference) -> str:
    """Write a difference with its interval and what that says.

    >>> interval(Difference("mae", 0.25, 0.1, 0.4, 0.95, "t"))
    '+0.25 [+0.1, +0.4], better'
    """
    if found.improvement is None:
        return "undefined"
    if found.low is None or found.high is None:
        return f"{signed(found.improvement)}, interval undefined"
    word = "better" if found.low > 0 else "worse" if found.high < 0 else "could be either"
    return f"{signed(found.improvement)} [{signed(found.low)}, {signed(found.high)}], {word}"


def signed(value: float) -> str:
    """Write a figure with its sign.

    >>> signed(0.5), signed(-0.25), signed(0.0)
    ('+0.5', '-0.25', '0')
    """
    return f"+{shown(value)}" if value > 0 else shown(value)


def rule_in_words(name: str) -> str:
    """Give a rule's name in words.

    >>> rule_in_words("beats_champion"), rule_in_words("slice_x=1"), rule_in_words("of_later")
    ('better than the champion', 'not worse on slice x=1', 'of later')
    """
    if name in _RULES:
        return _RULES[name]
    return next((words + name.removeprefix(start) for start, words in _BEFORE.items() if name.startswith(start)), name.replace("_", " "))


def result(rule: Rule) -> str:
    """Give what became of a rule as a sign and a word."""
    return "✓ pass" if rule.passed else "‖ HOLD" if rule.holds else "✕ FAIL"


def rules_table(rules: tuple[Rule, ...]) -> Table:
    """List rules, those that did not pass first."""
    rows = tuple(
        (
            result(rule),
            rule_in_words(rule.name),
            rule.sentence,
            *("-" if value is None else shown(value) for value in (rule.figure, rule.bound)),
        )
        for rule in sorted(rules, key=lambda rule: rule.passed)
    )
    return Table(("result", "rule", "what was found", "figure", "bound"), rows, frozenset({3, 4}))


def pairs(rows: list[tuple[str, Cell | None]]) -> Table:
    """List facts by name; those that are not known are left out."""
    return Table(("what", "found"), tuple((name, found) for name, found in rows if found not in (None, "")))


def moment(text: str | None) -> str:
    """Write a moment without what says nothing; what is no moment stays as it is.

    >>> moment("2024-01-28T23:30:00"), moment("2024-01-28T00:00:00"), moment("17"), moment(None)
    ('2024-01-28 23:30', '2024-01-28', '17', 'unknown')
    """
    if text is None:
        return "unknown"
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d(?:\.\d+)?)?(?:\+00:00)?", text)
    if found is None:
        return text
    return found[1] if found[2] == "00:00" and found[3] in (None, ":00") else f"{found[1]} {found[2]}"


def plural(count: int, one: str, several: str) -> str:
    """Count things.

    >>> plural(1, "row", "rows"), plural(2000, "row", "rows")
    ('1 row', '2,000 rows')
    """
    return f"{count:,} {one if count == 1 else several}"


def settings_in_words(params: Mapping[str, Any]) -> str:
    """List an estimator's parameters.

    >>> settings_in_words({"alpha": 0.1}), settings_in_words({})
    ('alpha = 0.1', "the estimator's own")
    """
    return ", ".join(f"{name} = {value}" for name, value in params.items()) or "the estimator's own"
