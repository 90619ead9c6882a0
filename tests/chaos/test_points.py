"""Every named point of a cycle: a real process is killed there, and what the next one leaves is what an uninterrupted one would have left."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks import crash
from tasks.stores import lake, ledger
from tests.chaos import actors, story
from tests.chaos.conftest import Stage
from tests.chaos.story import Story

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Most points are on the way of a cycle that promotes; these need one that keeps its champion, one that finds small files to join, and one
# that holds its version for an approval, in the place of one that waited.
KINDS = {"decide.recorded": "keeps", "lake.compacted": "joins", "effect.question": "holds", "effect.answered": "holds"}
MEASURED = ("probe_loads", "latency", "memory")  # by the probe: never the same twice
CHAMPIONS = {"promotes": 2, "keeps": 1, "joins": 2, "holds": 0}
SEEDS = {name: 5000 + number for number, name in enumerate(crash.POINTS)}


@dataclass(frozen=True)
class Outcome:
    """What a story comes to, as far as it may not depend on where it was interrupted."""

    rows: frozenset[int]
    arrivals: frozenset[tuple[str, str, bool, int, int]]
    champions: int
    champion: tuple[Any, ...]
    proposals: tuple[tuple[str, int], ...]
    decision: tuple[Any, ...]


def test_every_point_in_the_code_is_listed_and_every_listed_one_is_in_the_code() -> None:
    code = [path.read_text() for package in ("flows", "tasks") for path in (ROOT / package).rglob("*.py")]
    named = {name for text in code for name in re.findall(r'crash\.point\(f?"([^"]+)"\)', text)}
    from tasks.promote import _EFFECTS

    assert named - {"effect.{effect.effect}"} | {f"effect.{name}" for name in _EFFECTS} == set(crash.POINTS)


@pytest.fixture(scope="module")
def uninterrupted(stage: Stage) -> dict[str, Outcome]:
    """What the stories come to when nothing interrupts them."""
    found = {}
    for seed, kind in enumerate(CHAMPIONS, start=4000):
        with stage(seed) as played:
            prepare(played, kind)
            assert played.cycle().ended() == actors.DONE
            found[kind] = told(played)
            assert found[kind].champions == CHAMPIONS[kind]
    return found


@pytest.mark.parametrize("point", crash.POINTS)
def test_a_cycle_killed_at_this_point_is_made_good_by_the_next(point: str, stage: Stage, uninterrupted: dict[str, Outcome]) -> None:
    kind = KINDS.get(point, "promotes")
    with stage(SEEDS[point]) as played:
        prepare(played, kind)
        killed = played.cycle(crash_at=f"{point}:SIGKILL")
        assert killed.ended() == -signal.SIGKILL, killed.said()
        assert story.quieten(played) == []
        assert told(played) == uninterrupted[kind]


def prepare(played: Story, kind: str = "promotes") -> None:
    """Let a first champion be made, and then land what the cycle that is looked at takes in."""
    world = played.world
    if kind == "holds":
        file = played.home / "pipelines" / f"{played.pipeline}.py"
        file.write_text(file.read_text().replace("gate=Gate(", 'gate=Gate(approval="manual", '))
    for name in ("a", "b", "c"):
        world.put(world.source / f"{name}.csv", world.rows(200 if name == "a" else 30, flip=False, bad=2 if name == "b" else 0))
    assert played.cycle().ended() == actors.DONE
    if kind != "joins":
        world.put(world.source / "b.csv", world.rows(30, flip=False, bad=0))  # its old rows are to be taken out
    keeps = kind == "keeps"
    world.put(world.source / "d.csv", world.rows(60 if keeps else 950, flip=not keeps, bad=3))
    world.put(world.source / "e.csv", world.garbage())
    world.copy_of("a", "f")


def told(played: Story) -> Outcome:
    """Read what there is once all is quiet."""
    history = ledger.history(played.pipeline)
    champion, decisions = ledger.champion(played.pipeline), ledger.decisions(played.pipeline)
    decided = next(part for part in decisions if part["verdict"] != "skip")
    held = [(ledger.proposal(played.pipeline, part["cycle"]), part["cycle"]) for part in decisions if part["verdict"] == "hold"]
    return Outcome(
        rows=frozenset(lake.scan(played.pipeline).select("id").collect()["id"].to_list()),
        arrivals=frozenset((part.name, part.state, part.superseded, part.accepted, part.rejected) for part in history),
        champions=len(ledger.champions(played.pipeline)),
        champion=(champion.candidate, tuple(champion.params.items()), champion.trained_until) if champion else (),
        proposals=tuple((proposal.state, place) for place, (proposal, _) in enumerate(held) if proposal is not None),
        decision=(
            decided["verdict"],
            tuple((rule["name"], rule["passed"], rule["figure"]) for rule in decided["rules"] if rule["name"] not in MEASURED),
        ),
    )
