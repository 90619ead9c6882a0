"""The demo: a stream lands in a folder, arrival by arrival, and every decision is shown as it is made."""

from collections.abc import Iterator
from pathlib import Path

from deployments import show, stack, stream
from flows import pipelines
from flows.training import continuous_training, source_of
from tasks.spec import Pipeline
from tasks.stores import files, ledger

BATCHES = 12
FETCHED = {"electricity": ("electricity", 1), "bike_sharing": ("Bike_Sharing_Demand", 2)}
console = show.console


def play(name: str, data: Path | None, arrivals: int) -> None:
    """Land the stream of a shipped pipeline in its source and run a cycle after each arrival.

    Raises:
        UserError: if there is no such demo, or its file is missing or has too few rows.
    """
    spec = pipelines.get(name)
    inbox = Path(source_of(spec))
    landings = _made_up(inbox) if name == "visitors" else _from_file(spec, data, arrivals, inbox)
    running = stack.up()
    if ledger.last_cycle(name) is not None:
        console.print(f"[dim]{name} has run before in this home; arrivals that it knows are not taken in again. `make clean` forgets them.[/]")
    console.print(f"[bold]{name}[/]: data lands in {inbox}", highlight=False, soft_wrap=True)
    made = []
    for path in landings:
        with console.status(f"{path.name} landed: taking in, training, comparing ..."):
            made.append(continuous_training(name, trigger="demo"))
        console.print(f"{path.name:16} {show.line(made[-1])}", highlight=False)
    _summary(spec, made)
    show.stack(running)


def _made_up(inbox: Path) -> Iterator[Path]:
    console.print(stream.STORY)
    for number in range(BATCHES):
        yield stream.write(number, inbox)


def _from_file(spec: Pipeline, data: Path | None, arrivals: int, inbox: Path) -> Iterator[Path]:
    rows = _read(spec, data)
    size = -(-rows.height // arrivals)
    for number in range(arrivals):
        part = rows.slice(number * size, size)
        if part.height:
            yield files.land(part.write_csv().encode(), inbox, f"{spec.name}-{number:03d}.csv")
