"""Answering: hold what a serving process answered against what it should have. Pure, and fails closed: what was not answered passes nothing.

Answers are predictions by column, as JSON has them: `predicted` and `p_<class>`, see `frames.predictions_of`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.evidence import Rule
from tasks.gates import Gate

Columns = Mapping[str, Sequence[Any]]
SAME = 1e-9  # of a column's largest value; sums over rows of a batch may be taken in another order
_SHOWN = 6


@dataclass(frozen=True)
class Asked:
    """What was asked: the predictions `expected` of the golden requests, the `features` that the model was trained on, the places of
    those asked for by themselves (`single`) and the order of those asked for anew (`shuffled`), and the names of the edge rows;
    `refused` are those that the contract lets nobody ask for.
    """

    expected: Columns = field(default_factory=dict)
    features: Mapping[str, str] = field(default_factory=dict)
    single: Sequence[int] = ()
    shuffled: Sequence[int] = ()
    edges: Sequence[str] = ()
    refused: Sequence[str] = ()

    @property
    def rows(self) -> int:
        """Number of golden requests."""
        return len(self.expected.get("predicted", ()))


@dataclass(frozen=True)
class Answer:
    """The parts that were answered, by name, and what kept the process from answering the others."""

    parts: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None

    def why(self, part: str) -> str:
        """Say why a part is missing."""
        return f"it did not answer ({part}): {self.problem or 'nothing was said of why'}"


class Unlike(ValueError):
    """Two answers cannot be compared at all."""


def read(path: Path, problem: str | None) -> Answer:
    """Read an answer, a line of JSON for each part; what the process itself says of why it stopped comes before `problem`."""
    parts: dict[str, Any] = {}
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            given = json.loads(line)
            parts[given["part"]] = given["value"]
        except (ValueError, TypeError, KeyError):
            return Answer(parts, problem or f"its answer is not what was asked for: {line[:80]!r}")
    return Answer(parts, parts.get("error", problem))


def difference(found: Columns, wanted: Columns) -> tuple[float, int]:
    """Give the largest difference between two answers, and the number of rows that differ by more than `SAME`.

    Numbers differ by a share of their column's largest value in `wanted`; labels that are unequal, and a number where none should be, by 1.

    Raises:
        Unlike: if columns or rows are others.

    >>> difference({"predicted": [2.0, 5.0]}, {"predicted": [2.0, 4.0]})
    (0.25, 1)
    """
    if list(found) != list(wanted):
        raise Unlike(f"columns {list(found)} where {list(wanted)} were expected")
    sizes = {len(values) for values in found.values()}
    if sizes != {len(values) for values in wanted.values()} or len(sizes) != 1:
        raise Unlike(f"{sorted(sizes)} rows where {sorted({len(values) for values in wanted.values()})} were expected")
    columns = [_differences(found[name], wanted[name]) for name in wanted]
    rows = [max(cells) for cells in zip(*columns, strict=True)]
    return max(rows, default=0.0), sum(row > SAME for row in rows)


def _differences(found: Sequence[Any], wanted: Sequence[Any]) -> list[float]:
    scale = max((abs(value) for value in wanted if _finite(value)), default=0.0) or 1.0
    return [_cell(ours, theirs, scale) for ours, theirs in zip(found, wanted, strict=True)]


def _cell(ours: Any, theirs: Any, scale: float) -> float:
    if _number(ours) and _number(theirs) and math.isfinite(ours) and math.isfinite(theirs):
        return float(abs(ours - theirs) / scale)
    both_nan = isinstance(ours, float) and isinstance(theirs, float) and math.isnan(ours) and math.isnan(theirs)
    return 0.0 if ours == theirs or both_nan else 1.0


def _number(value: Any) -> bool:
    """Tell a number from a label: labels come as whole numbers, truth values or text."""
    return isinstance(value, float)


def _finite(value: Any) -> bool:
    return _number(value) and math.isfinite(value)


def undefined(answer: Columns) -> int:
    """Count the values that are no finite number and no label."""
    return sum(value is None or (_number(value) and not math.isfinite(value)) for values in answer.values() for value in values)


def rules(gate: Gate, asked: Asked, answer: Answer, artifact_mb: float | None) -> tuple[Rule, ...]:
    """Lay every rule of the probe to an answer."""
    whole = answer.parts.get("all")
    found = [
        _loads(answer),
        _compared(
            "probe_same_as_trained", "all", asked.expected, whole, answer, f"{asked.rows} unseen rows", "the trained model's predictions"
        ),
        _one_by_one(asked, answer),
        _compared(
            "probe_any_order",
            "shuffled",
            None if whole is None else _at(whole, asked.shuffled),
            answer.parts.get("shuffled"),
            answer,
            "the rows in another order",
            "the same predictions",
        ),
        _all_finite(answer),
        _schema(asked, answer),
        _edges(asked, answer),
    ]
    measured = answer.parts.get("latency", {})
    costs = (
        ("latency", measured.get("p99_ms"), gate.max_latency_ms, "ms for one row (99th percentile)"),
        ("memory", measured.get("memory_mb"), gate.max_memory_mb, "MB of memory while serving"),
        ("artifact_size", artifact_mb, gate.max_artifact_mb, "MB of stored model"),
    )
    return (*found, *(_at_most(name, figure, bound, what, answer) for name, figure, bound, what in costs if bound is not None))


def _loads(answer: Answer) -> Rule:
    whole = "latency" in answer.parts
    if "load" not in answer.parts or (whole and answer.problem):
        why = f"after its last answer {answer.problem}" if whole else answer.why("load")
        return Rule("probe_loads", False, None, None, f"the stored model does not load in a fresh process: {why}")
    return Rule("probe_loads", True, None, None, "the stored model loads in a fresh process, by its digest")


def _compared(name: str, part: str, wanted: Columns | None, found: Columns | None, answer: Answer, what: str, like: str) -> Rule:
    if wanted is None or found is None:
        return Rule(name, False, None, SAME, answer.why(part))
    try:
        largest, rows = difference(found, wanted)
    except Unlike as error:
        return Rule(name, False, None, SAME, f"{what} get another answer than {like}: {error}")
    if not rows and wanted:
        return Rule(name, True, largest, SAME, f"{what} get {like} (largest difference {largest:.2g})")
    return Rule(name, False, largest, SAME, f"{what} do not get {like}: {rows} differ, at most by {largest:.2g} of the largest value")


def _one_by_one(asked: Asked, answer: Answer) -> Rule:
    whole, single = answer.parts.get("all"), answer.parts.get("single")
    if whole is None or single is None:
        return Rule("probe_one_by_one", False, None, SAME, answer.why("single"))
    together = {name: [value for one in single for value in one.get(name, ())] for name in whole}
    what = f"{len(asked.single)} rows asked for one by one"
    return _compared("probe_one_by_one", "single", _at(whole, asked.single), together, answer, what, "what they get in a batch")


def _at(columns: Columns, places: Sequence[int]) -> dict[str, list[Any]]:
    """Take rows; one that is not there is None."""
    return {name: [values[place] if place < len(values) else None for place in places] for name, values in columns.items()}


def _all_finite(answer: Answer) -> Rule:
    missing = [part for part in ("all", "single", "shuffled") if part not in answer.parts]
    if missing:
        return Rule("probe_finite", False, None, 0.0, answer.why(missing[0]))
    every = [answer.parts["all"], *answer.parts["single"], answer.parts["shuffled"]]
    count = sum(undefined(one) for one in every)
    sentence = (
        f"{count} values of its predictions are undefined or infinite" if count else "all its predictions are labels and finite numbers"
    )
    return Rule("probe_finite", count == 0, float(count), 0.0, sentence)


def _schema(asked: Asked, answer: Answer) -> Rule:
    loaded, whole = answer.parts.get("load"), answer.parts.get("all")
    if loaded is None or whole is None:
        return Rule("probe_schema", False, None, 0.0, answer.why("all"))
    wrong = []
    if list(loaded["columns"].items()) != list(asked.features.items()):
        wrong.append(f"it is signed for features {loaded['columns']}, and was trained on {dict(asked.features)}")
    if list(whole) != list(asked.expected) or not asked.expected:
        wrong.append(f"it answers with columns {list(whole)} where {list(asked.expected)} are expected")
    wrong += [f"{name!r} has {len(values)} values for {asked.rows} rows" for name, values in whole.items() if len(values) != asked.rows]
    sentence = "; ".join(wrong) or f"features are as signed, and it answers with {', '.join(whole)} for every row"
    return Rule("probe_schema", not wrong, float(len(wrong)), 0.0, sentence)


def _edges(asked: Asked, answer: Answer) -> Rule:
    found = answer.parts.get("edges")
    if found is None or len(found) != len(asked.edges):
        return Rule("probe_edge_rows", False, None, 0.0, answer.why("edges"))
    bad = [f"{name}: {_wrong(one)}" for name, one in zip(asked.edges, found, strict=True) if _wrong(one)]
    barred = f"; the contract lets nobody ask for {_few(asked.refused)}" if asked.refused else ""
    if bad:
        advice = "Let a candidate handle it, or forbid it in the contract"
        return Rule("probe_edge_rows", False, float(len(bad)), 0.0, f"no proper answer where a value is odd: {_few(bad)}. {advice}{barred}")
    return Rule(
        "probe_edge_rows", True, 0.0, 0.0, f"finite answers for {len(found)} edge rows ({_few(asked.edges) or 'none are possible'}){barred}"
    )


def _wrong(one: Mapping[str, Any]) -> str | None:
    if "answer" not in one:
        return str(one.get("error", "no answer"))[:200]
    return "an undefined or infinite prediction" if undefined(one["answer"]) or not one["answer"].get("predicted") else None


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _at_most(name: str, figure: float | None, bound: float, what: str, answer: Answer) -> Rule:
    if figure is None or not math.isfinite(figure):
        return Rule(name, False, None, bound, answer.why("latency"))
    passed = figure <= bound
    return Rule(name, passed, figure, bound, f"{figure:.3g} {what}, {'within' if passed else 'more than'} the {bound:g} allowed")
