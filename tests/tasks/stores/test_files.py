"""A source on local disk: what is taken in, what is ignored and why, and when a stamp can be trusted."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import Changed, SourceUnavailable
from tasks.records import Look
from tasks.stores import files, names


def looks(source: Path) -> list[Look]:
    return [entry for entry in files.look(str(source)) if isinstance(entry, Look)]


def test_files_are_listed_in_order_of_name_and_everything_else_is_ignored_with_a_reason(tmp_path: Path) -> None:
    source, outside = tmp_path / "in", tmp_path / "secret.csv"
    (source / "2024").mkdir(parents=True)
    (source / ".hidden").mkdir()
    outside.write_text("x")
    for name in ("b.csv", "a.CSV.gz", "2024/c.parquet", "notes.txt", ".d.csv", "e.csv.tmp", "_f.csv", ".hidden/g.csv"):
        (source / name).write_text("x")
    (source / "out.csv").symlink_to(outside)
    (source / "gone.csv").symlink_to(tmp_path / "absent")
    (source / "loop").symlink_to(source)
    (source / "inside.csv").symlink_to(source / "b.csv")
    os.mkfifo(source / "pipe.csv")
    assert [look.name for look in looks(source)] == ["2024/c.parquet", "a.CSV.gz", "b.csv", "inside.csv"]
    reasons = dict(entry.rsplit(": ", 1) for entry in files.look(str(source)) if isinstance(entry, str))
    assert reasons["out.csv"] == reasons["gone.csv"] == "a link that leads out of the source or to no file"
    assert reasons["pipe.csv"] == "not a regular file"
    assert reasons["notes.txt"] == "an ending that is not read"
    assert {".d.csv", "e.csv.tmp", "_f.csv", ".hidden/", "loop"} <= reasons.keys()


def test_a_single_file_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    assert [look.name for look in looks(tmp_path / "a.csv")] == ["a.csv"]


def test_a_source_that_does_not_exist_is_refused_with_the_nearest_directory(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=f"nearest directory that does is {tmp_path}"):
        looks(tmp_path / "a" / "b")


def test_bytes_that_changed_since_the_listing_are_not_fetched(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("one")
    (listed,) = looks(tmp_path)
    path.write_text("two")
    with pytest.raises(Changed):
        files.fetch(listed, tmp_path)
    path.unlink()
    with pytest.raises(Changed, match="looked at again"):
        files.fetch(listed, tmp_path)


def test_a_stamp_is_trusted_only_when_the_file_was_quiet_before_it_was_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x")
    (look,) = looks(tmp_path)
    assert not files.trusted(look, time.time())
    assert files.trusted(look, time.time() + 10)
    assert files.settled(look, now=time.time() + 1, quiet=0.5)


def test_ten_thousand_files_are_listed_in_a_moment(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.csv").touch()
    assert len(looks(tmp_path)) == 10_000


def test_a_landed_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    assert files.land(b"a,b\n", tmp_path / "new", "a.csv").read_bytes() == b"a,b\n"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.csv"]


@given(st.text(min_size=1, max_size=20))
def test_any_name_is_either_fit_or_has_a_reason(name: str) -> None:
    reason = names.unfit(name)
    assert reason is None or reason
    if reason is None:
        assert name.lower().endswith(names.SUFFIXES)
        assert ".." not in name.split("/")
