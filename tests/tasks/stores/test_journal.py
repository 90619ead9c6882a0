"""The table of logged predictions over months: what has a mark is added once, also when the log's old entries are gone."""

import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.errors import Breakdown, DiskFull
from tasks.stores import delta, journal

SCHEMA = pa.schema([("_prediction", pa.string()), ("_time", pa.timestamp("us")), ("x", pa.int64())])


def put(number: int, writer: str = "a") -> bool:
    batch = pa.record_batch({"_prediction": [f"{writer}{number}"], "_time": pa.array([number], pa.timestamp("us")), "x": [number]})
    return journal.append("toy", SCHEMA, [batch.cast(SCHEMA)], (writer, number))


def test_a_mark_is_used_once_also_after_old_entries_of_the_log_were_removed(home: Path) -> None:
    log = home / "lake" / "toy" / "predictions" / "_delta_log"
    assert put(1, "early")
    for number in range(1, 200):
        assert put(number)
        if number == 120:
            for path in log.iterdir():
                os.utime(path, (time.time() - 90 * 86_400,) * 2)
    assert not (log / f"{1:020d}.json").exists()  # else this shows nothing
    assert not any((put(199), put(120), put(1), put(1, "early")))
    assert put(200)
    found = journal.scan("toy").collect()
    assert found.height == 201
    assert found["_prediction"].is_unique().all()


def test_a_full_disk_and_a_table_that_cannot_be_read_are_told_apart(home: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_LAKE", str(small_disk / "lake"))
    assert put(1)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1000)
    with pytest.raises(DiskFull):
        put(2)
    ballast.unlink()
    assert put(2)
    assert journal.scan("toy").collect().height == 2
    (Path(delta.uri("toy", "predictions")) / "_delta_log" / f"{2:020d}.json").write_text("{")
    with pytest.raises(Breakdown, match="tried again"):
        put(3)
