"""The demo: a stream lands in a folder, arrival by arrival; each starts a cycle by itself, and its decision is shown as it is made."""

import hashlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from rich.progress import Progress, TaskID, TimeElapsedColumn
from rich.table import Table

from deployments import show, stack, stream
from deployments.plain import said
from flows import pipelines
from flows.streams import source_of
from tasks import settings
from tasks.errors import UserError
from tasks.metrics import METRICS
from tasks.records import Decision
from tasks.spec import Pipeline
from tasks.stores import files, ledger

FETCHED = {"electricity": 151}  # OpenML's number of Elec2
WIDTH = 30
PATIENCE = 300.0  # seconds that a cycle may take to begin and to end
console = show.console


def play(name: str, data: Path | None, arrivals: int) -> None:
    """Land the stream of a shipped pipeline in its source, each arrival once the cycle of the one before has ended.

    Raises:
        UserError: if there is no such demo, its file is missing, has too few rows, or is not asked for, or no cycle begins.
    """
    spec = pipelines.get(name)
    made_up = name == "visitors"
    if made_up and data is not None:
        raise UserError("The stream of 'visitors' is made up; leave --data out, or name the pipeline that the file is for.")
    inbox = Path(source_of(spec))
    total = stream.WEEKS if made_up else arrivals
    landings = _made_up(inbox) if made_up else _from_file(spec, data, arrivals, inbox)
    running = stack.up()
    if ledger.last_cycle(name) is not None:
        console.print(f"[dim]{name} has run before in this home: what it has seen it does not take in twice.[/]")
    console.print(said(f"Data lands in {inbox}"), soft_wrap=True)
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("landing", total=total)
        made = [_cycle(name, path, progress, bar) for path in landings]
    _summary(spec, made)
    show.stack(running)


def _cycle(name: str, landed: Path, progress: Progress, bar: TaskID) -> Decision:
    progress.update(bar, description=f"{landed.name}: taking in, training, comparing")
    decision = _decided(name, landed)
    progress.advance(bar)
    console.print(said((landed.name, "bold"), "  ").append_text(show.line(decision)))
    return decision


def _decided(name: str, landed: Path) -> Decision:
    """Wait for the decision of the cycle that a file which landed has started.

    Raises:
        UserError: if there is none for too long.
    """
    limit, digest = time.monotonic() + PATIENCE, hashlib.sha256(landed.read_bytes()).hexdigest()
    while time.monotonic() < limit:
        cycle = next((part.cycle for part in ledger.history(name) if part.sha256 == digest and part.cycle is not None), None)
        record = ledger.decision(name, cycle) if cycle is not None else None
        if record is not None:
            return Decision.from_dict(record)
        time.sleep(0.1)
    raise UserError(
        f"{landed.name} has landed {PATIENCE:.0f} s ago and no cycle has ended since. `ratchet why {name} --arrival {landed.name}` says what it "
        f"waits for, {settings.read().home / 'logs' / 'agent.log'} what the agent does."
    )


def _made_up(inbox: Path) -> Iterator[Path]:
    console.print(stream.STORY)
    for week in range(stream.WEEKS):
        yield stream.write(week, inbox)


def _from_file(spec: Pipeline, data: Path | None, arrivals: int, inbox: Path) -> Iterator[Path]:
    """Part a file, whose rows are in order of time, into arrivals of equal length."""
    if data is not None and not data.is_file():
        raise UserError(f"{data} is no file. Give the stream's CSV with --data, or leave it out to fetch it from OpenML.")
    rows = pl.read_csv(data, infer_schema=False) if data is not None else _fetched(spec.name)
    if rows.height < arrivals:
        raise UserError(f"The stream has {rows.height} rows, too few for {arrivals} arrivals. Ask for fewer with --arrivals.")
    for number, rest in enumerate(range(0, rows.height, -(-rows.height // arrivals))):
        part = rows.slice(rest, -(-rows.height // arrivals))
        yield files.land(part.write_csv().encode(), inbox, f"{spec.name}-{number:03d}.csv")


def _fetched(name: str) -> pl.DataFrame:
    """Fetch a stream from OpenML.

    Raises:
        UserError: if it is not to be had there as this pipeline needs it, or OpenML cannot be reached.
    """
    from sklearn.datasets import fetch_openml

    if name not in FETCHED:
        raise UserError(f"The stream of {name!r} cannot be fetched. Download it yourself and give it with --data FILE.")
    try:
        frame = fetch_openml(data_id=FETCHED[name], as_frame=True, parser="auto", n_retries=0).frame
    except (OSError, ValueError) as error:
        raise UserError(
            f"The stream of {name!r} cannot be fetched from OpenML: {error}. Download it and give it with --data FILE."
        ) from error
    return timed(pl.from_pandas(frame))


def timed(rows: pl.DataFrame) -> pl.DataFrame:
    """Add the time of each half-hour to Elec2 as OpenML has it, counted from 7 May 1996; all cells become text.

    >>> timed(pl.DataFrame({"day": [2, 2]}))["timestamp"].to_list()
    ['1996-05-07T00:00:00', '1996-05-07T00:30:00']
    """
    times = [datetime(1996, 5, 7) + timedelta(minutes=30 * row) for row in range(rows.height)]
    return rows.select(pl.Series("timestamp", times).dt.strftime("%Y-%m-%dT%H:%M:%S"), pl.all().cast(pl.String))


def _summary(spec: Pipeline, made: list[Decision]) -> None:
    counts = {verdict: sum(decision.verdict == verdict for decision in made) for verdict in ("promote", "keep", "skip")}
    rejected = sum(decision.rejected for decision in made)
    console.print(
        f"\n[bold]{len(made)} cycles[/]: {counts['promote']} promoted, {counts['keep']} kept, {counts['skip']} skipped; "
        f"{sum(decision.accepted for decision in made):,} rows taken in, {rejected} rejected, {sum(decision.repeated for decision in made)} repeats dropped.",
        highlight=False,
    )
    console.print(_chart(spec, made))
    console.print(f"Why? [bold]ratchet why {spec.name}[/] (--cycle N); all of them: [bold]ratchet decisions {spec.name}[/].")


def _chart(spec: Pipeline, made: list[Decision]) -> Table:
    """Draw, cycle by cycle, how the model in service did on rows that it had not seen."""
    metric = METRICS[spec.gate.metric]
    served = [_in_service(decision, metric.name) for decision in made]
    known = [value for value in served if value is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    arrow = "higher is better" if metric.higher_is_better else "lower is better"
    title = f"{metric.name} on unseen rows, cycle by cycle ({arrow})"
    table = Table("cycle", "champion in service", "", "challenger", "decision", *_best_header(spec), title=title)
    for week, (decision, value) in enumerate(zip(made, served, strict=True)):
        bar = "" if value is None else "█" * max(1, round(WIDTH * (value - low) / ((high - low) or 1)))
        ours = decision.evaluation.challenger.metrics.get(metric.name) if decision.evaluation else None
        verdict = f"[{show.COLOURS[decision.verdict]}]{decision.verdict}[/]"
        table.add_row(str(decision.cycle), bar, _figure(value), _figure(ours), verdict, *_best(spec, week, decision))
    return table


def _in_service(decision: Decision, metric: str) -> float | None:
    if decision.evaluation is None or decision.evaluation.champion is None:
        return None
    return decision.evaluation.champion.metrics.get(metric)


def _best_header(spec: Pipeline) -> list[str]:
    return ["best possible"] if spec.name == "visitors" else []


def _best(spec: Pipeline, week: int, decision: Decision) -> list[str]:
    if spec.name != "visitors":
        return []
    return [_figure(stream.best_possible(week, spec.gate.metric, newest=decision.evaluation.rows if decision.evaluation else None))]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
