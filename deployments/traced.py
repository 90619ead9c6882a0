"""What the command shows of one prediction: the way back from it to the files that its model was trained on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deployments import stack as servers
from deployments.plain import said
from deployments.show import as_json_text, console
from flows import pipelines
from tasks.errors import BrokenPipeline, UserError
from tasks.facts import moment, plural
from tasks.trace import File, Trace, parts_of, trace

SHOWN = 20  # files that are named


def show(prediction: str, name: str | None, *, as_json: bool) -> None:
    """Trace a prediction and show it; without a pipeline's name all are looked through.

    Raises:
        UserError: if it is no prediction's name, or no log has it.
    """
    parts_of(prediction)
    if name is not None:
        pipelines.path(name)
    with _registry():
        found = _find(prediction, [name] if name is not None else list(pipelines.names()))
    if as_json:
        as_json_text(found.as_dict())
    else:
        _print(found)


def _find(prediction: str, names: list[str]) -> Trace:
    for name in names:
        found = trace(name, prediction, _private(name))
        if found is not None:
            return found
    raise UserError(
        f"{prediction!r} is in no log of {', '.join(names)}. It reaches the log within a second, and is kept there for Serving.retention_days; "
        "of another machine's server it is found once it is in the lake, half a minute later."
    )


@contextmanager
def _registry() -> Iterator[None]:
    """Let models that have no copy on this machine come from the registry, if the servers run; none is started for it."""
    if servers.find() is None:
        yield
        return
    from flows.embedded import connected

    with connected():
        yield


def _private(name: str) -> tuple[str, ...]:
    """Name the columns that are not logged; a file that does not import now keeps no prediction from being traced."""
    try:
        return pipelines.get(name).serving.private
    except BrokenPipeline:
        return ()


def _print(found: Trace) -> None:
    console.print(said((found.prediction, "bold"), f"  {found.pipeline}, {found.at[:19].replace('T', ' ')} UTC, on {found.server}"))
    _line("answer", f"{_values(found.answer)}, by version {found.version} as {found.role}")
    for other in found.shadows:
        values = {name: value for name, value in other.items() if name not in ("version", "role")}
        _line("", f"{_values(values)}, by version {other['version']} as {other['role']}")
    _line("row", _values(found.row))
    model = found.model
    if model is None:
        _line("version", f"{found.version}: the ledger does not know it.")
    else:
        fitted = "all rows of the snapshot" if model.served == "refit" else f"the snapshot's rows to {moment(model.trained_until)}"
        _line("version", f"{model.version}: {model.candidate}, fitted on {fitted}, SHA-256 {model.sha256}")
    if found.decision is None:
        _line("decision", f"Cycle {found.cycle} has none.")
    else:
        what = f"cycle {found.decision['cycle']}, {moment((found.decision['at'] or '')[:19])} UTC: {found.decision['verdict']}"
        _line("decision", f"{what}. {found.decision['sentence']}")
    if found.snapshot is not None:
        rows = f"{plural(found.snapshot.rows, 'row', 'rows')} from {moment(found.snapshot.first)} to {moment(found.snapshot.last)}"
        _line("snapshot", f"version {found.snapshot.version} of {found.snapshot.uri}: {rows}, SHA-256 {found.snapshot.digest}")
    _files(found)
    if found.mlflow_url or found.mlflow_run:
        _line("MLflow", found.mlflow_url or f"run {found.mlflow_run}")
    _line("again", found.again.sentence, {True: "green", None: "yellow", False: "bold red"}[found.again.equal])


def _files(found: Trace) -> None:
    if found.files_note:
        _line("files", found.files_note, "yellow")
        return
    _line("files", plural(len(found.files), "file", "files"))
    for file in found.files[:SHOWN]:
        _line("", _told(file))
    if len(found.files) > SHOWN:
        _line("", f"and {len(found.files) - SHOWN:,} more; --json lists them all")


def _told(file: File) -> str:
    rows = plural(file.rows, "row", "rows")
    if file.arrival is None:
        return f"{file.file}  {rows}; the ledger does not know it"
    since = ", replaced at the source since" if file.arrival.superseded else ""
    return f"{file.arrival.name}  {rows}, arrival {file.arrival.seq}, seen {(file.arrival.seen_at or '')[:19]}, SHA-256 {file.arrival.sha256}{since}"


def _line(what: str, text: str, style: str = "") -> None:
    console.print(said(f"  {what:9} ", (text, style)), highlight=False, soft_wrap=True)


def _values(values: Any) -> str:
    return ", ".join(f"{name} {'missing' if value is None else value}" for name, value in values.items()) or "not kept"
