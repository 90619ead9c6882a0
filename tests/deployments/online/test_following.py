"""A server follows its champion under load, goes on with the last good version whatever is away, and loses no request when it ends."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from tasks.records import Champion
from tasks.stores import kept, ledger
from tests.deployments.online.test_api import MINE
from tests.servers.online import Running, enthrone, serving
from tests.stored import sorts_rows, store
from tests.waiting import until

pytestmark = pytest.mark.slow
ROW = {"width": 0.4, "height": 1.7}


@pytest.fixture
def two(home: Path, tmp_path: Path) -> tuple[Champion, Champion]:
    """Two models of one pipeline, stored and not yet in service."""
    rows = sorts_rows(600)
    return tuple(store("sorts", part, tmp_path / name).candidate for name, part in (("a", rows.head(300)), ("b", rows.tail(300))))  # type: ignore[return-value]


@pytest.fixture
def running(two: tuple[Champion, Champion], tmp_path: Path) -> Iterator[Running]:
    """A server of the first."""
    enthrone(two[0], 1)
    with serving("sorts", tmp_path / "server.log") as found:
        yield found


class Load:
    """Clients that ask again and again until they are told to stop."""

    def __init__(self, running: Running, clients: int = 3) -> None:
        self.answers: list[tuple[int, str, Any]] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(str(running.client.base_url),)) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    reply = client.post("/v1/predict", json={"rows": [ROW]})
                except httpx.TransportError as error:
                    self.failures.append(repr(error))
                    continue
                if reply.status_code == 200:
                    told = reply.json()
                    self.answers.append((told["version"], reply.headers["x-model-version"], told["predictions"][0]["p_flat"]))
                else:
                    self.failures.append(reply.text)


def test_versions_change_under_load_without_a_failed_or_a_mixed_answer(running: Running, two: tuple[Champion, Champion]) -> None:
    expected = {}
    with Load(running) as load:
        for version in range(2, 8):
            enthrone(two[version % 2], version)
            until(lambda: running.version() == version, f"version {version} answers")  # noqa: B023
            expected[version] = running.predict([ROW]).json()["predictions"][0]["p_flat"]
    assert load.failures == []
    assert {version for version, _, _ in load.answers} >= set(range(2, 8))
    assert all(str(version) == header for version, header, _ in load.answers)
    assert all(chance == expected[version] for version, _, chance in load.answers if version > 1)
    assert expected[2] != expected[3]


def test_a_rollback_reaches_the_server(running: Running, two: tuple[Champion, Champion]) -> None:
    enthrone(two[1], 2)
    until(lambda: running.version() == 2, "version 2 answers")
    enthrone(two[0], 1, how="rolled back", who="anna", reason="it was worse")
    until(lambda: running.version() == 1, "version 1 answers again")


def test_a_rollback_is_followed_though_the_files_of_the_version_before_it_do_not_come(
    two: tuple[Champion, Champion], tmp_path: Path, silent: socket.socket
) -> None:
    enthrone(two[0], 1)
    shutil.rmtree(kept.place(two[1].sha256))
    with serving("sorts", tmp_path / "server.log") as running:
        enthrone(two[1], 2)
        with silent.accept()[0]:
            assert running.version() == 1
            enthrone(two[0], 3)
            until(lambda: running.version() == 3, "the rollback is followed")


def test_a_server_whose_registry_hangs_before_it_has_any_version_says_that_it_lives_and_ends_when_it_is_told_to(
    two: tuple[Champion, Champion], tmp_path: Path, silent: socket.socket
) -> None:
    enthrone(two[0], 1)
    shutil.rmtree(kept.place(two[0].sha256))
    with serving("sorts", tmp_path / "server.log", wait=False) as running, silent.accept()[0]:
        until(lambda: "ready" in running.status(), "the server answers", 60)
        assert running.client.get("/healthz").status_code == 200
        assert running.status()["ready"] is False
        assert running.predict([ROW]).status_code == 503
        enthrone(two[1], 2)
        until(lambda: running.version() == 2, "a version whose files are here is served")
        enthrone(two[0], 3)
        with silent.accept()[0]:
            running.process.send_signal(signal.SIGTERM)
            running.process.wait(timeout=10)


def test_a_version_whose_bytes_were_changed_is_refused_and_the_one_before_goes_on(running: Running, two: tuple[Champion, Champion]) -> None:
    stored = kept.place(two[1].sha256) / "model.skops"
    stored.write_bytes(stored.read_bytes()[:-100])
    enthrone(two[1], 2)
    refused = until(lambda: running.status().get("refused"), "version 2 is refused")
    assert refused["version"] == 2
    assert "could not be brought" in refused["why"]
    reply = running.predict([ROW])
    assert (reply.status_code, reply.json()["version"]) == (200, 1)
    until(lambda: any(step.step == "refused" and step.version == 2 for step in ledger.steps("sorts")), "the ledger is told")
    (server,) = until(lambda: [one for one in ledger.servers("sorts") if one.state["refused"]], "the ledger has its state")
    assert (server.state["version"], server.state["refused"]["version"]) == (1, 2)
    enthrone(two[0], 3)
    until(lambda: running.version() == 3, "a sound version answers")
    assert running.status()["refused"] is None


def test_a_version_that_gives_undefined_figures_is_refused(running: Running, tmp_path: Path) -> None:
    def spoiled(model: Any) -> Any:
        model.coef_[:] = float("nan")
        return model

    enthrone(store("sorts", sorts_rows(), tmp_path / "spoiled", spoil=spoiled).candidate, 2)
    refused = until(lambda: running.status().get("refused"), "version 2 is refused")
    assert "undefined or infinite" in refused["why"]
    assert running.predict([ROW]).json()["version"] == 1


def test_the_last_good_version_goes_on_and_starts_again_while_the_ledger_is_away(running: Running, home: Path, tmp_path: Path) -> None:
    for path in home.glob("ledger.db*"):
        with path.open("r+b") as file:  # not cut short: the system ends a process that looks behind the end of a file in its memory
            file.write(b"this is no database any more" * 10_000)
    until(lambda: running.status()["ledger"] != "answers", "the server notices")
    assert running.predict([ROW]).json()["version"] == 1
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    with serving("sorts", tmp_path / "again.log") as again:
        assert again.predict([ROW]).json()["version"] == 1
        assert "not a database" in again.status()["ledger"]


def test_a_server_that_is_told_to_end_answers_what_it_was_asked(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(MINE)
    rows = pl.DataFrame({"x": [place / 7 for place in range(200)], "word": ["a", "b"] * 100, "y": [2 * place / 7 for place in range(200)]})
    enthrone(store("mine", rows, tmp_path / "stored", unseen=60).candidate, 1)
    with serving("mine", tmp_path / "server.log") as running, ThreadPoolExecutor() as clients:
        asked = [clients.submit(running.predict, [{"x": 1.0, "word": "slow"}]) for _ in range(3)]
        time.sleep(1)  # they are being answered: one takes two seconds
        assert not any(one.done() for one in asked)
        running.process.send_signal(signal.SIGTERM)
        assert [one.result().status_code for one in asked] == [200] * 3
        running.process.wait(timeout=10)
    assert lake_rows(home, "mine") == 3, "what was answered is in the log"


def lake_rows(home: Path, name: str) -> int:
    return sum(pl.read_parquet(path).height for path in (home / "lake" / name / "predictions").rglob("*.parquet"))


def test_a_refusal_is_forgotten_once_the_champion_is_one_that_answers(running: Running, two: tuple[Champion, Champion]) -> None:
    (kept.place(two[1].sha256) / "model.skops").write_bytes(b"nothing")
    enthrone(two[1], 2)
    until(lambda: running.status().get("refused"), "version 2 is refused")
    enthrone(two[0], 1, how="rolled back", who="anna", reason="it is refused")
    until(lambda: running.status()["refused"] is None, "the refusal is forgotten")


def test_headers_that_are_too_large_or_do_not_come_end_the_connection_and_no_other(running: Running) -> None:
    url = running.client.base_url
    with (
        socket.create_connection((url.host, url.port), timeout=30) as large,
        socket.create_connection((url.host, url.port), timeout=30) as slow,
    ):
        slow.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n")
        large.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n")
        with suppress(ConnectionError):
            for _ in range(100):
                large.sendall(b"x-filler: " + b"x" * 10_000 + b"\r\n")
            assert large.recv(1000) == b""
        assert running.predict([ROW]).status_code == 200
        assert slow.recv(1000) == b""
    assert running.ready()


@pytest.fixture
def hangup() -> Iterator[None]:
    """SIGHUP as a terminal leaves it to what it starts; under `nohup` it would be ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
def test_a_closed_terminal_ends_a_server_as_gently_as_sigterm(running: Running, home: Path) -> None:
    assert running.predict([ROW]).status_code == 200
    running.process.send_signal(signal.SIGHUP)
    running.process.wait(timeout=20)
    assert lake_rows(home, "sorts") == 1, "its log is in the lake"


def test_several_workers_answer_on_one_port_and_a_dead_one_is_replaced(two: tuple[Champion, Champion], tmp_path: Path) -> None:
    enthrone(two[0], 1)
    with serving("sorts", tmp_path / "server.log", "--workers", "2") as running:
        both = until(lambda: len(ledger.servers("sorts")) == 2 and ledger.servers("sorts"), "both tell the ledger")
        victim = int(both[0].server.split("/")[1])
        enthrone(two[1], 2)
        until(lambda: {server.state["version"] for server in ledger.servers("sorts")} == {2}, "both follow")
        os.kill(victim, signal.SIGKILL)
        until(
            lambda: len({server.server for server in ledger.servers("sorts")} - {one.server for one in both}) == 1,
            "a new one takes its place",
            90,
        )
        assert all(running.predict([ROW]).json()["version"] == 2 for _ in range(10))


def test_a_server_that_others_can_reach_does_not_start_without_tokens(home: Path, tmp_path: Path) -> None:
    with serving("sorts", tmp_path / "server.log", "--host", "0.0.0.0", wait=False) as running:  # noqa: S104
        assert running.process.wait(timeout=30) == 2
    assert "names nobody who may ask" in (tmp_path / "server.log").read_text()


def test_requests_are_answered_over_tls(two: tuple[Champion, Champion], tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    enthrone(two[0], 1)
    with serving("sorts", tmp_path / "server.log", "--certificate", str(certificate), "--key", str(key)) as running:
        assert running.predict([ROW]).json()["version"] == 1
