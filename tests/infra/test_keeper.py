"""The keeper: what dies of the stack is started again, what dies all the time is given a rest, and nothing comes back once it was stopped."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra import keeper, process, stack
from infra.parts import Part, Service, Stack
from tasks import settings
from tasks.settings import Settings
from tests.waiting import until

pytestmark = pytest.mark.slow
SLEEPER = Service("sleeper", (sys.executable, "-S", "-c", "import time; time.sleep(600)"))


@pytest.fixture
def place(home: Path) -> Iterator[Settings]:
    """A home with servers of its own."""
    found = settings.read()
    try:
        yield found
    finally:
        stack.down(found)


@pytest.fixture
def beside(cycle_home: Path) -> Iterator[Settings]:
    """A home that uses the session's servers, so that a service and the keeper are all that is started."""
    found = settings.read()
    try:
        yield found
    finally:
        stack.down(found)


def part(found: Stack, name: str) -> Part:
    return next(one for one in found.parts if one.name == name)


def kill(found: Stack, *names: str) -> None:
    for name in names:
        os.killpg(part(found, name).pid or 0, signal.SIGKILL)


def restarted(place: Settings, before: Stack, *names: str) -> Stack:
    """Wait until all of the stack answers, with other processes of those names."""

    def look() -> Stack | None:
        found = stack.find(place)
        if found is None or any(part(found, name).pid == part(before, name).pid or not part(found, name).alive for name in names):
            return None
        return found

    return until(look, f"the restart of {names}", 120)


def told(place: Settings) -> str:
    return (place.home / "logs" / "keeper.log").read_text()


def test_servers_and_service_that_are_killed_are_started_again_on_their_ports(place: Settings) -> None:
    first = stack.up(place, [SLEEPER])
    kill(first, "prefect", "mlflow", "sleeper")
    second = restarted(place, first, "prefect", "mlflow", "sleeper")
    assert (second.prefect_url, second.mlflow_url) == (first.prefect_url, first.mlflow_url)
    assert part(second, "keeper") == part(first, "keeper")
    for name in ("prefect", "mlflow", "sleeper"):
        line = f"{name} had died and was started again as process {part(second, name).pid}"
        until(lambda line=line: line in told(place), line)  # it is written a moment after the record
    stack.down(place)
    assert all(process.started(one.pid or 0) != one.since for one in (*first.parts, *second.parts))


def test_a_service_that_dies_is_started_again_and_one_that_lives_is_left_alone(beside: Settings) -> None:
    first = stack.up(beside, [SLEEPER, Service("other", SLEEPER.command)])
    kill(first, "sleeper")
    second = restarted(beside, first, "sleeper")
    assert part(second, "other") == part(first, "other")
    assert part(second, "sleeper").command == SLEEPER.command
    until(lambda: "sleeper had died" in told(beside), "the keeper's word")
    assert told(beside).count("had died") == 1  # servers that are not ours are none that were started


def test_a_service_that_runs_with_other_settings_keeps_them_until_it_is_stopped(beside: Settings) -> None:
    here, there = (replace(SLEEPER, given=(("RATCHET_PIPELINES", where),)) for where in ("here", "there"))
    first = stack.up(beside, [here])
    assert stack.up(beside, [there]) == first
    assert stack.up(beside, [replace(there, version="2")]) == first
    kill(first, "sleeper")
    second = stack.up(beside, [there])  # its keeper is about to start it again
    again = restarted(beside, first, "sleeper")
    assert (part(second, "keeper"), part(again, "sleeper").given) == (part(first, "keeper"), here.given)
    assert part(stack.up(beside, [replace(here, version="2")]), "sleeper").version == "2"
    stack.down(beside)
    assert part(stack.up(beside, [there]), "sleeper").given == there.given


def test_a_service_that_died_before_the_keeper_looked_is_not_forgotten_by_whoever_comes_first(beside: Settings) -> None:
    other = replace(SLEEPER, name="other")
    first = stack.up(beside, [SLEEPER, other])
    watching = part(first, "keeper").pid or 0
    with stack._locked(beside):  # it waits for the next look, and for no lock
        os.kill(watching, signal.SIGSTOP)
    kill(first, "sleeper")
    until(lambda: not part(first, "sleeper").alive, "it is gone")
    stack.up(beside)  # as a cycle does that needs the servers
    os.kill(watching, signal.SIGCONT)
    again = restarted(beside, first, "sleeper")
    assert [part(again, name) for name in ("keeper", "other")] == [part(first, name) for name in ("keeper", "other")]


@pytest.mark.parametrize("before", ["a cycle", "nobody"])
def test_what_was_killed_with_its_keeper_comes_back_only_if_it_is_asked_for(beside: Settings, before: str) -> None:
    first = stack.up(beside, [SLEEPER, replace(SLEEPER, name="other")])
    kill(first, "keeper", "sleeper", "other")
    until(lambda: not any(part(first, name).alive for name in ("keeper", "sleeper", "other")), "all are gone")
    if before == "a cycle":
        stack.up(beside)
        assert stack.parts(beside) == ()
    stack.up(beside, [SLEEPER])
    time.sleep(2 * keeper.EVERY)
    assert {one.name for one in stack.parts(beside)} == {"keeper", "sleeper"}


def test_a_service_that_dies_all_the_time_is_given_a_rest_and_down_does_not_wait_for_it(beside: Settings, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = f"open({str(starts)!r}, 'a').write('x')"
    found = stack.up(beside, [Service("dying", (sys.executable, "-S", "-c", code))])
    until(lambda: "looking again in 30 s" in told(beside), "the rest", 60)
    time.sleep(2)
    assert starts.read_text() == "x" * (1 + keeper.RESTARTS)
    stack.down(beside)
    watched = part(found, "keeper")
    assert process.started(watched.pid or 0) != watched.since
    assert "Traceback" not in told(beside)
    assert starts.read_text() == "x" * (1 + keeper.RESTARTS)


def test_down_stops_the_keeper_first_so_that_nothing_comes_back(beside: Settings) -> None:
    stack.up(beside, [SLEEPER])
    names = [one.name for one in stack.down(beside)]
    assert names == ["keeper", "sleeper"]
    time.sleep(2 * keeper.EVERY)
    assert [one for one in stack.parts(beside) if one.alive] == []


def test_a_killed_keeper_takes_nothing_with_it_and_up_starts_it_again(beside: Settings) -> None:
    first = stack.up(beside, [SLEEPER])
    kill(first, "keeper")
    until(lambda: not part(first, "keeper").alive, "the end of the keeper")
    assert part(first, "sleeper").alive
    second = stack.up(beside, [SLEEPER])
    assert part(second, "sleeper") == part(first, "sleeper")
    assert part(second, "keeper").alive


def test_a_keeper_that_waits_ends_at_once_when_it_is_told_to(beside: Settings) -> None:
    found = stack.up(beside, [Service("dying", (sys.executable, "-S", "-c", ""))])
    until(lambda: "looking again in 30 s" in told(beside), "the rest", 60)
    watched = part(found, "keeper")
    with stack._locked(beside):  # as `down` holds it while it stops the keeper
        os.kill(watched.pid or 0, signal.SIGTERM)
        until(lambda: not watched.alive, "the end of the keeper", 3)
