"""A version is brought in behind the requests that are answered meanwhile, and leaves the process as it was."""

import gc
import shutil
import sys
import time
from pathlib import Path

import pytest

from deployments.online import versions
from deployments.online.versions import LOOK, PATIENCE, PAUSE, STAND, STEP, Patience
from tasks.errors import ModelRejected
from tasks.records import Champion
from tasks.stores import kept
from tests.stored import sorts_rows, store


@pytest.fixture
def stored(home: Path, tmp_path: Path) -> Champion:
    return store("sorts", sorts_rows(300), tmp_path / "a").candidate


class Clock:
    """Time that passes in sleep alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(versions.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(versions.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_it_is_waited_until_nothing_is_busy_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    Patience(lambda: clock.now < 100.01).wait()
    assert clock.now == pytest.approx(100.01, abs=PAUSE)


def test_one_wait_is_short_for_it_may_hold_what_the_other_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, patience = Clock(monkeypatch), Patience(lambda: True)
    patience.wait()
    assert clock.now == pytest.approx(100 + STAND, abs=2 * PAUSE)
    patience.wait()
    assert clock.now == pytest.approx(100 + STAND, abs=2 * PAUSE), "it goes on for a moment first"
    clock.now += STEP
    patience.wait()
    assert clock.now == pytest.approx(100 + 2 * STAND + STEP, abs=4 * PAUSE)


def test_what_is_always_busy_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, patience, waited = Clock(monkeypatch), Patience(lambda: True), 0.0
    for _ in range(1000):
        began = clock.now
        patience.wait()
        waited += clock.now - began
        clock.now += STEP
    assert waited == pytest.approx(PATIENCE, abs=STAND + PAUSE)


def test_requests_are_looked_for_again_and_again_while_a_version_is_brought_in(stored: Champion) -> None:
    looks: list[None] = []
    active = versions.bring(stored, lambda: looks.append(None) is not None)
    assert active.version == stored.version
    assert len(looks) > 1000


def test_a_version_is_brought_in_though_requests_never_cease(stored: Champion) -> None:
    assert versions.bring(stored, lambda: True).version == stored.version


@pytest.mark.usefixtures("silent")
def test_files_that_do_not_come_are_not_waited_for_once_they_are_not_wanted(stored: Champion) -> None:
    shutil.rmtree(kept.place(stored.sha256))
    wanted, busy = iter([True, False]), [0.0]
    with pytest.raises(versions.Overtaken, match="not wanted any more"):
        versions.bring(stored, lambda: busy.append(time.monotonic()) is not None, lambda: next(wanted))
    assert time.monotonic() - busy[-1] > 2 * LOOK, "patience is kept for the loading"


def test_a_definition_that_ends_the_process_is_refused(stored: Champion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "load", lambda _: sys.exit("xgboost is missing"))
    with pytest.raises(ModelRejected, match="SystemExit: xgboost is missing"):
        versions.bring(stored)


@pytest.mark.parametrize("broken", [False, True])
def test_the_process_is_left_as_it_was(stored: Champion, broken: bool) -> None:
    before = sys.getswitchinterval(), sys.getprofile(), gc.isenabled()
    if broken:
        (kept.place(stored.sha256) / "model.skops").write_bytes(b"others")
        with pytest.raises(ModelRejected):
            versions.bring(stored)
    else:
        versions.bring(stored)
    assert (sys.getswitchinterval(), sys.getprofile(), gc.isenabled()) == before
