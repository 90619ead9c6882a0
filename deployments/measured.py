"""What the command shows of how good the predictions turned out to be: by version, and over time."""

from rich.box import SIMPLE
from rich.table import Table

from deployments.plain import said
from deployments.show import as_json_text, console
from flows import pipelines
from tasks.facts import interval, moment, plural, share, shown
from tasks.quality import Comparison, Measure, Quality, quality


def show(name: str, days: float, *, as_json: bool) -> None:
    """Measure the predictions of the last days and show it.

    Raises:
        UserError: if no label can be joined.
    """
    found = quality(pipelines.get(name), days)
    if as_json:
        as_json_text(found.as_dict())
    elif found.versions:
        _print(found)
    else:
        console.print(said(f"No prediction of {name} was logged since {moment(found.since)} UTC."))


def _print(found: Quality) -> None:
    for whole in found.versions:
        console.print(said((f"version {whole.version}", "bold"), f", {whole.role}: {_told(whole, found.metric)}"))
    for pair in found.comparisons:
        console.print(said(_compared(pair)))
    table = Table(f"{found.by} from", "version", "rows", "labelled", "missing", found.metric, "drift", box=SIMPLE, padding=(0, 1, 0, 0))
    for part in found.periods:
        counts = [f"{count:,}" for count in (part.predictions, part.labelled, part.missing)]
        figures = (_with_ends(part), share(part.drift) if part.drift is not None else "-")
        table.add_row(*map(said, (part.period or "", f"{part.version} {part.role}", *counts, *figures)))
    console.print(table)
    console.print(said(("Drift is how far the predictions are from those of the version's first period.", "dim")))


def _told(whole: Measure, metric: str) -> str:
    counted = f"{plural(whole.predictions, 'prediction', 'predictions')}, {whole.missing:,} still without a label"
    if whole.seen:
        counted += f", {whole.seen:,} of rows that it was trained on, which are not scored"
    others = ", ".join(f"{name} {shown(value)}" for name, value in whole.metrics.items() if name != metric and value is not None)
    return f"{counted}. {metric} {_with_ends(whole)}{f'; {others}' if others else ''}"


def _compared(pair: Comparison) -> str:
    rows = plural(pair.rows, "row", "rows")
    return (
        f"version {pair.version} against {pair.against} on {rows} that both predicted: {pair.difference.metric} {interval(pair.difference)}"
    )


def _with_ends(part: Measure) -> str:
    """Write the gate's metric with its interval, as far as they are known."""
    figure = "-" if part.value is None else shown(part.value)
    return figure if part.low is None or part.high is None else f"{figure} [{shown(part.low)}, {shown(part.high)}]"
