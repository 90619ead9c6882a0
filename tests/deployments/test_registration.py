"""Registration with a real Prefect server: deployment, schedule and automation are as the file says, and what a person switched off stays off."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.registration import Registered, automation_name, is_on, register
from infra.parts import Stack
from tasks.errors import BrokenPipeline, UnknownPipeline
from tests.servers.client import Patient, prefect_at

pytestmark = pytest.mark.slow
TOY = Path(__file__).parents[1] / "pipelines" / "toy.py"


@pytest.fixture
def api(home: Path, servers: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    """The server without anything of the toy's, and a directory of pipelines with it."""
    (tmp_path / "own").mkdir()
    shutil.copy(TOY, tmp_path / "own" / "toy.py")
    monkeypatch.setenv("RATCHET_PIPELINES", str(tmp_path / "own"))
    with (
        prefect_at(servers.prefect_api_url, retries=5),
        httpx.Client(base_url=f"{servers.prefect_api_url}/", timeout=30, transport=Patient()) as api,
    ):
        _forget(api)
        yield api
        _forget(api)


def _forget(api: httpx.Client) -> None:
    for found in automations(api):
        api.delete(f"automations/{found['id']}").raise_for_status()
    deployment = api.get("deployments/name/continuous-training/toy")
    if deployment.status_code == 200:
        api.delete(f"deployments/{deployment.json()['id']}").raise_for_status()


def automations(api: httpx.Client) -> list[dict[str, Any]]:
    found = api.post("automations/filter", json={"limit": 200}).raise_for_status().json()
    return [automation for automation in found if automation["name"] == automation_name("toy")]


def deployment(api: httpx.Client, found: Registered) -> dict[str, Any]:
    return dict(api.get(f"deployments/{found.deployment}").raise_for_status().json())


def edit(tmp_path: Path, retrain: str) -> None:
    text = TOY.read_text().replace("import Candidate, Gate,", "import Retrain, Candidate, Gate,")
    (tmp_path / "own" / "toy.py").write_text(
        text.replace("    holdout=Holdout(share=0.3),", f"    holdout=Holdout(share=0.3),\n    retrain={retrain},")
    )


def test_a_pipeline_gets_a_deployment_and_an_automation_that_starts_it_when_a_cycle_is_due(api: httpx.Client, home: Path) -> None:
    found = register("toy")
    assert found.watched.source == str(home / "inbox" / "toy")
    made = deployment(api, found)
    assert (made["name"], made["tags"], made["parameters"]) == ("toy", ["toy"], {"pipeline": "toy", "trigger": "ui"})
    assert (made["entrypoint"], made["schedules"]) == ("flows.training.continuous_training", [])
    (automation,) = automations(api)
    assert automation["trigger"]["expect"] == ["ratchet.retraining.due"]
    assert automation["trigger"]["match"] == {"prefect.resource.id": "ratchet.pipeline.toy"}
    (action,) = automation["actions"]
    assert (action["type"], action["deployment_id"]) == ("run-deployment", str(found.deployment))
    assert action["parameters"] == {"pipeline": "toy", "trigger": "arrival"}
    assert (automation["enabled"], is_on("toy")) == (True, True)


def test_registering_again_changes_nothing(api: httpx.Client) -> None:
    first = register("toy")
    before = deployment(api, first), automations(api)
    assert register("toy") == first
    assert (deployment(api, first), automations(api)) == before


def test_an_edited_pipeline_brings_its_new_schedule_and_keeps_its_deployment(api: httpx.Client, tmp_path: Path) -> None:
    first = register("toy")
    edit(tmp_path, "Retrain(schedule='0 3 * * *', timezone='Europe/Berlin', min_arrivals=2)")
    second = register("toy")
    assert (second.deployment, second.automation) == (first.deployment, first.automation)
    assert second.watched.digest != first.watched.digest
    assert second.watched.retrain["min_arrivals"] == 2
    (schedule,) = deployment(api, second)["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 3 * * *", "Europe/Berlin")
    assert schedule["parameters"] == {"pipeline": "toy", "trigger": "schedule"}
    edit(tmp_path, "Retrain()")
    assert deployment(api, register("toy"))["schedules"] == []


def test_an_automation_that_was_switched_off_stays_off_though_the_pipeline_is_edited(api: httpx.Client, tmp_path: Path) -> None:
    found = register("toy")
    api.patch(f"automations/{found.automation}", json={"enabled": False}).raise_for_status()
    assert is_on("toy") is False
    register("toy")
    edit(tmp_path, "Retrain(min_arrivals=2)")
    register("toy")
    assert is_on("toy") is False
    assert len(automations(api)) == 1


def test_a_schedule_and_a_deployment_that_were_paused_stay_so_while_the_file_is_the_same(api: httpx.Client, tmp_path: Path) -> None:
    edit(tmp_path, "Retrain(schedule='0 3 * * *')")
    found = register("toy")
    (schedule,) = deployment(api, found)["schedules"]
    api.patch(f"deployments/{found.deployment}/schedules/{schedule['id']}", json={"active": False}).raise_for_status()
    api.post(f"deployments/{found.deployment}/pause_deployment").raise_for_status()
    again = deployment(api, register("toy"))
    assert (again["paused"], again["schedules"][0]["active"]) == (True, False)


def test_an_automation_that_was_deleted_or_bent_comes_back(api: httpx.Client) -> None:
    first = register("toy")
    api.delete(f"automations/{first.automation}").raise_for_status()
    assert is_on("toy") is None
    second = register("toy")
    assert second.automation != first.automation
    (whole,) = automations(api)
    bent = {key: whole[key] for key in ("name", "description", "enabled", "trigger")} | {"actions": []}
    api.put(f"automations/{second.automation}", json=bent).raise_for_status()
    assert automations(api)[0]["actions"] == []
    register("toy")
    assert automations(api)[0]["actions"] == whole["actions"]


def test_a_deployment_that_was_deleted_comes_back_and_the_automation_starts_the_new_one(api: httpx.Client) -> None:
    first = register("toy")
    api.delete(f"deployments/{first.deployment}").raise_for_status()
    second = register("toy")
    assert second.deployment != first.deployment
    (automation,) = automations(api)
    assert automation["actions"][0]["deployment_id"] == str(second.deployment)


def test_a_file_that_cannot_be_used_is_named_with_its_line_and_registers_nothing(api: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "own" / "toy.py").write_text("import pandas\nimport nothing_of_that_name\n")
    with pytest.raises(BrokenPipeline, match=r"toy\.py does not import \(line 2\): ModuleNotFoundError"):
        register("toy")
    with pytest.raises(UnknownPipeline, match="Did you mean 'toy'"):
        register("toys")
    assert automations(api) == []
