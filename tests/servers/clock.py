"""Processes whose clock is wrong, or is set while they run, by Debian's faketime; the clocks of the machine and of its files stay right."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]


def absent() -> bool:
    """Tell whether faketime is not installed."""
    return shutil.which("faketime") is None


def set_to(clock: Path, offset: str) -> None:
    """Set the clock of the processes that go by that file: "+0" is right, "-1d" a day behind."""
    fresh = clock.with_suffix(".new")
    fresh.write_text(f"{offset}\n")
    fresh.replace(clock)


@contextmanager
def running(clock: Path, code: str, *arguments: str | Path) -> Iterator["subprocess.Popen[str]"]:
    """Run Python code inside the block, by that clock; its input and output are pipes."""
    found = subprocess.run(["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], check=True, capture_output=True, text=True, timeout=30)
    library = {
        "LD_PRELOAD": found.stdout.strip(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",  # else a change is seen up to ten seconds later
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    words = [sys.executable, "-c", code, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ, **library}, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run(clock: Path, code: str, *arguments: str | Path) -> str:
    """Run Python code to its end, by that clock, and give what it printed."""
    with running(clock, code, *arguments) as process:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        return output
