"""The lake's table over years: every version that a cycle was trained on stays readable."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from tasks.stores import lake

SCHEMA = {"x": pl.Int64, "_file": pl.String}
DAY = 24 * 3600.0


def put(x: int) -> int:
    return lake.commit("toy", "rows", [pl.DataFrame({"x": [x], "_file": ["a"]}, schema=SCHEMA)], SCHEMA, [], token=1)


def test_a_version_loads_when_its_log_is_older_than_what_delta_keeps_by_default(home: Path, new_ledger: Callable[[], str]) -> None:
    first = put(1)
    for number in range(101):  # Delta makes a checkpoint every hundred versions, and would remove in time what is before it
        put(number)
    log = Path(lake.uri("toy", "rows")) / "_delta_log"
    assert any(path.name.endswith(".checkpoint.parquet") for path in log.iterdir())
    for path in log.iterdir():
        os.utime(path, (time.time() - 90 * DAY,) * 2)
    put(0)
    assert lake.scan("toy", version=first).collect()["x"].to_list() == [1]
    assert lake.scan("toy").collect().height == 103


def test_a_commit_by_another_process_is_seen_though_the_table_is_open_here(home: Path, new_ledger: Callable[[], str]) -> None:
    put(1)
    other = (
        "import polars as pl; from tasks.stores import lake; s = {'x': pl.Int64, '_file': pl.String};"
        "lake.commit('toy', 'rows', [pl.DataFrame({'x': [2], '_file': ['b']}, schema=s)], s, [], token=1)"
    )
    subprocess.run([sys.executable, "-c", other], check=True, timeout=60)
    assert sorted(lake.scan("toy").collect()["x"].to_list()) == [1, 2]
