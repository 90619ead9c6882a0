"""Batch scoring from the command line: no server is needed where the champion's verified copy is in the home."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from deployments import show
from deployments.plain import plain, said
from flows import pipelines
from flows.embedded import connected
from tasks import batch
from tasks.batch import Order
from tasks.records import Look
from tasks.scorings import Batch, Scored, told
from tasks.stores import files, kept

COLOURS = {"scored": "green", "known": "dim", "refused": "bold red", "missed": "bold red"}


class _Rate(TextColumn):
    """Rows per second."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f} rows/s")


def predict(name: str, given: str, output: str, form: str, *, as_json: bool) -> bool:
    """Score the input, show how far it is and what came of it, and tell whether every file was scored, now or before."""
    asked = batch.order(pipelines.get(name), output, form, given)
    looks, ignored = batch.inputs(given)
    at_hand = kept.verified(asked.champion.sha256) is not None
    with nullcontext() if at_hand else connected():
        made = tuple(_all(asked, looks))
    whole = Batch(name, given, asked.output, asked.champion.version, made, ignored, told(made, asked.output))
    if as_json:
        show.as_json_text(whole.as_dict())
    else:
        _print(whole)
    return not (whole.count("refused") or whole.count("missed"))


def _all(asked: Order, looks: tuple[Look, ...]) -> list[Scored]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    shown = Console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as progress:
        return [_one(asked, look, progress) for look in looks]


def _one(asked: Order, look: Look, progress: Progress) -> Scored:
    bar = progress.add_task(plain(look.name), total=_rows(look))
    made = batch.score(asked, look, tell=partial(progress.advance, bar))
    progress.remove_task(bar)
    return made


def _rows(look: Look) -> int | None:
    """Tell how many rows a file has, where it says so itself."""
    if not files.is_local(look) or Path(look.name).suffix.lower() != ".parquet":
        return None
    try:
        return int(pl.scan_parquet(look.uri, glob=False).select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError):  # it is refused with the reason when its turn comes
        return None


def _print(made: Batch) -> None:
    for file in made.files:
        counts = f"{file.predicted:,} rows predicted, {file.rejected:,} rejected" if file.rows else ""
        show.console.print(
            said((f"{file.outcome:8}", COLOURS[file.outcome]), f"{file.name}  {counts or file.reason or ''}"), soft_wrap=True
        )
        if file.outcome == "known":
            show.console.print(said((f"         by version {file.version} at {(file.at or '')[:19]} UTC", "dim")))
        for note in (*file.notes, *file.outputs):
            show.console.print(said((f"         {note}", "dim")), soft_wrap=True)
    for ignored in made.ignored:
        show.console.print(said((f"ignored {ignored}", "dim")), soft_wrap=True)
    show.console.print(said(made.sentence), soft_wrap=True)
