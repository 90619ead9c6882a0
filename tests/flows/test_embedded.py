"""Flows find their servers and their number of workers when they are called, not when they are imported."""

import os
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY

from flows.embedded import Workers, connected


def test_a_run_has_as_many_workers_as_the_settings_say_when_it_starts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Workers()
    monkeypatch.setenv("RATCHET_WORKERS", "3")
    assert runner.duplicate()._max_workers == 3


def test_servers_that_the_environment_names_are_used_inside_the_block_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")
    with connected():
        assert PREFECT_API_URL.value() == "http://127.0.0.1:1/api"
        assert PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value() is None
        assert os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] == "false"
    assert "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE" not in os.environ
    assert not (home / "stack.json").exists() or "pid" not in (home / "stack.json").read_text()
