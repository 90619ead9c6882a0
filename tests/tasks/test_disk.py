"""A full disk stops a cycle cleanly: nothing half is seen, nothing is lost, and with space again the work is done."""

from pathlib import Path

import pytest

from tasks.errors import DiskFull, RatchetError
from tasks.stores import lake, ledger
from tests.landing import arrival, take_in, toy_rows


def land(source: Path) -> None:
    source.mkdir()
    (source / "a.csv").write_text(toy_rows(60_000).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S"))


def test_a_full_lake_keeps_its_last_version_and_takes_the_rows_when_there_is_space(
    home: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_LAKE", str(small_disk / "lake"))
    land(tmp_path / "in")
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 1_900_000)
    with pytest.raises(DiskFull, match="Free space and run again"):
        take_in(tmp_path / "in")
    assert arrival("a.csv").state == "pending"
    ballast.unlink()
    monkeypatch.setenv("RATCHET_LAKE", str(tmp_path / "elsewhere"))
    assert take_in(tmp_path / "in").accepted == 60_000
    assert lake.scan("toy").collect().height == 60_000


def test_a_full_disk_while_staging_leaves_the_arrival_pending(
    home: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    land(tmp_path / "whole")
    monkeypatch.setattr("tests.landing.STAGING", small_disk / "staged")
    with pytest.raises(DiskFull, match="arrivals stay pending"):
        take_in(tmp_path / "whole")
    assert [found.name for found in ledger.outstanding("toy")] == ["a.csv"]
    assert not lake.exists("toy")


def test_a_full_ledger_refuses_the_change_and_goes_on_when_there_is_space(
    home: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_LEDGER_URL", f"sqlite:///{small_disk / 'ledger.db'}")
    assert ledger.champion("toy") is None
    ballast = small_disk / "ballast"
    with pytest.raises(OSError, match="No space"), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1000)
    with pytest.raises(RatchetError, match="ledger"):
        for number in range(50):
            ledger.begin(f"p{number}", trigger="test", definition="d" * 10_000, flow_run=None)
    ballast.unlink()
    assert ledger.begin("after", trigger="test", definition="d", flow_run=None).cycle == 1
