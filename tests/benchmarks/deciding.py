"""What the gate, the serving probe and the report add to a cycle that promotes: the wall between the fit and the decision, and the report after it."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from tests.benchmarks import data
from tests.benchmarks.cycle import fresh_home, servers
from tests.benchmarks.measure import Cost, console, median, tell

ALLOWED = 3.0  # seconds
TRAIN = 20_000
UNSEEN = 1_344  # four weeks of half-hours


@dataclass
class Clock:
    """When the parts of a cycle began and ended, by name."""

    began: dict[str, list[float]] = field(default_factory=dict)
    ended: dict[str, list[float]] = field(default_factory=dict)

    def watch(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the function, which notes its time."""

        def timed(*given: Any, **named: Any) -> Any:
            self.began.setdefault(name, []).append(time.perf_counter())
            try:
                return function(*given, **named)
            finally:
                self.ended.setdefault(name, []).append(time.perf_counter())

        return timed

    def taken(self, name: str, call: int = 0) -> float:
        """Give the seconds of a call."""
        return self.ended[name][call] - self.began[name][call]


@contextmanager
def watched() -> Iterator[Clock]:
    """Note the times of a cycle's parts inside the block: the fits, the registration, the probe, the decision, the report's two halves."""
    from flows import contest
    from tasks import report

    clock = Clock()
    places = [(contest, name) for name in ("_fit", "register", "probe", "promote", "told")] + [(report, "write")]
    before = [(place, name, getattr(place, name)) for place, name in places]
    for place, name, function in before:
        setattr(place, name, clock.watch(name, function))
    try:
        yield clock
    finally:
        for place, name, function in before:
            setattr(place, name, function)


def deciding(runs: int) -> None:
    """Cycles on Elec2 whose challenger takes a champion's place."""
    with servers(), tempfile.TemporaryDirectory() as place:
        _pipeline(Path(place) / "pipelines")
        parts = Path(place) / "parts"
        data.elec2(parts, parts=1)
        rows = pl.read_csv(parts / "part-000.csv", infer_schema=False).head(TRAIN + UNSEEN)
        clocks = [_one(rows) for _ in range(runs + 1)][1:]  # the first one imports
    gates = [_gate(clock) for clock in clocks]
    reports = [clock.taken("told") for clock in clocks]
    whole = median([Cost(0, gate + told) for gate, told in zip(gates, reports, strict=True)])
    middle = {name: median([Cost(0, clock.taken(name)) for clock in clocks]).wall for name in ("register", "probe", "write", "promote")}
    note = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in {**middle, "gate": median([Cost(0, g) for g in gates]).wall}.items())
    tell("gate + probe + report in a cycle that promotes, wall", runs, whole.wall, ALLOWED, 1.0, "s", note=f"load {os.getloadavg()[0]:.1f}")
    console.print(f"  of that (register is not counted): {note}", highlight=False)


def _gate(clock: Clock) -> float:
    """Give the wall from the end of the challenger's fit to the decision, without the refit and the registration."""
    refit = clock.taken("_fit", 1)
    return clock.began["promote"][0] - clock.ended["_fit"][0] - refit - clock.taken("register")


def _one(rows: pl.DataFrame) -> Clock:
    from flows.training import continuous_training

    with fresh_home() as home:
        inbox = home / "in"
        inbox.mkdir()
        rows.head(TRAIN // 2).write_csv(inbox / "a.csv")
        continuous_training("half_hours", source=str(inbox))
        rows.slice(TRAIN // 2).write_csv(inbox / "b.csv")
        with watched() as clock:
            made = continuous_training("half_hours", source=str(inbox))
    assert made.verdict == "promote", made.sentence
    return clock


def _pipeline(directory: Path) -> None:
    """Lay a copy of the shipped pipeline whose challenger is promoted also without proof, so that every run does all of it."""
    from flows import pipelines

    directory.mkdir()
    text = pipelines.path("electricity").read_text().replace('name="electricity"', 'name="half_hours"')
    assert "gate=Gate(\n" in text
    (directory / "half_hours.py").write_text(text.replace("gate=Gate(\n", 'gate=Gate(\n        no_evidence="promote",\n'))
    os.environ["RATCHET_PIPELINES"] = str(directory)
