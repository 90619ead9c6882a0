"""Observe: every version of a file is recorded once, what moves while it is looked at is left for the next look, and nothing else is read."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks import observe
from tasks.errors import SourceUnavailable
from tasks.observe import revisit, survey
from tasks.records import Look
from tasks.stores import files, ledger


@pytest.fixture
def source(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def recorded() -> list[str]:
    return sorted(arrival.name for arrival in ledger.history("p"))


@contextmanager
def held_open(path: Path) -> Iterator[None]:
    """Let another process hold a file open for writing, as a slow upload does."""
    code = (
        "import sys, pathlib; f = pathlib.Path(sys.argv[1]).open('a'); f.write('x'); f.flush(); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        yield


def test_all_files_are_recorded_once_however_many_there_are_and_however_often_they_are_listed(source: Path) -> None:
    names = {f"{number:04}.csv" for number in range(observe.AT_ONCE + 3)}
    for name in names:
        (source / name).write_text(name)
    first = survey("p", str(source))
    assert {arrival.name for arrival in first.recorded} == names
    assert survey("p", str(source)).recorded == ()
    assert recorded() == sorted(names)


def test_what_is_ignored_is_counted_and_the_first_of_it_named(source: Path) -> None:
    for number in range(observe.NAMED + 5):
        (source / f".{number}.csv").touch()
    found = survey("p", str(source))
    assert (found.files, found.ignored_files, len(found.ignored)) == (0, observe.NAMED + 5, observe.NAMED)


def test_a_file_that_is_open_for_writing_is_left_until_it_is_closed(source: Path) -> None:
    path = source / "slow.csv"
    with held_open(path):
        found = survey("p", str(source))
        assert (found.recorded, [look.name for look in found.settling]) == ((), ["slow.csv"])
    assert [arrival.name for arrival in revisit("p", str(source), [str(path)]).recorded] == ["slow.csv"]


def test_a_file_that_was_just_written_is_left_for_the_next_look_and_one_that_was_moved_into_place_is_not(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_SETTLE", "600")
    (source / "written.csv").write_text("x")
    (source.parent / "made.csv").write_text("y")
    time.sleep(0.02)  # more than a tick of the file system's clock: a rename shows
    (source.parent / "made.csv").rename(source / "moved.csv")
    found = survey("p", str(source))
    assert [arrival.name for arrival in found.recorded] == ["moved.csv"]
    assert [look.name for look in found.settling] == ["written.csv"]


@pytest.mark.parametrize("moment", [0, 4102444800], ids=["1970", "2100"])
def test_files_whose_clock_was_wrong_are_taken_in_and_their_next_version_too(source: Path, moment: int) -> None:
    path = source / "a.csv"
    for content in ("one", "two"):  # of the same length and the same date
        path.write_text(content)
        os.utime(path, (moment, moment))
        assert [arrival.name for arrival in survey("p", str(source)).recorded] == ["a.csv"]
    assert survey("p", str(source)).recorded == ()


class Slow:
    """Reads of a file that stop in the middle until they are told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reading, self.go_on = threading.Event(), threading.Event()
        plain = os.fstat

        def fstat(number: int) -> os.stat_result:
            found = plain(number)
            if threading.current_thread().name == "survey" and not self.reading.is_set():
                self.reading.set()
                assert self.go_on.wait(20)
            return found

        monkeypatch.setattr(files.os, "fstat", fstat)


@pytest.mark.parametrize("what", ["deleted", "replaced", "written to"])
def test_a_file_that_is_changed_while_it_is_read_is_not_recorded_as_what_it_was(
    source: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    path, slow, found = source / "a.csv", Slow(monkeypatch), []
    path.write_text("one")
    (source / "b.csv").write_text("other")
    thread = threading.Thread(target=lambda: found.append(survey("p", str(source))), name="survey")
    thread.start()
    assert slow.reading.wait(20)
    if what == "deleted":
        path.unlink()
    elif what == "replaced":
        (source.parent / "new").write_text("two")
        (source.parent / "new").rename(path)
    else:
        path.write_text("two")
    slow.go_on.set()
    thread.join(20)
    assert [arrival.name for arrival in found[0].recorded] == ["b.csv"]
    assert [look.name for look in found[0].settling] == ["a.csv"]
    revisit("p", str(source), [str(path)])
    assert recorded() == (["b.csv"] if what == "deleted" else ["a.csv", "b.csv"])


def looks(source: Path, *paths: Path) -> list[str]:
    entries = files.look_again(str(source), [str(path) for path in paths])
    return [entry.name if isinstance(entry, Look) else f"ignored {entry.partition(':')[0]}" for entry in entries]


def test_a_second_look_ignores_what_the_listing_ignores(source: Path) -> None:
    outside = source.parent / "elsewhere"
    (source / ".hidden").mkdir()
    (source / "2024").mkdir()
    outside.mkdir()
    for path in (outside / "x.csv", source / ".hidden" / "y.csv", source / "2024" / "z.csv", source / "w.tmp"):
        path.write_text("x")
    (source / "file.csv").symlink_to(outside / "x.csv")
    (source / "link").symlink_to(outside)
    listed = {entry.name for entry in files.look(str(source)) if isinstance(entry, Look)}
    told = [source / ".hidden" / "y.csv", source / "2024" / "z.csv", source / "2024", source / "w.tmp", source / "file.csv"]
    again = looks(source, *told, source / "link" / "x.csv", source / "link")
    assert listed == {"2024/z.csv"} == {name for name in again if not name.startswith("ignored")}


def test_a_second_look_at_something_outside_of_the_source_sees_nothing(source: Path) -> None:
    (source.parent / "sibling.csv").write_text("x")
    (source / "a.csv").write_text("x")
    assert looks(source, source.parent / "sibling.csv", source, source / "a.csv", source / ".." / "sibling.csv") == ["a.csv"]


def test_files_that_come_and_go_while_they_are_looked_at_again_are_there_or_not_and_nothing_else(source: Path) -> None:
    path, done = source / "a.csv", threading.Event()

    def come_and_go() -> None:
        while not done.is_set():
            path.write_text("x")
            path.unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        seen = {tuple(looks(source, path)) for _ in range(3000)}
    finally:
        done.set()
        thread.join()
    assert seen <= {(), ("a.csv",)}
    assert seen


def test_a_source_that_is_not_there_is_refused_and_nothing_is_recorded(source: Path) -> None:
    (source / "a.csv").write_text("x")
    source.rename(source.with_name("away"))
    with pytest.raises(SourceUnavailable, match="nearest directory"):
        survey("p", str(source))
    assert revisit("p", str(source), [str(source / "a.csv")]).recorded == ()
    assert recorded() == []
