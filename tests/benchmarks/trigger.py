"""From a file's rename into the folder to the first line of the cycle's first task, beside what plain Prefect takes for the same."""

import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from infra.parts import Stack
from tasks import settings
from tasks.stores import ledger
from tests.benchmarks import standing
from tests.benchmarks.measure import console, spread

PLAIN = Path(__file__).parent / "plain"
PATIENCE = 120.0


@dataclass(frozen=True)
class Way:
    """The moments of one arrival on its way to the first task."""

    renamed: float
    told: float
    created: float
    claimed: float
    running: float
    first: float


def trigger(arrivals: int, plain: int) -> None:
    """Land files one after the other, each when the cycle before has ended; every so often a hasty one, and one for plain Prefect."""
    landed: dict[str, float] = {}
    hasty, theirs = [], []
    with standing.standing() as found, served(found) as folder:
        warm_up(found, folder)
        for number in range(1, arrivals + 1):
            landed |= arrive(found, number, pause=random.uniform(0.1, 1.1))
            if number % max(1, arrivals // plain) == 0:
                hasty.append(arrive(found, arrivals + number, pause=0))
                theirs.append(plain_arrival(folder, f"plain-{number}"))
        account({**landed, **{name: moment for one in hasty for name, moment in one.items()}})
        ways = [one for name, moment in landed.items() if (one := way(found, name, moment)) is not None]
        hurried = [one for part in hasty for name, moment in part.items() if (one := way(found, name, moment)) is not None]
    tell(ways, hurried, theirs)


def warm_up(found: Stack, folder: Path) -> None:
    """Let each side do its first run, which is not counted; ours trains the first champion."""
    first = standing.ready(0, rows=400)
    standing.land(first)
    ended(found, first.name)
    plain_arrival(folder, "warm-up")


def arrive(found: Stack, number: int, *, pause: float) -> dict[str, float]:
    """Write a file, rename it into place after a pause, and wait for the end of what that starts; give its name and the moment.

    Without a pause both fall into one tick of the clock that stamps files, so that the rename leaves no trace, and the file has to settle.
    """
    path = standing.ready(number)
    time.sleep(pause)
    moment = standing.land(path)
    ended(found, path.name)
    return {path.name: moment}


def ended(found: Stack, name: str) -> None:
    """Wait until the cycle that took a file in has ended, and so has its flow run; one that is lost is counted later."""
    try:
        cycle = standing.once(lambda: cycle_of(name), PATIENCE)
        standing.once(lambda: standing.one(found, f"/flow_runs/{cycle.flow_run}")["end_time"], PATIENCE)
    except TimeoutError as error:
        cycles = [(cycle.id, cycle.state, cycle.flow_run, cycle.error) for cycle in ledger.list_cycles("toy", limit=2)]
        console.print(
            f"  {name}: {error}; the newest cycles are {cycles}, {ledger.lease_holder('toy')} holds the lease, {ledger.receipts('toy', limit=2)}"
        )


def cycle_of(name: str) -> ledger.Cycle | None:
    """Give the cycle that took a file in, once it has ended."""
    arrival = next(iter(ledger.named("toy", name)), None)
    return next((part for part in ledger.list_cycles("toy") if arrival and part.id == arrival.cycle and part.state != "running"), None)


def way(found: Stack, name: str, moment: float) -> Way | None:
    """Put together from ledger and Prefect which way an arrival took; None for one that is lost."""
    cycle = cycle_of(name)
    if cycle is None:
        return None
    run = standing.one(found, f"/flow_runs/{cycle.flow_run}")
    states = standing.one(found, "/flow_run_states/", flow_run_id=run["id"])
    first = {kind: min(seconds(state["timestamp"]) for state in states if state["type"] == kind) for kind in ("PENDING", "RUNNING")}
    tasks = standing.list_of(found, "/task_runs/filter", flow_runs={"id": {"any_": [run["id"]]}})
    observed = min(seconds(task["start_time"]) for task in tasks if task["name"].startswith("observe"))
    told = max(moment for moment in asked(found) if moment < seconds(run["created"]))
    return Way(moment, told, seconds(run["created"]), first["PENDING"], first["RUNNING"], observed)


def asked(found: Stack) -> list[float]:
    """Give the moments at which the agent said that a cycle is due."""
    filters = {"event": {"name": ["ratchet.retraining.due"]}, "order": "DESC"}
    answer = httpx.post(f"{found.prefect_api_url}/events/filter", json={"filter": filters, "limit": 50}, timeout=30).json()
    moments = [seconds(event["occurred"]) for event in answer["events"]]
    while answer.get("next_page"):
        answer = httpx.get(answer["next_page"], timeout=30).json()
        moments += [seconds(event["occurred"]) for event in answer["events"]]
    return moments


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def account(landed: dict[str, float]) -> None:
    """Count by the ledger which files are in no cycle, and which in more than one."""
    taken = Counter(name for decision in ledger.decisions("toy") for name in decision["arrivals"])
    rows = Counter(arrival.name for arrival in ledger.history("toy") if arrival.state == "ingested" and arrival.accepted)
    lost = [name for name in landed if not taken[name] or not rows[name]]
    twice = [name for name in landed if taken[name] > 1 or rows[name] > 1]
    verdict = "[bold red]MISSED[/]" if lost or twice else "[green]ok[/]"
    console.print(f"{'arrivals in exactly one cycle':62} n={len(landed):<3} lost {len(lost)}, twice {len(twice)}  target 0 and 0 {verdict}")


def tell(ways: list[Way], hasty: list[Way], theirs: list[float]) -> None:
    """Print ours, where it goes, theirs, and the ratio."""
    ours = [way.first - way.renamed for way in ways]
    spread("rename > first line of the first task", ours, p50=1.0, worst=5.0)
    steps = {"told": "event told", "created": "run created", "claimed": "claimed", "running": "running", "first": "first task"}
    moments = ["renamed", *steps]
    parts = {
        now: statistics.median(getattr(way, now) - getattr(way, before) for way in ways)
        for before, now in zip(moments, moments[1:], strict=False)
    }
    console.print(f"  where it goes, medians in s: {', '.join(f'{steps[now]} {part:.3f}' for now, part in parts.items())}")
    spread("  renamed in the very moment of its last write", [way.first - way.renamed for way in hasty], note="it has to settle, 0.5 s")
    spread("  the same with plain Prefect: watcher, event, flow.serve", theirs)
    console.print(f"  plain Prefect takes {statistics.median(theirs) / statistics.median(ours):.1f} x as long at the median")


@contextmanager
def served(found: Stack) -> Iterator[Path]:
    """Let plain Prefect serve a flow and watch a folder, on the same server."""
    place = settings.read().home / "plain"
    for part in ("in", "seen"):
        (place / part).mkdir(parents=True)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(place), "PREFECT_HOME": str(place / "prefect"), "DO_NOT_TRACK": "true"}
    environment |= {"PREFECT_API_URL": found.prefect_api_url}
    with (place / "log").open("wb") as log:
        running = [
            subprocess.Popen([sys.executable, *words], env=environment, cwd=PLAIN, stdout=log, stderr=log)
            for words in (["served.py"], ["emitter.py", str(place / "in")])
        ]
        try:
            standing.once(
                lambda: standing.list_of(found, "/automations/filter", automations={"name": {"any_": ["plain__automation_1"]}}), 60
            )
            yield place
        finally:
            for process in running:
                process.terminate()
            for process in running:
                finish(process)


def finish(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def plain_arrival(place: Path, name: str) -> float:
    """Land a file for plain Prefect, and give the seconds until its task's first line."""
    hidden, seen = place / "in" / f".{name}.tmp", place / "seen" / f"{name}.csv"
    hidden.write_text("x\n")
    moment = time.time()
    hidden.rename(place / "in" / f"{name}.csv")
    standing.once(seen.exists, PATIENCE)
    return float(seen.read_text()) - moment
