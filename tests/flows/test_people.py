"""People decide: what is held waits, in Prefect and for the command; who answers is on record; the way back is one command."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import polars as pl
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import refresh_global_settings_context

from deployments import children, doctor, people, show
from deployments.registration import register
from flows.approval import answered
from flows.training import continuous_training
from infra.parts import Stack
from tasks.errors import UserError
from tasks.promote import settle_effects
from tasks.records import Decision
from tasks.stores import ledger, models, questions
from tasks.stores.ledger.outbox import queue
from tests.chaos.actors import FORK
from tests.landing import toy_rows
from tests.servers.client import prefect_at

pytestmark = pytest.mark.slow
TOY = Path(__file__).parents[1] / "pipelines" / "toy.py"


@pytest.fixture
def own(cycle_home: Path, servers: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the toy's file under a name that no other test has used in the servers, to be edited."""
    name = f"toy_{tmp_path.name}".replace("-", "_")
    (tmp_path / "own").mkdir()
    file = tmp_path / "own" / f"{name}.py"
    shutil.copy(TOY, file)
    file.write_text(file.read_text().replace('name="toy"', f'name="{name}"'))
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
    (cycle_home / "inbox" / name).mkdir(parents=True)
    with prefect_at(servers.prefect_api_url, retries=5):
        yield file


def gate(file: Path, **given: Any) -> None:
    wanted = ", ".join(f"{name}={value!r}" for name, value in {"metric": "log_loss", "min_rows": 50, "min_train_rows": 50, **given}.items())
    head, _, tail = file.read_text().partition("    gate=Gate(")
    file.write_text(f"{head}    gate=Gate({wanted}),\n{tail.partition(chr(10))[2]}")


def land(file: Path, cycle_home: Path, name: str, frame: pl.DataFrame) -> str:
    frame.write_csv(cycle_home / "inbox" / file.stem / name, datetime_format="%Y-%m-%dT%H:%M:%S")
    return file.stem


def execute(run: UUID) -> None:
    """Run it in a process of its own that is forked from a warm one, as the dispatcher does."""
    process = FORK.Process(target=_execute, args=(run, dict(os.environ)))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def _execute(run: UUID, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)  # the warm one may have another test's
    refresh_global_settings_context()
    children.execute(run, "approval")


def state(run: UUID) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state


def asked(own: Path, cycle_home: Path) -> tuple[str, Decision, UUID]:
    """Let a cycle hold its version, and Prefect ask about it; give the pipeline, the decision and the run that waits."""
    gate(own, approval="manual")
    name = land(own, cycle_home, "a.csv", toy_rows(400))
    register(name)
    held = continuous_training(name)
    run = questions.run_of(name, held.cycle)
    assert run is not None
    execute(run)
    return name, held, run


def test_a_version_that_needs_approval_is_held_and_serves_once_somebody_with_a_name_and_a_reason_approved_it(
    own: Path, cycle_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate(own, approval="manual")
    name = land(own, cycle_home, "a.csv", toy_rows(400))
    held = continuous_training(name)
    assert (held.verdict, held.champion) == ("hold", None)
    assert held.probe is not None
    assert "a person has to approve it" in held.sentence
    assert [rule.name for rule in held.rules if not rule.passed] == ["approval"]
    assert models.pointed(name) is None
    for who, why in (("", "because"), ("ada", "  ")):
        with pytest.raises(UserError, match="An answer needs who gives it and why"):
            answered(name, approve=True, who=who, why=why)
        assert ledger.waiting(name) is not None
    told = answered(name, approve=True, who="ada", why="looked at the report")
    assert told.startswith(f"Version {held.proposed} of {name} is the champion now, approved by ada")
    champion = ledger.champion(name)
    assert champion is not None
    assert (champion.version, champion.how, champion.who) == (held.proposed, "approved", "ada")
    assert models.pointed(name) == held.proposed
    assert ledger.unfinished(name) == ()
    monkeypatch.setenv("RATCHET_HOME", str(cycle_home / "lost"))  # and with it the ledger
    gate(own, moved_alias="hold")
    anew = continuous_training(name, source=str(cycle_home / "inbox" / name))
    assert (anew.verdict, anew.previous) == ("hold", None)
    assert [rule.sentence for rule in anew.rules if not rule.passed] == [anew.registry]
    assert f"points to version {held.proposed}, and this ledger has never had a champion" in anew.sentence
    assert models.pointed(name) == held.proposed


def test_a_version_is_approved_in_prefect_by_resuming_the_run_that_asks(own: Path, cycle_home: Path, servers: Stack) -> None:
    name, held, run = asked(own, cycle_home)
    paused = state(run)
    assert (paused.type, paused.name) == (StateType.PAUSED, "Suspended")
    with get_client(sync_client=True) as client:
        for wrong in ({"approve": "perhaps", "who": "ada", "why": "x"}, {"approve": True}, {"approve": True, "who": " ", "why": ""}):
            assert client.resume_flow_run(run, run_input=wrong).status.value == "REJECT"
        client.resume_flow_run(run, run_input={"approve": True, "who": "ada", "why": "seen in the UI"})
    assert state(run).type == StateType.SCHEDULED
    execute(run)
    assert state(run).type == StateType.COMPLETED
    champion = ledger.champion(name)
    assert champion is not None
    assert (champion.version, champion.who, champion.reason) == (held.proposed, "ada", "seen in the UI")


def test_the_question_in_prefect_is_taken_back_when_the_command_answers(own: Path, cycle_home: Path, servers: Stack) -> None:
    name, held, run = asked(own, cycle_home)
    answered(name, approve=False, who="ada", why="no")
    found = state(run)
    assert (found.type, found.name, found.message) == (StateType.CANCELLED, "Answered", "Rejected by ada: no")
    assert ledger.champion(name) is None
    assert status_of(name, held.proposed, servers) == "orphan"


def status_of(name: str, version: int | None, servers: Stack) -> str:
    import mlflow

    return str(mlflow.MlflowClient(servers.mlflow_url).get_model_version(name, str(version)).tags["status"])


def test_a_rollback_takes_a_moment_and_the_demoted_version_does_not_come_back_on_the_same_evidence(
    own: Path, cycle_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = land(own, cycle_home, "a.csv", toy_rows(400))
    first = continuous_training(name)
    land(own, cycle_home, "b.csv", toy_rows(2400, first=400, flip=True))
    second = continuous_training(name)
    assert (first.verdict, second.verdict) == ("promote", "promote")
    people.roll_back(name, to=None, who="ada", why="complaints from the shop")
    assert f"Version {first.champion} " in capsys.readouterr().out
    assert models.pointed(name) == first.champion
    own.write_text(own.read_text() + "\n# a new definition is trained on without new rows\n")
    again = continuous_training(name)
    assert again.verdict == "skip"
    assert [rule.name for rule in again.rules] == ["unseen_rows"]
    land(own, cycle_home, "c.csv", toy_rows(1200, first=2800, flip=True))
    third = continuous_training(name)
    assert third.evaluation is not None
    assert third.evaluation.rows <= 1200
    assert third.verdict == "promote"
    people.champions(name, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert [(part["version"], part["how"], part["who"]) for part in shown] == [
        (third.champion, "promoted", None),
        (first.champion, "rolled back", "ada"),
        (second.champion, "promoted", None),
        (first.champion, "promoted", None),
    ]
    assert shown[1]["reason"] == "complaints from the shop"


def test_an_alias_that_was_moved_by_hand_is_noticed_and_put_back_or_holds(
    own: Path, cycle_home: Path, servers: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    client = mlflow.MlflowClient(servers.mlflow_url)
    name = land(own, cycle_home, "a.csv", toy_rows(400))
    first = continuous_training(name)
    land(own, cycle_home, "b.csv", toy_rows(2400, first=400, flip=True))

    def meddle(point: str) -> None:
        if point == "promote.decided":
            client.set_registered_model_alias(name, "champion", str(first.champion))

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("tasks.crash.point", meddle)
        second = continuous_training(name)
    assert first.champion != second.champion == models.pointed(name)
    client.set_registered_model_alias(name, "champion", str(first.champion))
    third = continuous_training(name)
    assert any("Somebody moved it by hand; it was put back." in note for note in third.notes)
    assert models.pointed(name) == second.champion
    client.set_registered_model_alias(name, "champion", str(first.champion))
    gate(own, moved_alias="hold")
    land(own, cycle_home, "c.csv", toy_rows(9000, first=2800))
    held = continuous_training(name)
    assert held.verdict == "hold"
    assert [rule.name for rule in held.rules if not rule.passed] == ["alias"]
    assert models.pointed(name) == first.champion


def test_a_champion_that_was_deleted_from_the_registry_is_noticed_and_goes_on_serving(
    own: Path, cycle_home: Path, servers: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    client = mlflow.MlflowClient(servers.mlflow_url)
    name = land(own, cycle_home, "a.csv", toy_rows(400))
    first = continuous_training(name)
    client.delete_model_version(name, str(first.champion))
    gone = f"Version {first.champion}, the champion, was deleted from the registry"
    examined = {found.what: found for found in doctor._champions()}
    assert examined[f"alias of {name}"].found.startswith(gone)
    assert f"ratchet rollback {name} --to VERSION" in examined[f"alias of {name}"].remedy
    assert examined[f"champion of {name}"].ok  # from its copy
    land(own, cycle_home, "b.csv", toy_rows(2400, first=400, flip=True))
    second = continuous_training(name)
    assert (second.registry or "").startswith(gone)
    assert second.registry in second.notes
    show.status(as_json=False)
    assert f"{name}, in cycle {second.cycle}: {gone}" in " ".join(capsys.readouterr().out.split())
    assert second.evaluation is not None
    assert second.evaluation.champion is not None
    assert second.verdict == "promote"
    with pytest.raises(UserError, match=f"Version {first.champion} of '{name}' was deleted from the registry"):
        people.roll_back(name, to=None, who="ada", why="complaints")
    assert models.pointed(name) == second.champion
    client.delete_model_version(name, str(second.champion))
    with ledger.transaction() as connection:
        queue(connection, name, second.cycle, "alias", {"version": second.champion, "previous": first.champion})
    assert settle_effects(name) == ()  # there is nothing to point to, and no server to wait for
    assert ledger.unfinished(name) == ()


def test_a_leak_is_held_with_the_reason(own: Path, cycle_home: Path) -> None:
    text = own.read_text().replace(
        "return pd.DataFrame({", "return pd.DataFrame({'leak': rows['x'].round(6).map(lambda x: round(x * 1e6) % 2.0), "
    )
    own.write_text(text)
    rows = toy_rows(600)
    even = (rows["x"] * 1e6).round().cast(pl.Int64) % 2 == 0
    name = land(own, cycle_home, "a.csv", rows.with_columns(label=pl.when(even).then(pl.lit("no")).otherwise(pl.lit("yes"))))
    held = continuous_training(name)
    assert held.verdict == "hold"
    assert [rule.name for rule in held.rules if not rule.passed] == ["too_good"]
    assert "Is the answer among the features (a leak)" in held.sentence


def test_two_answers_in_prefect_and_by_command_count_once(own: Path, cycle_home: Path, servers: Stack) -> None:
    name, held, run = asked(own, cycle_home)
    with get_client(sync_client=True) as client:
        client.resume_flow_run(run, run_input={"approve": False, "who": "bob", "why": "no"})
    answered(name, approve=True, who="ada", why="yes")
    found = state(run)
    assert found.type == StateType.CANCELLED
    assert found.name == "Answered"
    champion = ledger.champion(name)
    assert champion is not None
    assert champion.who == "ada"
    with httpx.Client(base_url=servers.prefect_api_url) as api:
        assert api.get(f"/flow_runs/{run}").json()["state_name"] == "Answered"
