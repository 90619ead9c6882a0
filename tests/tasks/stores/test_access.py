"""The ledger opened: by many at once, also where it is not made yet."""

import multiprocessing
import sqlite3
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tasks.errors import LedgerError
from tasks.stores import ledger
from tasks.stores.ledger import access

ROUNDS = 40


def _opened(barrier: Barrier, failed: "Queue[str]", home: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for number in range(ROUNDS):
            patch.setenv("RATCHET_LEDGER_URL", f"sqlite:///{home}/{number}.db")
            barrier.wait(60)
            try:
                ledger.champion("p")
            except LedgerError as error:
                failed.put(str(error))
    failed.put("")


def test_processes_that_open_a_ledger_at_once_that_is_not_made_yet_all_get_it(home: Path) -> None:
    spawning = multiprocessing.get_context("spawn")
    barrier, failed = spawning.Barrier(4), spawning.Queue()
    openers = [spawning.Process(target=_opened, args=(barrier, failed, home), daemon=True) for _ in range(4)]
    for opener in openers:
        opener.start()
    told = []
    while told.count("") < len(openers):
        told.append(failed.get(timeout=60))
    assert set(told) == {""}


def test_a_ledger_whose_lock_is_never_given_back_is_waited_for_a_while_and_then_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_LEDGER_URL", f"sqlite:///{home}/held.db")
    monkeypatch.setattr(access, "WAIT", 0.2)
    home.mkdir(exist_ok=True)
    with sqlite3.connect(home / "held.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="database is locked"):
            ledger.champion("p")
        other.execute("ROLLBACK")
    assert ledger.champion("p") is None
