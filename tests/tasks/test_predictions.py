"""The prediction log: no request waits for it, what it took is in the lake once, and what it loses is stated and counted."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from deployments import doctor
from flows import pipelines
from tasks import predictions, served
from tasks.errors import Breakdown
from tasks.predictions import Limits, PredictionLog
from tasks.served import Served
from tasks.services import Serving
from tasks.stores import journal, spool
from tests.waiting import until

QUICK = Limits(drain=0.05, commit=0.2)
SLOW = Limits(drain=0.05, commit=3600)
MOMENT = 1_790_000_000.25


def answered(number: int, count: int = 1, **changed: Any) -> Served:
    """Make a request of the toy pipeline with a number of its own."""
    moment = changed.pop("moment", MOMENT)
    columns = {
        "id": list(range(count)),
        "at": [datetime(2024, 1, 1, 0, number % 60)] * count,
        "x": [0.1 * number] * count,
        "colour": ["red", None][number % 2 : number % 2 + 1] * count,
    }
    made = Served(
        request=f"{int(moment * 1000):012x}{number:016x}",
        moment=moment,
        version=3,
        cycle=7,
        role="champion",
        rows=columns,
        answers={"predicted": [1] * count, "p_1": [0.25 + number / 7] * count},
    )
    return replace(made, **changed)


def logged(pipeline: str = "toy") -> pl.DataFrame:
    return journal.scan(pipeline).collect()


def log(limits: Limits = SLOW, **serving: Any) -> PredictionLog:
    return PredictionLog(replace(pipelines.get("toy"), serving=Serving(**serving)), "here/1-2", limits)


def test_what_was_added_is_in_the_lake_once_it_is_closed_with_every_value_as_it_was_served(home: Path) -> None:
    ours = log()
    for number in range(3):
        ours.add(answered(number, count=number + 1))
    ours.close()
    found = logged().sort("_prediction")
    assert found["_prediction"].to_list() == [f"{answered(number).request}-{row}" for number in range(3) for row in range(number + 1)]
    assert found.row(5, named=True) == {
        "_prediction": f"{answered(2).request}-2",
        "_time": datetime(2026, 9, 21, 14, 13, 20, 250000),
        "_version": 3,
        "_cycle": 7,
        "_role": "champion",
        "_server": "here/1-2",
        "id": 2,
        "at": datetime(2024, 1, 1, 0, 2),
        "x": 0.1 * 2,
        "colour": "red",
        "_predicted": 1,
        "_p_1": 0.25 + 2 / 7,
    }
    assert ours.counts == (0, 6, 0)
    assert not any(spool.place("toy").iterdir())


def test_it_reaches_the_lake_by_itself_while_the_server_runs(home: Path) -> None:
    ours = log(QUICK)
    ours.add(answered(1))
    until(lambda: logged().height == 1)
    ours.add(answered(2))
    until(lambda: logged().height == 2)
    ours.close()
    assert logged().height == 2
    ours.close()  # twice is as once
    ours.add(answered(3))
    assert ours.counts == (0, 2, 1)


def test_a_full_queue_drops_the_newest_and_counts_them_and_no_request_waits(home: Path) -> None:
    ours = log(Limits(rows=10, drain=3600, commit=3600))
    for number in range(4):
        ours.add(answered(number, count=4))
    assert ours.counts == (8, 0, 8)
    ours.close()
    assert ours.counts == (0, 8, 8)
    assert logged().height == 8


def test_few_large_requests_fill_the_queue_too(home: Path) -> None:
    ours = log(Limits(bytes=100, drain=3600, commit=3600))
    ours.add(answered(1, size=20))
    ours.add(answered(2, size=90))
    assert ours.counts == (1, 0, 1)
    ours.close()
    assert ours.counts == (0, 1, 1)


def test_switched_off_it_keeps_nothing_and_starts_nothing(home: Path) -> None:
    ours, threads = log(log=False), threading.active_count()
    ours.add(answered(1))
    assert threading.active_count() == threads
    ours.close()
    assert ours.counts == (0, 0, 0)
    assert not home.exists()


def test_private_columns_are_in_no_byte_on_disk(home: Path) -> None:
    ours = log(private=("colour", "x"))
    rows = {**answered(1).rows, "colour": ["a very private matter"], "x": [123456.789]}
    ours.add(answered(1, rows=rows))
    until(lambda: ours.counts[1] == 1)
    assert list(spool.waiting("toy"))
    seen = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    ours.close()
    seen += [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert logged().height == 1
    assert {"colour", "x"}.isdisjoint(logged().columns)
    assert not [content for content in seen if b"private matter" in content or b"colour" in content]


CHILD = """
import sys, time
from pathlib import Path
from tests.tasks.test_predictions import SLOW, answered, log
ours = log(SLOW)
for number in range(int(sys.argv[1])):
    ours.add(answered(number))
    print(number, time.monotonic(), flush=True)
    time.sleep(0.002)
"""


@contextmanager
def serving(body: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", body, *words], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_server_that_is_killed_loses_the_last_second_at_most_and_the_next_one_finishes_its_work_once(home: Path) -> None:
    with serving(CHILD, "100000") as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(700)]
        killed = time.monotonic()
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    told = [line.split() for line in lines if line.endswith("\n")]
    old = {f"{answered(int(number)).request}-0" for number, at in told if float(at) < killed - 1}
    assert len(old) > 100
    ours = log(QUICK)
    ours.add(answered(999_999))
    until(lambda: logged().height > 1)
    ours.close()
    found = logged()["_prediction"]
    assert old <= set(found)
    assert found.is_unique().all()
    assert not any(spool.place("toy").iterdir())


def test_a_server_that_is_asked_to_end_loses_nothing(home: Path) -> None:
    body = CHILD.replace("for number", "import signal\nsignal.signal(signal.SIGTERM, lambda *_: (ours.close(), sys.exit(0)))\nfor number")
    with serving(body, "100000") as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(300)]
        process.terminate()
        lines += process.stdout.readlines()
        assert process.wait(30) == 0
    assert {f"{answered(int(line.split()[0])).request}-0" for line in lines} <= set(logged()["_prediction"])


def test_what_one_dead_server_left_and_the_lake_does_not_take_keeps_no_other_from_it(home: Path) -> None:
    for batches in ([batch(1)], [pa.record_batch({"_prediction": ["x-0"], "_time": ["no moment"]})], [batch(2)]):
        dead = spool.Writer("toy")
        dead.append(batches)
        os.close(dead._lock)
    with pytest.raises(Breakdown, match="it is tried again"):
        predictions.adopt("toy")
    assert sorted(logged()["_prediction"]) == [f"{answered(number).request}-0" for number in (1, 2)]
    assert len(list(spool.waiting("toy"))) == 1


def test_the_doctor_finds_predictions_that_wait_for_long(home: Path) -> None:
    assert list(doctor._logs()) == []
    writer = spool.Writer("toy")
    writer.append([batch(1)])
    (fresh,) = doctor._logs()
    for path in writer.directory.glob("*.arrow"):
        os.utime(path, (time.time() - 600,) * 2)
    (late,) = doctor._logs()
    assert (fresh.ok, late.ok) == (True, False)
    assert "bytes wait in" in late.found
    writer.close()


def test_a_crash_between_commit_and_removal_adds_nothing_twice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = log()
    ours.add(answered(1))
    until(lambda: ours.counts[1] == 1)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError("killed here")))
        ours.close()
    assert logged().height == 1
    assert [batch.num_rows for batch in spool.waiting("toy")] == [1]
    predictions.adopt("toy")
    assert logged().height == 1
    assert not any(spool.place("toy").iterdir())


def test_what_a_dead_server_left_is_taken_by_one_of_several_and_that_of_a_living_one_by_none(home: Path) -> None:
    living = log()
    living.add(answered(1))
    until(lambda: living.counts[1] == 1)
    dead = spool.Writer("toy")
    dead.append([batch(2)])
    dead.seal()
    os.close(dead._lock)
    threads = [threading.Thread(target=predictions.adopt, args=("toy",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logged()["_prediction"].to_list() == [f"{answered(2).request}-0"]
    living.close()
    assert logged().height == 2


def batch(number: int) -> pa.RecordBatch:
    return served.batch_of([answered(number)], served.types_of(pipelines.get("toy")), (), "there")


def test_two_servers_write_to_one_table_at_once(home: Path) -> None:
    body = CHILD.replace("log(SLOW)", "log(QUICK)").replace("SLOW", "QUICK") + "\nours.close()"
    with (
        serving(body.replace("range(", "range(0, "), "150") as one,
        serving(body.replace("range(int", "range(1000, 1000 + int"), "150") as two,
    ):
        for process in (one, two):
            process.communicate(timeout=60)
    found = logged()["_prediction"]
    assert found.len() == 300
    assert found.is_unique().all()


def test_while_the_lake_is_away_predictions_wait_up_to_a_number_of_bytes_and_come_in_when_it_is_back(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "away").write_text("no directory")
    monkeypatch.setenv("RATCHET_LAKE", str(tmp_path / "away"))
    ours = log(Limits(drain=0.02, commit=0.1, spool=20_000))
    for number in range(400):
        ours.add(answered(number))
        time.sleep(0.002)
    until(lambda: ours.counts[0] == 0)
    _, kept, dropped = ours.counts
    assert kept + dropped == 400
    assert kept > 20
    assert dropped > 20
    assert spool.size("toy") <= 20_000
    (tmp_path / "away").unlink()
    until(lambda: spool.size("toy") == 0)
    ours.add(answered(1000))
    ours.close()
    assert logged().height == kept + 1


def test_a_full_disk_is_counted_and_once_there_is_space_the_log_goes_on(
    home: Path, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_HOME", str(small_disk))
    monkeypatch.setenv("RATCHET_LAKE", str(tmp_path / "lake"))
    ours = log(QUICK)
    ours.add(answered(1))
    until(lambda: ours.counts[1] == 1)
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1000)
    ours.add(answered(2, count=500))
    until(lambda: ours.counts[2] == 500)
    ballast.unlink()
    ours.add(answered(3))
    ours.close()
    assert ours.counts == (0, 2, 500)
    assert sorted(logged()["_prediction"]) == [f"{answered(number).request}-0" for number in (1, 3)]


def test_a_file_that_was_cut_short_anywhere_gives_its_whole_batches(home: Path) -> None:
    writer = spool.Writer("toy")
    writer.append([batch(1)])
    writer.append([batch(2)])
    writer.seal()
    (path,) = writer.sealed()
    whole, cut = path.read_bytes(), path.with_name("cut")
    found = []
    for size in range(0, len(whole) + 1, 7):
        cut.write_bytes(whole[:size])
        found.append(sum(part.num_rows for part in spool.read(cut)))
    cut.write_bytes(whole[: len(whole) // 2] + bytes(len(whole)))  # as some file systems leave it when the power goes
    assert sum(part.num_rows for part in spool.read(cut)) <= 1
    assert (min(found), max(found)) == (0, 1 if len(whole) % 7 else 2)
    assert found == sorted(found)
    writer.close()


def test_a_changed_contract_adds_its_columns_and_gives_a_changed_type_a_column_of_its_own(home: Path) -> None:
    first = log()
    first.add(answered(1))
    first.close()
    changed = PredictionLog(pipelines.get("toy"), "here", SLOW)
    changed._types = {**served.types_of(pipelines.get("toy")), "x": pa.string(), "size": pa.float64()}
    rows = {**answered(2).rows, "x": ["much"], "size": [1.5]}
    changed.add(answered(2, rows=rows))
    changed.add(answered(3))  # a version with the old columns still answers beside it
    changed.close()
    found = logged().sort("_prediction")
    assert changed.counts == (0, 2, 0)
    assert found["x"].to_list() == [0.1, None, 0.1 * 3]
    assert found["_as_string_x"].to_list() == [None, "much", None]
    assert found["size"].to_list() == [None, 1.5, None]


@pytest.mark.parametrize(
    ("parts", "dtype", "made"),
    [
        ([[1, None], pl.Series([3])], pa.int64(), pa.array([1, None, 3])),
        ([[1.5]], pa.int64(), pa.array([1.5])),
        ([[1]], pa.float64(), pa.array([1.0])),
        ([[2**60 + 1]], pa.float64(), pa.array([2**60 + 1])),
        ([["2024-01-02T03:04:05"]], pa.timestamp("us"), pa.array([datetime(2024, 1, 2, 3, 4, 5)])),
        ([["a"]], pa.float64(), pa.array(["a"])),
        ([[2**70]], pa.int64(), pa.array([str(2**70)])),
        ([[1, "a", None]], pa.int64(), pa.array(["1", "a", None])),
        ([["\ud800"]], pa.string(), pa.array(["\\ud800"])),
        ([[None]], None, pa.array([None], pa.string())),
        ([[date(2024, 1, 2)]], pa.timestamp("us"), pa.array([datetime(2024, 1, 2)])),
        ([[date(2024, 1, 2), -719163]], None, pa.array(["2024-01-02", "-719163"])),
        ([[-719163]], pa.date32(), pa.array([-719163])),
        ([[{"a": 1}]], None, pa.array(["{'a': 1}"])),
    ],
)
def test_any_value_becomes_a_column(parts: list[Any], dtype: pa.DataType | None, made: pa.Array) -> None:
    assert served.array_of(parts, dtype).equals(made)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=5),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([None, UTC])),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
)


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, *served.ARROW.values()]))
@budget(deadline=None)
def test_whatever_the_values_are_they_become_a_column_of_a_known_type_and_no_number_becomes_another(
    values: list[Any], dtype: pa.DataType | None
) -> None:
    made = served.array_of([values], dtype)
    assert made.type in served.ARROW.values()
    assert [value is None for value in made.to_pylist()] == [value is None for value in values]
    if pa.types.is_integer(made.type) or pa.types.is_floating(made.type):
        numbers = [(given, found) for given, found in zip(values, made.to_pylist(), strict=True) if isinstance(given, (int, float))]
        assert all(given == found or (given != given and found != found) for given, found in numbers)


def test_one_request_that_cannot_be_logged_takes_no_other_with_it(home: Path) -> None:
    ours = log()
    ours.add(answered(1))
    ours.add(answered(2, answers={"predicted": [1, 1], "p_1": [0.5]}))
    ours.add(replace(answered(3), moment=float("inf")))
    ours.add(replace(answered(4), version="three"))  # type: ignore[arg-type]
    ours.add(answered(5))
    ours.close()
    assert ours.counts == (0, 2, 4)
    assert logged().height == 2


def test_requests_of_many_rows_and_columns_are_parted_in_small_batches() -> None:
    parts = [answered(number, count=700) for number in range(6)] + [answered(9, count=3000), answered(10, answers={"predicted": [1]})]
    groups = list(served.grouped(parts))
    assert sum(len(group) for group in groups) == len(parts)
    assert all(sum(part.count for part in group) <= served.AT_ONCE or len(group) == 1 for group in groups)
    assert len(groups) < len(parts)
    large = [replace(answered(number), size=served.LARGE // 3) for number in range(7)]
    assert [len(group) for group in served.grouped(large)] == [3, 3, 1]
    assert all(len({(*part.rows, *part.answers) for part in group}) == 1 for group in groups)


def test_a_spool_that_somebody_removed_is_begun_anew(home: Path) -> None:
    ours = log()
    ours.add(answered(1))
    until(lambda: ours.counts[1] == 1)
    shutil.rmtree(spool.place("toy"))
    ours.add(answered(2))
    ours.close()
    assert f"{answered(2).request}-0" in set(logged()["_prediction"])


def test_old_predictions_are_removed_with_their_files_and_small_files_are_joined_while_servers_go_on(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = replace(pipelines.get("toy"), serving=Serving(retention_days=10))
    for number in range(20):
        kept = PredictionLog(spec, "here", SLOW)
        kept.add(answered(number))
        kept.add(answered(number + 100, moment=MOMENT - 12 * 86_400))
        kept.close()
    living = log(QUICK)
    living.add(answered(1000))
    today = datetime.fromtimestamp(MOMENT, UTC).date()
    assert predictions.upkeep(spec, today) == ()
    living.add(answered(1001))
    living.close()
    found = logged()
    assert sorted(found["_prediction"]) == sorted(f"{answered(number).request}-0" for number in (*range(20), 1000, 1001))
    place = home / "lake" / "toy" / "predictions"
    assert len(list(place.glob("_day=2026-09-21/*.parquet"))) > 20  # those that were joined stay for a day: somebody may be reading them
    for path in place.rglob("*.parquet"):
        os.utime(path, (time.time() - 2 * 86_400,) * 2)
    monkeypatch.setattr(journal, "_KEPT_HOURS", 0)
    monkeypatch.setattr(journal, "_ENFORCED", False)
    assert predictions.upkeep(spec, today) == ()
    assert len(list(place.glob("_day=2026-09-21/*.parquet"))) <= 3
    assert not list(place.glob("_day=2026-09-09/*.parquet"))
    assert logged().height == 22


def test_a_column_that_becomes_private_is_emptied_and_its_values_leave_the_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = log()
    ours.add(answered(1, rows={**answered(1).rows, "colour": ["a very private matter"]}))
    ours.close()
    other = log()
    other.add(answered(2, rows={**answered(2).rows, "colour": [17]}))  # of another type: it lies in a column of its own
    other.close()
    assert set(logged().columns) >= {"colour", "_as_int64_colour"}
    spec = replace(pipelines.get("toy"), serving=Serving(private=("colour",)))
    living = PredictionLog(spec, "here", QUICK)
    living.add(answered(3))
    living.close()
    monkeypatch.setattr(journal, "_KEPT_HOURS", 0)
    monkeypatch.setattr(journal, "_ENFORCED", False)
    today = datetime.fromtimestamp(MOMENT, UTC).date()
    assert predictions.upkeep(spec, today) == predictions.upkeep(spec, today) == ()
    found = logged()
    assert found.height == 3
    assert found.select("colour", "_as_int64_colour").null_count().row(0) == (3, 3)
    assert found["x"].null_count() == 0
    assert not [path for path in home.rglob("*.parquet") if b"private matter" in path.read_bytes()]


def test_tidying_up_where_there_is_no_log_does_nothing_and_where_it_cannot_be_done_is_told(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert predictions.upkeep(pipelines.get("toy")) == ()
    assert not home.exists()
    ours = log()
    ours.add(answered(1))
    ours.close()
    (home / "lake" / "toy" / "predictions" / "_delta_log" / f"{0:020d}.json").write_text("{")
    (told,) = predictions.upkeep(pipelines.get("toy"))
    assert "was not tidied up" in told
