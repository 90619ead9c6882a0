"""`ratchet predict` as a person uses it: no server is started, exit codes tell whether all was scored, and mistakes say what to do."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.championed import champion
from tests.landing import toy_rows

pytestmark = pytest.mark.slow
RATCHET = Path(sys.executable).parent / "ratchet"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def predict(home: Path, tmp_path: Path) -> Run:
    champion(tmp_path)
    (tmp_path / "in").mkdir()

    def run(*words: str, code: int = 0, given: str = "in", output: str = "out", name: str = "toy") -> "subprocess.CompletedProcess[str]":
        places = ("--input", str(tmp_path / given), "--output", str(tmp_path / output))
        environment = {**os.environ, "COLUMNS": "200"}
        done = subprocess.run([RATCHET, "predict", name, *places, *words], capture_output=True, text=True, env=environment, timeout=200)
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def read(done: "subprocess.CompletedProcess[str]") -> Any:
    return json.loads(done.stdout)


def test_a_directory_is_predicted_once_and_the_second_call_says_so(predict: Run, home: Path, tmp_path: Path) -> None:
    toy_rows(30).write_parquet(tmp_path / "in" / "a.parquet")
    toy_rows(20, first=30).with_columns(x=pl.lit(99.0)).head(1).write_parquet(tmp_path / "in" / "b.parquet")
    first = predict().stdout
    assert "30 rows of 2 files were predicted by version 1 into" in first
    assert "scored  b.parquet  0 rows predicted, 1 rejected" in first
    found = read(predict("--json"))
    assert [(file["outcome"], file["rows"]) for file in found["files"]] == [("known", 30), ("known", 1)]
    assert (found["rows"], found["sentence"]) == (0, "2 files were scored before and left.")
    assert not (home / "stack.json").exists()
    made = read(predict("--json", "--format", "csv"))
    assert (made["rows"], made["predicted"], made["rejected"]) == (31, 30, 1)
    assert pl.read_csv(made["files"][0]["outputs"][0]).height == 30


def test_what_was_not_scored_is_told_by_the_exit_code_and_the_rest_is_scored(predict: Run, tmp_path: Path) -> None:
    toy_rows(30).write_parquet(tmp_path / "in" / "a.parquet")
    (tmp_path / "in" / "b\x1b[31m.csv").write_text("<html>")
    told = predict(code=2).stdout
    assert "scored  a.parquet" in told
    assert "refused b\\x1b[31m.csv  Columns ['id', 'at', 'x', 'colour'] are missing" in told


def test_mistakes_say_what_to_do(predict: Run, tmp_path: Path) -> None:
    assert "Name another output" in predict(output="in/out", code=2).stderr
    assert "Did you mean 'toy'?" in predict(name="toyy", code=2).stderr
