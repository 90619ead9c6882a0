"""The embedded stack, with real servers: started once, found again, stopped exactly, and clear about what keeps it from starting."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra import process, stack
from infra.parts import Service
from tasks import settings
from tasks.errors import StackError
from tasks.settings import Settings

pytestmark = pytest.mark.slow
SLEEPER = Service("sleeper", (sys.executable, "-c", "import os, time; print(os.environ['PREFECT_API_URL'], flush=True); time.sleep(600)"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    found = settings.read({"RATCHET_HOME": str(tmp_path / "home with space")})
    try:
        yield found
    finally:
        stack.down(found)


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that nobody may stop."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process_of_another:
        yield process_of_another
        process_of_another.kill()


def pids(found: stack.Stack) -> dict[str, int | None]:
    return {part.name: part.pid for part in found.parts}


def test_up_starts_once_down_stops_exactly_that_and_the_users_home_is_left_alone(
    place: Settings, tmp_path: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    first = stack.up(place, [SLEEPER])
    assert stack.up(place, [SLEEPER]) == first
    assert stack.find(place) == first
    spoken = _until_spoken(place.home / "logs" / "sleeper.log")
    newer = stack.up(place, [replace(SLEEPER, version="2")])
    assert {name for name, pid in pids(newer).items() if pid != pids(first)[name]} == {"sleeper"}
    first = newer
    assert sorted(part.name for part in stack.down(place)) == ["keeper", "mlflow", "prefect", "sleeper"]
    assert all(process.started(part.pid or 0) != part.since for part in first.parts)
    assert stack.find(place) is None
    assert stack.down(place) == ()
    assert bystander.poll() is None
    assert spoken == first.prefect_api_url
    assert not (tmp_path / "user").exists()


def _until_spoken(log: Path) -> str:
    limit = time.monotonic() + 20
    while not log.read_text().endswith("\n") and time.monotonic() < limit:
        time.sleep(0.05)
    return log.read_text().strip()


def test_a_dead_part_is_started_again_on_its_port_and_the_others_go_on(place: Settings) -> None:
    first = stack.up(place)
    dead = next(part for part in first.parts if part.name == "mlflow")
    process.stop(dead.pid or 0, dead.since or "")
    assert stack.find(place) is None
    second = stack.up(place)
    assert second.mlflow_url == first.mlflow_url
    assert pids(second)["prefect"] == pids(first)["prefect"]
    assert pids(second)["mlflow"] != pids(first)["mlflow"]


def test_a_taken_port_is_gone_around_and_remembered(place: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        place.home.mkdir(parents=True)
        part = {"name": "mlflow", "url": f"http://127.0.0.1:{taken}", "owned": True, "pid": None, "since": None}
        (place.home / "stack.json").write_text(json.dumps({"parts": [part]}))
        first = stack.up(place)
        assert first.mlflow_url != f"http://127.0.0.1:{taken}"
    stack.down(place)
    assert stack.up(place).mlflow_url == first.mlflow_url


def test_a_recycled_process_number_is_neither_trusted_nor_killed(place: Settings, bystander: "subprocess.Popen[bytes]") -> None:
    place.home.mkdir(parents=True)
    stale = [
        {"name": name, "url": f"http://127.0.0.1:{port}", "owned": True, "pid": bystander.pid, "since": "1"}
        for name, port in (("prefect", 1), ("mlflow", 2))
    ]
    (place.home / "stack.json").write_text(json.dumps({"parts": stale}))
    assert stack.find(place) is None
    assert stack.down(place) == ()
    assert bystander.poll() is None


def test_two_callers_at_once_start_one_stack(place: Settings) -> None:
    code = "from infra import stack; from tasks import settings; print(sorted(part.pid for part in stack.up(settings.read()).parts))"
    environment = {**os.environ, "RATCHET_HOME": str(place.home)}
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    racers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    answers = {racer.communicate(timeout=120)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0]
    assert len(answers) == 1


def test_two_stacks_that_start_at_once_have_ports_of_their_own(tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    code = "from infra import stack; from tasks import settings; print(stack.up(settings.read()).mlflow_url)"
    environment = {name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")}
    try:
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**environment, "RATCHET_HOME": str(home)}
            )
            for home in homes
        ]
        answers = {starter.communicate(timeout=200)[0] for starter in starters}
        assert [starter.returncode for starter in starters] == [0, 0]
        assert len(answers) == 2
    finally:
        for home in homes:
            stack.down(settings.read({"RATCHET_HOME": str(home)}))


def test_servers_that_the_environment_names_are_used_and_none_is_started(tmp_path: Path) -> None:
    given = {"RATCHET_HOME": str(tmp_path), "PREFECT_API_URL": "http://10.1.2.3:4200/api", "MLFLOW_TRACKING_URI": "http://10.1.2.3:5000"}
    found = stack.up(settings.read(given))
    assert [(part.owned, part.pid) for part in found.parts] == [(False, None), (False, None)]
    assert (found.prefect_api_url, found.mlflow_url) == ("http://10.1.2.3:4200/api", "http://10.1.2.3:5000")
    assert stack.down(settings.read(given)) == ()


@pytest.mark.parametrize("damage", ["garbage", "unknown revision"])
def test_a_damaged_database_is_named_with_the_way_out_and_nothing_is_left_running(place: Settings, damage: str) -> None:
    database = place.home / "mlflow" / "mlflow.db"
    database.parent.mkdir(parents=True)
    if damage == "garbage":
        database.write_bytes(b"this is no database" * 100)
    else:
        with sqlite3.connect(database) as connection:
            connection.execute("CREATE TABLE alembic_version (version_num VARCHAR)")
            connection.execute("INSERT INTO alembic_version VALUES ('from the future')")
        connection.close()
    with pytest.raises(StackError, match="The mlflow server ended while it started") as caught:
        stack.up(place)
    assert f"mv '{database}' '{database}.broken'" in str(caught.value)
    assert not (place.home / "stack.json").exists() or stack.find(place) is None
    database.unlink()
    assert stack.up(place).mlflow_url


def test_a_log_that_has_grown_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"x" * (process.LOG_LIMIT + 1))
    pid = process.start([sys.executable, "-c", "print('hello')"], {}, log)
    limit = time.monotonic() + 20
    while process.started(pid) is not None and time.monotonic() < limit:
        time.sleep(0.05)
    assert log.stat().st_size == process.LOG_KEPT + len("hello\n")
    assert process.tail(log).endswith("hello")
