"""One seed's story: things happen at a source, cycles run and are killed, stopped, raced and failed; then all grows quiet and is checked."""

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from deployments import reconcile
from infra.parts import Stack
from tasks import crash
from tasks.stores import ledger
from tests.chaos import actors, checker, world
from tests.chaos.faulty import KINDS, Fault
from tests.chaos.world import World
from tests.servers import proxy
from tests.servers.proxy import Gate

DEFINITION = Path(__file__).with_name("definition.py").read_text()
LEASE = 2.0
STEPS = 5
QUIET_TRIES = 6
SLOW = ("observe.listed", "observe.recorded")  # points that are reached often


@dataclass
class Story:
    """What a seed has done so far; `kills` counts the signals by crash point."""

    seed: int
    pipeline: str
    home: Path
    world: World
    random: random.Random
    servers: Stack
    mlflow: Gate
    prefect: Gate
    kills: Counter[str] = field(default_factory=Counter)
    cycles: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a cycle's process needs to know."""
        return {
            "RATCHET_HOME": str(self.home),
            "RATCHET_PIPELINES": str(self.home / "pipelines"),
            "RATCHET_LEDGER_URL": os.environ.get("RATCHET_LEDGER_URL", ""),
            "RATCHET_SETTLE": "0",
            "RATCHET_LEASE": str(LEASE),
            "RATCHET_CRASH_AT": "",
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": f"{self.prefect.url}/api",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "MLFLOW_TRACKING_URI": self.mlflow.url,
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",  # what is asked for again need not be waited for here
        }

    def cycle(self, *, crash_at: str = "", fault: Fault | None = None) -> actors.Actor:
        """Start a cycle."""
        self.cycles += 1
        given = {**self.environment, "RATCHET_CRASH_AT": crash_at}
        return actors.start(self.pipeline, self.world.source, given, self.home / "logs" / f"{self.cycles:03d}.log", fault)


@contextmanager
def begun(seed: int, home: Path, servers: Stack) -> Iterator[Story]:
    """Set a story's stage: a home, a pipeline of the seed's own name, and fault proxies in front of both servers."""
    pipeline = f"chaos_{seed}"
    (home / "pipelines").mkdir(parents=True)
    (home / "pipelines" / f"{pipeline}.py").write_text(DEFINITION.replace('"NAME"', f'"{pipeline}"'))
    with proxy.running(servers.mlflow_url) as mlflow, proxy.running(servers.prefect_url) as prefect, _variables(home, servers):
        yield Story(seed, pipeline, home, world.at(home, seed), random.Random(f"{seed} faults"), servers, mlflow, prefect)


@contextmanager
def _variables(home: Path, servers: Stack) -> Iterator[None]:
    """Let this very process see the story's home."""
    wanted = {"RATCHET_HOME": str(home), "RATCHET_PIPELINES": str(home / "pipelines"), "MLFLOW_TRACKING_URI": servers.mlflow_url}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})


def play(story: Story) -> list[str]:
    """Play the whole story and give what is wrong in the end."""
    for _ in range(STEPS):
        for _ in range(story.random.randint(1, 4)):
            story.world.happen()
        fault, weight = zip(*FAULTS.items(), strict=True)
        (act,) = story.random.choices(fault, weight)
        story.world.told.append(f"  -- {act.__name__} --")
        act(story)
    story.world.land()  # whatever happened, there is something to do at the end
    return quieten(story)


def quieten(story: Story) -> list[str]:
    """Run cycles without faults until one has nothing to do, then check; a cycle may not fail now."""
    story.mlflow.set(None)
    story.prefect.set(None)
    for _ in range(QUIET_TRIES):
        actor = story.cycle()
        code = actor.ended()
        if code != actors.DONE:
            return [f"a cycle without any fault ended with {code}:\n{actor.said()}"]
        last = ledger.decisions(story.pipeline, limit=1)[0]
        if last["mlflow_run"] is None and not ledger.outstanding(story.pipeline) and not ledger.unfinished(story.pipeline):
            break  # the last one had nothing to do, and cleared up
    return checker.violations(story.pipeline, story.world) + stuck(story)


def stuck(story: Story) -> list[str]:
    """Close the dead runs as the agent does, and give those that Prefect still shows as under way."""
    under_way = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING]))
    mine = FlowRunFilter(state=under_way, tags=FlowRunFilterTags(any_=[story.pipeline]))
    with SyncPrefectClient(api=f"{story.servers.prefect_url}/api") as client:
        reconcile.close_dead(client, ())
        left = client.read_flow_runs(flow_run_filter=mine, sort=FlowRunSort.ID_DESC, limit=200)
        return [f"stuck: {run.name} is {run.state_name}" for run in left]


def nothing(story: Story) -> None:
    """A cycle runs to its end."""
    story.cycle().ended()


def killed_at_a_point(story: Story) -> None:
    """A cycle is killed at a named point; the next one takes over."""
    point = story.random.choice(sorted(crash.POINTS))
    number = story.random.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    hit = story.random.choice([1, 1, 1, 2])
    code = story.cycle(crash_at=f"{point}:{number.name}:{hit}").ended()
    if code == -signal.SIGKILL or (number == signal.SIGTERM and code != actors.DONE):
        story.kills[f"{point} {number.name}"] += 1


def killed_at_any_time(story: Story) -> None:
    """A cycle is killed at a random moment."""
    actor = story.cycle()
    actor.process.join(story.random.uniform(0.02, 1.6))
    actor.signal(signal.SIGKILL)
    if actor.ended() == -signal.SIGKILL:
        story.kills["any moment SIGKILL"] += 1


def stopped_past_its_lease(story: Story) -> None:
    """A cycle is stopped at a point for longer than its lease, another works, the first wakes up and must commit nothing more."""
    point = story.random.choice(sorted(set(crash.POINTS) - set(SLOW)))
    first = story.cycle(crash_at=f"{point}:SIGSTOP")
    if not first.stopped():
        return
    story.kills[f"{point} SIGSTOP"] += 1
    time.sleep(LEASE + 0.1)
    story.world.happen()
    story.cycle().ended()
    first.signal(signal.SIGCONT)
    first.ended()


def raced(story: Story) -> None:
    """Three cycles start at the same moment, one of them is killed."""
    racers = [story.cycle() for _ in range(3)]
    time.sleep(story.random.uniform(0.05, 1.0))
    racers[0].signal(signal.SIGKILL)
    for racer in racers:
        racer.ended()


def failed_operation(story: Story) -> None:
    """One operation of a cycle fails."""
    places = (str(story.home), str(story.world.source))
    story.cycle(fault=Fault(story.random.choice(sorted(KINDS)), story.random.randint(1, 250), places)).ended()


def lost_replies(story: Story) -> None:
    """MLflow or Prefect act and their reply is lost, or they answer with an error, or not at all."""
    gate = story.random.choice([story.mlflow, story.prefect])
    kind: proxy.Kind = story.random.choice(["cut", "cut", "refuse", "500", "503"])
    gate.set(proxy.Fault(kind, times=story.random.randint(1, 3), skip=story.random.randint(0, 40)))
    story.cycle().ended()
    gate.set(None)


FAULTS: dict[Callable[[Story], None], int] = {
    nothing: 1,
    killed_at_a_point: 6,
    killed_at_any_time: 3,
    stopped_past_its_lease: 2,
    raced: 1,
    failed_operation: 2,
    lost_replies: 2,
}


def clear(story: Story) -> None:
    """Remove what a story without violations leaves on disk."""
    shutil.rmtree(story.home, ignore_errors=True)
