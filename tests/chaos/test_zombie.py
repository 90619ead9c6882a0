"""A cycle that is stopped for longer than its lease, while another does its work, wakes up and can commit nothing any more."""

import signal
import time

import httpx
import pytest

from tasks.stores import ledger
from tests.chaos import actors, story
from tests.chaos.conftest import Stage
from tests.chaos.test_points import prepare

pytestmark = pytest.mark.slow

POINTS = ("claim.taken", "clean.marked", "clean.committed", "promote.stored", "promote.registered")


@pytest.mark.parametrize("point", POINTS)
def test_a_cycle_stopped_beyond_its_lease_commits_nothing_when_it_wakes(point: str, stage: Stage) -> None:
    with stage(6000 + POINTS.index(point)) as played:
        prepare(played)
        first = played.cycle(crash_at=f"{point}:SIGSTOP")
        assert first.stopped(), first.said()
        time.sleep(story.LEASE + 0.1)
        played.world.land()
        second = played.cycle()
        assert second.ended() == actors.DONE, second.said()
        champions, history = ledger.champions(played.pipeline), ledger.history(played.pipeline)
        first.signal(signal.SIGCONT)
        assert first.ended() == actors.REFUSED
        assert ledger.champions(played.pipeline) == champions
        assert ledger.history(played.pipeline) == history
        assert "LeaseLost" in first.said()
        assert "Nothing" in first.said()
        run = next(cycle for cycle in ledger.list_cycles(played.pipeline) if cycle.state == "failed").flow_run
        state = httpx.get(f"{played.servers.prefect_url}/api/flow_runs/{run}").json()["state"]
        assert (state["type"], "LeaseLost" in state["message"]) == ("FAILED", True)
        assert story.quieten(played) == []


def test_while_a_cycle_holds_its_lease_another_is_refused_and_says_who_holds_it(stage: Stage) -> None:
    with stage(6100) as played:
        prepare(played)
        first = played.cycle(crash_at="evaluate.done:SIGSTOP")
        assert first.stopped()
        second = played.cycle()
        assert second.ended() == actors.REFUSED
        assert "CycleInProgress" in second.said()
        assert f"/{first.pid}/" in second.said()
        first.signal(signal.SIGCONT)
        assert first.ended() in (actors.DONE, actors.REFUSED)
        assert story.quieten(played) == []
