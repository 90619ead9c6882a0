"""The command as a person uses it: real processes, exit codes, JSON of a documented shape, and messages that say what to do."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.parts import Stack
from tests import snare
from tests.conftest import PIPELINES
from tests.landing import toy_rows

RATCHET = Path(sys.executable).parent / "ratchet"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def ratchet(cycle_home: Path) -> Iterator[Run]:
    def run(*words: str, code: int = 0, **variables: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [str(RATCHET), *words], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200", **variables}, timeout=280
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    yield run
    subprocess.run([str(RATCHET), "down"], capture_output=True, check=True, env=dict(os.environ))


def land(home: Path, name: str, first: int = 0, **options: Any) -> None:
    inbox = home / "inbox" / "toy"
    inbox.mkdir(parents=True, exist_ok=True)
    toy_rows(400, first=first, **options).write_csv(inbox / name, datetime_format="%Y-%m-%dT%H:%M:%S")


def read(done: "subprocess.CompletedProcess[str]") -> Any:
    return json.loads(done.stdout)


def test_help_needs_no_heavy_library() -> None:
    code = "import sys; from deployments import command; print(sorted({'prefect', 'mlflow', 'pandas', 'sklearn', 'sqlalchemy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_a_cycle_and_the_questions_about_it(ratchet: Run, cycle_home: Path) -> None:
    land(cycle_home, "a.csv")
    assert "PROMOTE" in ratchet("run", "toy").stdout
    land(cycle_home, "b.csv", first=400)
    kept = read(ratchet("run", "toy", "--json"))
    assert (kept["verdict"], kept["cycle"], kept["record_version"]) == ("keep", 2, 1)
    assert read(ratchet("why", "toy", "--json")) == kept
    assert read(ratchet("why", "toy", "--cycle", "1", "--json"))["verdict"] == "promote"
    told = ratchet("why", "toy").stdout
    assert "better than the champion" in told
    assert "nor the opposite" in told
    assert [row["cycle"] for row in read(ratchet("decisions", "toy", "--json"))] == [2, 1]
    assert [(row["name"], row["state"], row["accepted"]) for row in read(ratchet("arrivals", "toy", "--json"))] == [
        ("b.csv", "ingested", 400),
        ("a.csv", "ingested", 400),
    ]
    state = read(ratchet("status", "--json"))
    assert state["stack"].keys() >= {"prefect", "mlflow"}
    toy = next(row for row in state["pipelines"] if row["name"] == "toy")
    assert (toy["champion"], toy["outstanding"], toy["running"]) == (kept["champion"], 0, None)
    for words, shown in ((("status",), "toy"), (("decisions", "toy"), "keep"), (("arrivals", "toy"), "b.csv")):
        assert shown in ratchet(*words).stdout


@pytest.mark.slow
def test_mistakes_of_the_caller_end_with_2_and_say_what_to_do(ratchet: Run, cycle_home: Path, tmp_path: Path) -> None:
    assert "Did you mean 'toy'?" in ratchet("run", "toyy", code=2).stderr
    assert "Create it, or name another source" in ratchet("run", "toy", "--source", str(tmp_path / "absent"), code=2).stderr
    assert "No cycle of 'toy' has run yet" in ratchet("why", "toy", code=2).stderr
    assert "expected a number" in ratchet("status", code=2, RATCHET_WORKERS="many").stderr
    assert "is no file" in ratchet("demo", "electricity", "--data", str(tmp_path / "absent.csv"), code=2).stderr
    assert "is made up" in ratchet("demo", "visitors", "--data", str(tmp_path / "absent.csv"), code=2).stderr
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    found = ratchet("check", "broken", code=2, RATCHET_PIPELINES=str(tmp_path)).stderr
    assert "broken.py does not import (line 1): ModuleNotFoundError" in found


@pytest.mark.slow
def test_check_says_what_to_change(ratchet: Run, tmp_path: Path) -> None:
    assert all(finding["passed"] for finding in read(ratchet("check", "toy", "--json")))
    good = (Path(__file__).parents[1] / "pipelines" / "toy.py").read_text()
    (tmp_path / "toy.py").write_text(
        good.replace('return pd.DataFrame({"x": rows["x"]', 'return pd.DataFrame({"x": rows["x"] - rows["x"].mean()')
    )
    assert "FAIL  one_row_equals_batch" in ratchet("check", "toy", code=2, RATCHET_PIPELINES=str(tmp_path)).stdout


@pytest.mark.slow
def test_the_doctor_finds_an_alias_that_was_moved_by_hand(ratchet: Run, cycle_home: Path, servers: Stack) -> None:
    import mlflow

    land(cycle_home, "a.csv")
    ratchet("run", "toy")
    assert all(found["ok"] for found in read(ratchet("doctor", "--json")))
    client = mlflow.MlflowClient(servers.mlflow_url)
    client.delete_registered_model_alias("toy", "champion")
    found = {row["what"]: row for row in read(ratchet("doctor", "--json", code=1))}
    assert found["alias of toy"]["ok"] is False
    assert "registry None" in found["alias of toy"]["found"]


@pytest.mark.slow
def test_up_registers_deployments_with_schedules_and_runs_them(ratchet: Run, cycle_home: Path, servers: Stack) -> None:
    land(cycle_home, "a.csv")
    assert servers.prefect_url in ratchet("up").stdout
    with httpx.Client(base_url=servers.prefect_api_url + "/", timeout=30) as api:
        deployment = _until(lambda: _deployment(api, "electricity"))
        assert [schedule["schedule"]["cron"] for schedule in deployment["schedules"]] == ["0 3 * * *"]
        toy = _until(lambda: _deployment(api, "toy"))
        run = api.post(f"deployments/{toy['id']}/create_flow_run", json={}).json()
        state = _until(lambda: _ended(api, run["id"]))
    assert state == "COMPLETED"
    # the file that lay there has started a cycle too: whichever came first promotes, the other may have ended before that
    made = _until(lambda: _promoting(read(ratchet("decisions", "toy", "--json"))))
    assert [decision["verdict"] for decision in made].count("promote") == 1
    assert {decision["trigger"] for decision in made} <= {"ui", "arrival"}


@pytest.mark.slow
def test_up_returns_once_sources_are_watched_and_an_agent_keeps_the_settings_that_it_was_started_with(
    ratchet: Run, cycle_home: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    snare.write(other, "elsewhere")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    own = os.pathsep.join((str(PIPELINES), str(tmp_path)))
    assert "no: no agent runs; `ratchet up` starts it" in ratchet("status").stdout
    ratchet("up", RATCHET_PIPELINES=own)
    _until(lambda: all(row["watched"] or row["watch_note"] != "not yet" for row in read(ratchet("status", "--json"))["pipelines"]))
    told = ratchet("up", RATCHET_PIPELINES=own).stdout
    assert f"watched: {cycle_home / 'inbox' / 'toy'}" in told
    assert "not watched: its file cannot be used" in told
    land(cycle_home, "a.csv")
    limit = time.monotonic() + 10
    while not read(ratchet("arrivals", "toy", "--json")):
        assert time.monotonic() < limit
    agent = _agent(cycle_home)
    told = ratchet("up", RATCHET_PIPELINES=str(other)).stdout
    assert f"RATCHET_PIPELINES is {own} there, {other} here" in " ".join(told.split())
    assert "ratchet down, then ratchet up" in told
    assert f"watched: {cycle_home / 'inbox' / 'toy'}" in told
    assert _agent(cycle_home) == agent
    rows = {row["name"]: row for row in read(ratchet("status", "--json", RATCHET_PIPELINES=str(other)))["pipelines"]}
    assert (rows["elsewhere"]["watched"], rows["visitors"]["watched"]) == (False, True)
    assert "the agent runs with other settings" in rows["elsewhere"]["watch_note"]


def _agent(home: Path) -> Any:
    return next(part for part in json.loads((home / "stack.json").read_text())["parts"] if part["name"] == "agent")


def _deployment(api: httpx.Client, name: str) -> Any:
    answer = api.get(f"deployments/name/continuous-training/{name}")
    return answer.json() if answer.status_code == 200 else None


def _ended(api: httpx.Client, run: str) -> Any:
    kind = api.get(f"flow_runs/{run}").json()["state"]["type"]
    return kind if kind in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None


def _promoting(decisions: Any) -> Any:
    return decisions if any(decision["verdict"] == "promote" for decision in decisions) else None


def _until(look: Callable[[], Any], patience: float = 90) -> Any:
    limit = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.5)
    return found


@pytest.mark.slow
def test_the_demo_tells_its_story_with_the_counts_that_were_planted(ratchet: Run) -> None:
    told = ratchet("demo").stdout
    assert "12 cycles" in told
    assert "48,000 rows taken in, 48 rejected, 12 repeats dropped" in told
    assert "best possible" in told
    decided = read(ratchet("decisions", "visitors", "--json"))
    by_week = {row["arrivals"][0]: row for row in decided}
    assert by_week["week-00.csv"]["verdict"] == "promote"
    assert by_week["week-07.csv"]["verdict"] == "promote"  # the market turned over
    assert {row["verdict"] for row in decided} == {"promote", "keep"}
    assert "nothing is new" in read(ratchet("run", "visitors", "--json"))["sentence"]
