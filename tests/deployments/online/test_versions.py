"""A version is brought in behind the requests that are answered meanwhile, and leaves the process as it was."""

import gc
import shutil
import socket
import sys
from pathlib import Path

import pytest

from deployments.online import versions
from deployments.online.versions import PATIENCE, PAUSE, Patience
from tasks.errors import ModelRejected
from tasks.records import Champion
from tasks.stores import kept
from tests.stored import sorts_rows, store


@pytest.fixture
def stored(home: Path, tmp_path: Path) -> Champion:
    return store("sorts", sorts_rows(300), tmp_path / "a").candidate


def test_it_is_waited_as_long_as_something_is_busy() -> None:
    states = iter([True, True, False])
    patience = Patience(lambda: next(states))
    patience.wait()
    assert patience.left == pytest.approx(PATIENCE - 2 * PAUSE)


def test_what_is_always_busy_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(versions.time, "sleep", slept.append)
    patience = Patience(lambda: True)
    patience.wait()
    patience.wait()
    assert sum(slept) == pytest.approx(PATIENCE, abs=2 * PAUSE)


def test_requests_are_looked_for_again_and_again_while_a_version_is_brought_in(stored: Champion) -> None:
    looks: list[None] = []
    active = versions.bring(stored, lambda: looks.append(None) is not None)
    assert active.version == stored.version
    assert len(looks) > 1000


def test_a_version_is_brought_in_though_requests_never_cease(stored: Champion) -> None:
    assert versions.bring(stored, lambda: True).version == stored.version


def test_files_that_do_not_come_are_not_waited_for_once_they_are_not_wanted(stored: Champion, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        shutil.rmtree(kept.place(stored.sha256))
        looks = iter([True, False])
        with pytest.raises(versions.Overtaken, match="not wanted any more"):
            versions.bring(stored, wanted=lambda: next(looks))


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
