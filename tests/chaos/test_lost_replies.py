"""Servers that act and whose reply is lost, that answer with an error, or that are away: one effect all the same, and nothing lost."""

import pytest

from tasks.stores import ledger
from tests.chaos import actors, story
from tests.chaos.conftest import Stage
from tests.chaos.story import Story
from tests.chaos.test_points import prepare
from tests.servers.proxy import Fault, Kind

pytestmark = pytest.mark.slow

MLFLOW = {
    "create a run": ("POST", "/runs/create$"),
    "log": ("POST", "/runs/log-batch$"),
    "open a model": ("POST", "/mlflow/logged-models$"),
    "store a file": ("PUT", "/mlflow-artifacts/.*model.skops$"),
    "make a version": ("POST", "/model-versions/create$"),
    "move the alias": ("POST", "/registered-models/alias$"),
    "end a run": ("POST", "/runs/update$"),
}
PREFECT = {
    "create a flow run": ("POST", "/flow_runs/$"),
    "set a state": ("POST", "/set_state$"),
    "take an event": ("POST", "/api/events$"),
    "take an artifact": ("POST", "/artifacts/$"),
}


@pytest.mark.parametrize(("what", "kind"), [*((what, "cut") for what in MLFLOW), ("make a version", "503"), ("create a run", "500")])
def test_a_reply_of_mlflow_that_is_lost_has_one_effect(what: str, kind: Kind, stage: Stage) -> None:
    method, path = MLFLOW[what]
    with stage(7000 + 10 * list(MLFLOW).index(what) + (kind == "cut")) as played:
        prepare(played)
        played.mlflow.set(Fault(kind, path, method))
        made_good(played, hit=lambda: played.mlflow.hits)


@pytest.mark.parametrize("what", PREFECT)
def test_a_reply_of_prefect_that_is_lost_has_one_effect(what: str, stage: Stage) -> None:
    method, path = PREFECT[what]
    with stage(7200 + list(PREFECT).index(what)) as played:
        prepare(played)
        played.prefect.set(Fault("cut", path, method))
        made_good(played, hit=lambda: played.prefect.hits)


def made_good(played: Story, hit: object) -> None:
    """Let the cycle run into the fault, then all grow quiet: two champions, each by one promotion."""
    actor = played.cycle()
    actor.ended()
    assert hit() > 0, actor.said()  # type: ignore[operator]
    assert story.quieten(played) == []
    assert len(ledger.champions(played.pipeline)) == 2


def test_with_mlflow_away_for_a_whole_cycle_rows_are_taken_in_and_the_next_cycle_trains_on_them(stage: Stage) -> None:
    with stage(7300) as played:
        prepare(played)
        played.mlflow.set(Fault("refuse", times=10**6))
        actor = played.cycle()
        assert actor.ended() == actors.REFUSED
        assert "Unreachable: MLflow at" in actor.said()
        assert ledger.outstanding(played.pipeline) == ()
        assert len(ledger.champions(played.pipeline)) == 1
        assert story.quieten(played) == []
        assert len(ledger.champions(played.pipeline)) == 2
