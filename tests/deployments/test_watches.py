"""What is watched is known to others as long as the process that says so lives, and waited for no longer than needed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployments import starting, watches
from deployments.watches import Watch

GOOD, COMING = Watch("/p/good.py", "/in", watched=True), Watch("/p/coming.py", "", watched=False)
BAD = Watch("/p/bad.py", "", watched=False, note="its file cannot be used")


@pytest.fixture(autouse=True)
def made(home: Path) -> None:
    home.mkdir()


def test_what_a_living_process_watches_is_read_as_it_was_written() -> None:
    assert watches.read() is None
    watches.publish({"good": GOOD, "bad": BAD})
    assert watches.read() == {"good": GOOD, "bad": BAD}


def test_a_process_that_is_gone_watches_nothing() -> None:
    code = "from deployments import watches; watches.publish({'a': watches.Watch('f', 's', True)})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert watches.read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": "h/1/2", "pipelines": {"a": {"of": "another version"}}}'])
def test_a_file_that_says_nothing_is_nobodys_word(home: Path, text: str) -> None:
    (home / "watches.json").write_text(text)
    assert watches.read() is None


def test_it_is_waited_for_what_may_come_and_for_nothing_that_is_known() -> None:
    watches.publish({"good": GOOD, "bad": BAD, "coming": COMING})
    began = time.monotonic()
    assert starting.awaited(["good", "bad"], patience=600)["bad"] == BAD
    assert starting.awaited(["coming", "absent"], patience=0.3)["coming"] == COMING
    assert 0.3 <= time.monotonic() - began < 60
    assert "not watched yet" in starting.sentence(COMING)
    assert starting.sentence(BAD) == "not watched: its file cannot be used"
