"""A siege: the whole stack as `ratchet up` starts it, files that keep landing, and every part of it killed or stopped while they do."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deployments import stack
from infra import process
from infra.parts import Stack
from tasks.stores import ledger
from tests.chaos import checker, story, world
from tests.chaos.world import World
from tests.waiting import until

LEASE = 5.0
ROUNDS = 12
PATIENCE = 240.0
WITHIN = 100.0  # seconds after which Prefect shows no dead run as under way


@contextmanager
def laid(seed: int, home: Path) -> Iterator[tuple[str, World]]:
    """Start a stack of its own in a home, with one pipeline."""
    name = f"siege_{seed}"
    source, own = world.at(home, seed), home / "pipelines"
    own.mkdir()
    text = story.DEFINITION.replace('"NAME"', f'"{name}"').replace("Pipeline, Window", "Pipeline, Source, Window")
    (own / f"{name}.py").write_text(text.replace("    window=", f'    source=Source(uri="{source.source}"),\n    window='))
    wanted = {"RATCHET_HOME": str(home), "RATCHET_PIPELINES": str(own), "RATCHET_LEASE": str(LEASE), "RATCHET_SWEEP": "2"}
    before = dict(os.environ)
    for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        os.environ.pop(variable, None)
    os.environ.update(wanted)
    try:
        found = stack.up()
        os.environ["MLFLOW_TRACKING_URI"] = found.mlflow_url
        yield name, source
    finally:
        os.environ.clear()
        os.environ.update({**before, **wanted})
        for variable in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
            os.environ.pop(variable, None)
        stack.down()
        os.environ.clear()
        os.environ.update(before)


def play(name: str, source: World, seed: int) -> tuple[list[str], Counter[str]]:
    """Let files land while parts die, then wait until all is quiet; give what is wrong then, and what was done to whom."""
    chance, done = random.Random(f"{seed} siege"), Counter[str]()
    for number in range(ROUNDS):
        for _ in range(chance.randint(1, 3)):
            source.happen()
            time.sleep(chance.uniform(0.05, 0.5))
        if number % 2:
            what, strike = chance.choice(list(STRIKES.items()))
            source.told += [source.land(), f"  -- {what} --"]
            done[what] += strike(name)
        time.sleep(chance.uniform(0.5, 2.0))
    source.land()
    if not _quiet(name, source):
        return [f"it did not grow quiet within {PATIENCE:.0f} s: {_at_work(name)}"], done
    ended = subprocess.run(
        [sys.executable, "-m", "deployments.command", "run", name], capture_output=True, text=True, timeout=120, check=False
    )
    if ended.returncode:
        return [f"a cycle that has nothing to do ended with {ended.returncode}: {ended.stdout}{ended.stderr}"], done
    return checker.violations(name, source) + _stuck(name), done


def _quiet(name: str, source: World) -> bool:
    """Wait until every file is accounted for, and nothing is left to do."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if not _at_work(name) and not checker.lost(name, source):
            return True
        time.sleep(0.5)
    return False


def _at_work(name: str) -> str:
    last = ledger.last_cycle(name)
    parts = {
        "outstanding": ledger.count_outstanding(name)[0],
        "unfinished": len(ledger.unfinished(name)),
        "lease": ledger.lease_holder(name),
        "last cycle": last.state if last is not None and last.state != "done" else None,
    }
    return ", ".join(f"{what} {value}" for what, value in parts.items() if value)


def _stuck(name: str) -> list[str]:
    """Wait until Prefect shows no run as under way, and give those that it shows all the same."""
    api, limit = f"{_found().prefect_url}/api/flow_runs/filter", time.monotonic() + WITHIN
    wanted = {"flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}}
    while time.monotonic() < limit:
        left = httpx.post(api, json=wanted, timeout=30).raise_for_status().json()
        if not left:
            return []
        time.sleep(1)
    return [f"stuck: {run['name']} is {run['state_name']}" for run in left]


def _found() -> Stack:
    limit = time.monotonic() + PATIENCE
    while (found := stack.find()) is None:
        assert time.monotonic() < limit, "the stack did not come back"
        time.sleep(0.5)
    return found


def _killed(part: str) -> Callable[[str], int]:
    def strike(_: str) -> int:
        pid = next((found.pid for found in stack.parts() if found.name == part), None)
        return _signalled(pid, signal.SIGKILL)

    return strike


def _cycle(number: signal.Signals) -> Callable[[str], int]:
    """Send a signal to the process that holds the lease, as soon as one does."""

    def strike(name: str) -> int:
        limit = time.monotonic() + 5
        while (holder := ledger.lease_holder(name)) is None and time.monotonic() < limit:
            time.sleep(0.01)
        pid = int(holder.split("/")[1]) if holder else None
        done = _signalled(pid, number)
        if number == signal.SIGSTOP:
            time.sleep(LEASE + 2)
            _signalled(pid, signal.SIGCONT)
        return done

    return strike


def _signalled(pid: int | None, number: signal.Signals) -> int:
    with contextlib.suppress(ProcessLookupError):
        if pid is not None:
            os.kill(pid, number)
            if number == signal.SIGKILL:  # it takes a moment, in which a process is taken for alive
                until(lambda: process.started(pid) is None, f"the end of process {pid}")
            return 1
    return 0


def _keeper_killed(name: str) -> int:
    """Kill the keeper, and then the agent; somebody starts them again."""
    done = _killed("keeper")(name) + _killed("agent")(name)
    mlflow = os.environ.pop("MLFLOW_TRACKING_URI")
    stack.up()
    os.environ["MLFLOW_TRACKING_URI"] = mlflow
    return done


STRIKES: dict[str, Callable[[str], int]] = {
    "agent SIGKILL": _killed("agent"),
    "prefect SIGKILL": _killed("prefect"),
    "mlflow SIGKILL": _killed("mlflow"),
    "keeper and agent SIGKILL": _keeper_killed,
    "cycle SIGKILL": _cycle(signal.SIGKILL),
    "cycle SIGSTOP, SIGCONT": _cycle(signal.SIGSTOP),
}
