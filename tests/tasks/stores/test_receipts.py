"""Receipts and dead letters: one for everything that came of a moment, equal ones in a row counted, and asked for by time."""

from pathlib import Path

from tasks.stores import ledger
from tasks.triggers import Receipt

WAITED = Receipt("waited", "debounce", "waiting until it is quiet")


def leave(*receipts: Receipt, pipeline: str = "p") -> None:
    for receipt in receipts:
        ledger.record(pipeline, receipt)


def told(pipeline: str = "p") -> list[tuple[str, str, int]]:
    return [(found.outcome, found.rule, found.times) for found in reversed(ledger.receipts(pipeline))]


def test_receipts_are_given_newest_first_and_of_their_pipeline_alone(home: Path) -> None:
    leave(WAITED, Receipt("asked", "arrival", "1 arrival is outstanding", outstanding=1))
    leave(Receipt("skipped", "nothing", "taken in already"), pipeline="other")
    newest = ledger.receipts("p")[0]
    assert (newest.outcome, newest.outstanding, newest.times) == ("asked", 1, 1)
    assert (newest.first_at or "") <= (newest.last_at or "")
    assert told("other") == [("skipped", "nothing", 1)]
    assert len(ledger.receipts("p", limit=1)) == 1


def test_equal_receipts_in_a_row_are_one_that_says_how_often_and_what_was_last(home: Path) -> None:
    leave(WAITED, WAITED, Receipt("waited", "debounce", "still waiting", outstanding=5))
    (found,) = ledger.receipts("p")
    assert (found.times, found.why, found.outstanding) == (3, "still waiting", 5)
    assert (found.first_at or "") < (found.last_at or "")


def test_a_receipt_of_another_kind_between_two_equal_ones_keeps_them_apart(home: Path) -> None:
    leave(WAITED, Receipt("asked", "arrival", "x"), WAITED)
    assert told() == [("waited", "debounce", 1), ("asked", "arrival", 1), ("waited", "debounce", 1)]


def test_every_cycle_that_begins_has_a_receipt_of_its_own(home: Path) -> None:
    for _ in range(2):
        lease = ledger.begin("p", trigger="schedule", definition="d", flow_run=None)
        ledger.end(lease)
        ledger.release(lease)
    assert [(found.outcome, found.cycle, found.trigger) for found in ledger.receipts("p")] == [
        ("ran", 2, "schedule"),
        ("ran", 1, "schedule"),
    ]


def test_receipts_are_asked_for_by_the_time_that_they_span(home: Path) -> None:
    leave(WAITED, Receipt("asked", "arrival", "x"), WAITED, WAITED)
    newest, asked, oldest = ledger.receipts("p")
    assert ledger.receipts("p", since=newest.last_at) == (newest,)
    assert ledger.receipts("p", until=oldest.last_at) == (oldest,)
    assert ledger.receipts("p", since=asked.first_at, until=newest.first_at) == (newest, asked)
    assert ledger.receipts("p", since="9999") == ()


def test_a_letter_is_kept_once_however_often_the_queue_brings_it(home: Path) -> None:
    for reason in ("It is no JSON.", "Brought again."):
        ledger.keep_letter("p", "queue", "1", "garbage\0", reason)
    ledger.keep_letter("p", "queue", "2", "x" * 20_000, "It is long.")
    newest, first = ledger.dead_letters("p")
    assert first[1:] == ("It is no JSON.", "garbage\ufffd")
    assert len(newest[2]) == 10_000
    assert ledger.dead_letters("other") == ()
