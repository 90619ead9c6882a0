"""What many tests need: a home of their own, and the test pipelines."""

from pathlib import Path

import pytest

PIPELINES = Path(__file__).parent / "pipelines"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of this test alone, with the test pipelines and without waiting for files to settle."""
    monkeypatch.setenv("RATCHET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RATCHET_PIPELINES", str(PIPELINES))
    monkeypatch.setenv("RATCHET_SETTLE", "0")
    for name in ("RATCHET_LEDGER_URL", "RATCHET_LAKE", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"
