"""Answers held against what was expected: equal ones pass, nothing that is missing, odd or not a number does."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.answering import SAME, Answer, Asked, Unlike, difference, read, rules, undefined
from tasks.gates import Gate

GATE = Gate(metric="mae", max_latency_ms=10, max_memory_mb=500, max_artifact_mb=5)
numbers = st.floats(-1e6, 1e6)
columns = st.lists(st.tuples(st.sampled_from(["a", "b"]), numbers), min_size=1, max_size=30).map(
    lambda rows: {"predicted": [label for label, _ in rows], "p_a": [number for _, number in rows]}
)
ASKED = Asked(
    expected={"predicted": [1.0, 2.0, 4.0]}, features={"x": "float64"}, single=[0, 2], shuffled=[2, 0, 1], edges=["x missing"], refused=[]
)
PARTS: dict[str, Any] = {
    "load": {"seconds": 0.5, "columns": {"x": "float64"}},
    "all": {"predicted": [1.0, 2.0, 4.0]},
    "single": [{"predicted": [1.0]}, {"predicted": [4.0]}],
    "shuffled": {"predicted": [4.0, 1.0, 2.0]},
    "edges": [{"answer": {"predicted": [0.0]}}],
    "latency": {"p50_ms": 2.0, "p99_ms": 3.0, "timed": 200, "memory_mb": 300.0},
}


def failed(answer: Answer, asked: Asked = ASKED, size: float | None = 1.0) -> set[str]:
    return {rule.name for rule in rules(GATE, asked, answer, size) if not rule.passed}


@given(columns)
def test_an_answer_is_like_itself_and_its_difference_to_another_order_is_found(answer: dict[str, list[Any]]) -> None:
    assert difference(answer, answer) == (0.0, 0)
    turned = {name: values[::-1] for name, values in answer.items()}
    assert (difference(turned, answer)[1] == 0) == all(
        ours == theirs or (isinstance(ours, float) and abs(ours - theirs) <= SAME * max(map(abs, answer["p_a"])))
        for name in answer
        for ours, theirs in zip(turned[name], answer[name], strict=True)
    )


@given(columns, st.data())
def test_one_value_that_is_no_number_or_another_label_is_one_row(answer: dict[str, list[Any]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(answer["p_a"]) - 1))
    name, odd = data.draw(st.sampled_from([("p_a", math.nan), ("p_a", None), ("p_a", math.inf), ("predicted", "c"), ("predicted", None)]))
    spoiled = {**answer, name: [odd if row == place else value for row, value in enumerate(answer[name])]}
    assert difference(spoiled, answer) == (1.0, 1)
    assert undefined(spoiled) == (0 if odd == "c" else 1)


def test_noise_of_the_last_digits_is_no_difference_and_more_is() -> None:
    wanted = {"predicted": [1000.0, 1e-9]}
    assert difference({"predicted": [1000.0 + 1e-7, 1e-9]}, wanted)[1] == 0
    assert difference({"predicted": [1000.0 + 2e-6, 1e-9]}, wanted)[1] == 1


@pytest.mark.parametrize("found", [{}, {"p_a": [1.0]}, {"predicted": [1.0, 2.0]}, {"predicted": [1.0], "p_a": [1.0]}])
def test_other_columns_or_rows_cannot_be_compared(found: dict[str, list[Any]]) -> None:
    with pytest.raises(Unlike):
        difference(found, {"predicted": [1.0]})


def test_a_whole_answer_passes() -> None:
    assert failed(Answer(PARTS)) == set()


@pytest.mark.parametrize(
    ("part", "spoiled", "fails"),
    [
        ("all", {"predicted": [1.0, 2.0, 4.1]}, {"probe_same_as_trained", "probe_one_by_one", "probe_any_order"}),
        ("all", {"predicted": [1.0, 2.0]}, {"probe_same_as_trained", "probe_one_by_one", "probe_any_order", "probe_schema"}),
        ("single", [{"predicted": [1.0]}, {"predicted": [4.1]}], {"probe_one_by_one"}),
        ("single", [{"predicted": [1.0]}], {"probe_one_by_one"}),
        ("shuffled", {"predicted": [1.0, 2.0, 4.0]}, {"probe_any_order"}),
        ("shuffled", {"predicted": [math.nan, 1.0, 2.0]}, {"probe_any_order", "probe_finite"}),
        ("load", {"seconds": 0.5, "columns": {"z": "float64"}}, {"probe_schema"}),
        ("edges", [{"error": "ValueError: NaN"}], {"probe_edge_rows"}),
        ("edges", [{"answer": {"predicted": [None]}}], {"probe_edge_rows"}),
        ("edges", [{"answer": {}}], {"probe_edge_rows"}),
        ("edges", [], {"probe_edge_rows"}),
        ("latency", {"p50_ms": 2.0, "p99_ms": 10.5, "memory_mb": 501.0}, {"latency", "memory"}),
        ("latency", {"p50_ms": 2.0, "p99_ms": math.nan, "memory_mb": None}, {"latency", "memory"}),
    ],
)
def test_each_fault_fails_its_own_rules(part: str, spoiled: Any, fails: set[str]) -> None:
    assert failed(Answer({**PARTS, part: spoiled})) == fails


@pytest.mark.parametrize("part", list(PARTS))
def test_a_part_that_is_missing_passes_no_rule_that_needs_it_and_the_reason_is_told(part: str) -> None:
    answer = Answer({name: value for name, value in PARTS.items() if name != part}, problem="it was ended by SIGKILL")
    found = [rule for rule in rules(GATE, ASKED, answer, 1.0) if not rule.passed]
    assert found
    assert all("ended by SIGKILL" in rule.sentence for rule in found)


def test_nothing_asked_or_nothing_answered_passes_nothing() -> None:
    assert len(failed(Answer(), size=None)) == 10
    assert "probe_same_as_trained" in failed(Answer({**PARTS, "all": {}}), Asked())
    assert failed(Answer(PARTS), size=None) == {"artifact_size"}


def test_a_process_that_ends_badly_after_its_last_answer_does_not_pass() -> None:
    assert failed(Answer(PARTS, problem="it was ended by SIGSEGV")) == {"probe_loads"}


def test_limits_that_the_gate_does_not_set_are_no_rules() -> None:
    free = replace(GATE, max_latency_ms=None, max_memory_mb=None, max_artifact_mb=None)
    assert len(rules(free, ASKED, Answer(PARTS), None)) == 7


def test_an_answer_that_is_no_json_is_a_problem_and_what_came_before_counts(tmp_path: Path) -> None:
    path = tmp_path / "answer.jsonl"
    lines = [json.dumps({"part": name, "value": value}) for name, value in PARTS.items()]
    path.write_text("\n".join(lines))
    assert read(path, None) == Answer(PARTS)
    path.write_text("\n".join([*lines[:2], lines[2][:20]]))
    assert read(path, "it was ended by SIGKILL") == Answer({name: PARTS[name] for name in ("load", "all")}, "it was ended by SIGKILL")
    assert "not what was asked for" in (read(path, None).problem or "")
    assert read(tmp_path / "absent", "it did not start") == Answer({}, "it did not start")
    path.write_text('{"part": "error", "value": "KeyError: x"}\n')
    assert read(path, "it ended with exit code 1").problem == "KeyError: x"
