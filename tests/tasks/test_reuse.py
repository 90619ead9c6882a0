"""What was used for which decision: rows that an earlier comparison rests on are counted, and told."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import pipelines
from tasks import wording
from tasks.errors import BrokenPipeline
from tasks.evidence import Evaluation
from tasks.feature import feature, prepare, used_before
from tasks.records import Champion, Compared, Decision
from tasks.stores import lake, ledger
from tests.landing import take_in, toy_rows
from tests.told import CHAMPION, DECISION, EVALUATION

ENDS = st.tuples(st.integers(0, 25), st.integers(0, 25)).map(sorted)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40).map(sorted), st.integers(0, 40), st.lists(ENDS, max_size=6))
def test_every_row_that_an_earlier_comparison_spans_is_counted_once(order: list[int], first: int, spans: list[list[int]]) -> None:
    newest_first = sorted(spans, key=lambda span: span[1], reverse=True)
    earlier = [Compared(len(spans) - place, str(low), str(high)) for place, (low, high) in enumerate(newest_first)]
    count, cycles = used_before(pl.Series(order), first, earlier)
    assert count == sum(any(low <= value <= high for low, high in spans) for value in order[first:])
    reaching = [part.cycle for part in earlier if first < len(order) and int(part.last) >= order[first]]
    assert cycles == tuple(sorted(reaching))


def test_of_comparisons_in_another_order_nothing_is_known() -> None:
    assert used_before(pl.Series([1, 2, 3]), 0, [Compared(2, "2", "3"), Compared(1, "2024-01-01", "2024-02-01")]) == (2, (2,))


def decided(cycle: int, evaluation: Evaluation | None) -> None:
    lease = ledger.begin("toy", trigger="test", definition="", flow_run=None)
    decision = Decision("toy", lease.cycle, "keep", "x", evaluation=evaluation)
    ledger.decide(lease, decision, trained_rows=None if cycle % 2 else 5)
    ledger.release(lease)


def test_comparisons_come_newest_first_and_only_from_cycles_that_made_one(home: Path) -> None:
    for cycle in range(1, 60):
        decided(cycle, None if cycle % 4 == 0 else replace(EVALUATION, first=f"{cycle:02}", last=f"{cycle + 1:02}"))
    found = list(ledger.compared("toy"))
    assert found == [Compared(cycle, f"{cycle:02}", f"{cycle + 1:02}") for cycle in range(58, 0, -4)]
    assert next(ledger.compared("toy")).cycle == 58
    assert list(ledger.compared("another")) == []


def prepared_toy(home: Path, tmp_path: Path) -> int:
    source = tmp_path / "in"
    source.mkdir()
    toy_rows(400).write_csv(source / "a.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    take_in(source)
    version = lake.version("toy")
    assert version is not None
    return version


def test_the_unseen_rows_of_a_cycle_are_held_against_the_comparisons_so_far(home: Path, tmp_path: Path) -> None:
    version = prepared_toy(home, tmp_path)
    decided(2, replace(EVALUATION, first="2024-01-01T04:00:00", last="2024-01-01T05:09:00"))  # the holdout begins at 04:40
    found = feature.fn(pipelines.get("toy"), version, None, str(tmp_path / "work"))
    assert (found.unseen, found.cut) == (120, "2024-01-01T04:40:00")
    assert (found.reused, found.reused_by) == (30, (2,))


def test_a_champion_that_has_no_place_in_a_changed_order_of_the_rows_is_told_of(home: Path, tmp_path: Path) -> None:
    version = prepared_toy(home, tmp_path)
    champion: Champion = replace(CHAMPION, pipeline="toy", trained_until="1099511627782")
    with pytest.raises(BrokenPipeline, match="Champion 2 of 'toy' was trained on rows until '1099511627782', which has no place"):
        prepare(pipelines.get("toy"), version, champion, tmp_path / "work")


def test_the_count_is_told_and_read_back_and_an_old_record_has_none() -> None:
    assert DECISION.evaluation is not None
    found = replace(DECISION, evaluation=replace(DECISION.evaluation, reused=1008, reused_by=(2, 3)))
    assert "1,008 of 1,344, by cycles 2, 3; each use" in wording.markdown(found)
    stored = found.as_dict()
    assert Decision.from_dict(stored) == found
    del stored["evaluation"]["reused"], stored["evaluation"]["reused_by"]
    old = Decision.from_dict(stored)
    assert old.evaluation is not None
    assert old.evaluation.reused is None
    assert "used by a decision before" not in wording.markdown(old)
