"""The `ratchet` command. Exit codes: 0 done, whatever was decided; 2 the caller's mistake; 1 ours.

Heavy modules are imported by the command that needs them, so that `ratchet --help` stays quick.
"""

import gc
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec

import typer
from rich.console import Console

from deployments.plain import lines
from tasks import settings
from tasks.errors import RatchetError, UserError

P = ParamSpec("P")

app = typer.Typer(
    name="ratchet",
    help="Continuous training for tabular models: data lands, challengers are trained, only what is provably better is promoted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
Name = Annotated[str, typer.Argument(help="A pipeline: the name of its file.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON of the documented shape instead.")]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, newest first.")]


def main() -> None:
    """Run the command; errors that Ratchet raises on purpose become one message and an exit code."""
    # Importing Prefect and MLflow makes a million objects that stay; looking for garbage among them costs half a second.
    gc.set_threshold(200_000, 20, 20)
    try:
        _own_prefect_home()
        app()
    except UserError as error:
        _fail(error, 2)
    except RatchetError as error:
        _fail(error, 1)


def _fail(error: RatchetError, code: int) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]{type(error).__name__}[/]: ", end="")
    Console(stderr=True, soft_wrap=True, markup=False, highlight=False, emoji=False).print(lines(str(error)))
    sys.exit(code)


def _own_prefect_home() -> None:
    """Keep Prefect away from the user's own profile: this process is Ratchet's alone. Prefect reads it when it is imported."""
    own = Path(os.environ.setdefault("PREFECT_HOME", str(settings.read().home / "prefect")))
    if sys.argv[1:] and "--help" not in sys.argv:
        own.mkdir(parents=True, exist_ok=True)


def quiet(function: Callable[P, None]) -> Callable[P, None]:
    """Turn Prefect's own lines in the terminal off for a command that shows what happens itself; the UI has them all."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        function(*args, **kwargs)

    return run


@app.command()
def up() -> None:
    """Start the servers and the agent, which watches the sources and runs the cycles, or find them running; print where they are.

    It returns once the sources are watched, or it is known why one is not. An agent that runs already keeps the settings that it was started with.
    """
    from deployments import starting

    starting.up()


@app.command()
def down() -> None:
    """Stop exactly what `ratchet up` started."""
    from deployments import show, stack

    show.stopped(stack.down())


@app.command()
@quiet
def demo(
    name: Annotated[str, typer.Argument(help="visitors (made up by a seeded generator), electricity or bike_sharing.")] = "visitors",
    data: Annotated[
        Path | None, typer.Option("--data", help="The stream's file, CSV or CSV.gz; without it electricity is fetched from OpenML.")
    ] = None,
    arrivals: Annotated[int, typer.Option("--arrivals", min=2, help="In how many arrivals a file lands.")] = 24,
) -> None:
    """Let a stream land in a folder batch by batch, and show each cycle's decision as it is made."""
    from deployments import demo as demonstration

    demonstration.play(name, data, arrivals)


@app.command()
@quiet
def run(
    name: Name,
    source: Annotated[
        str | None, typer.Option("--source", help="A directory, file or s3:// prefix instead of the pipeline's source.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run one cycle now: take in what has arrived, train, compare, decide."""
    from deployments import show
    from flows import pipelines

    pipelines.get(name)
    show.decision(show.cycle(name, source), as_json=as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Show the servers, and for each pipeline its champion, its last decision and what is outstanding."""
    from deployments import show

    show.status(as_json=as_json)


Kind = Annotated[str, typer.Option("--source", "-s", help="Which of its sources: scoring; that of the rows to train on without it.")]


@app.command()
@quiet
def predict(
    name: Name,
    given: Annotated[str, typer.Option("--input", "-i", help="A file, a directory or an s3:// prefix: CSV, Parquet or JSON Lines.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A directory or an s3:// prefix; nothing there is overwritten.")],
    form: Annotated[str, typer.Option("--format", help="parquet or csv.")] = "parquet",
    as_json: Json = False,
) -> None:
    """Predict every row of files with the champion, each version of a file once; what was interrupted is gone on with."""
    from deployments import scoring

    if not scoring.predict(name, given, output, form, as_json=as_json):
        raise typer.Exit(2)


@app.command()
def arrivals(
    name: Name,
    limit: Limit = 20,
    source: Kind = "",
    unseen: Annotated[bool, typer.Option("--unseen", help="List the source too: what is there and is no arrival, and why.")] = False,
    as_json: Json = False,
) -> None:
    """List what arrived, and what became of it: rows accepted, rejected and repeated, or why it was quarantined."""
    from deployments import account

    account.arrivals(account.named(name, source), limit, as_json=as_json, unseen=unseen)


@app.command()
def decisions(name: Name, limit: Limit = 20, as_json: Json = False) -> None:
    """List the decisions, newest first."""
    from deployments import show

    show.decisions(name, limit, as_json=as_json)


@app.command()
def why(
    name: Name,
    cycle: Annotated[int | None, typer.Option("--cycle", "-c", help="Number of the cycle; the newest without it.")] = None,
    arrival: Annotated[
        str | None, typer.Option("--arrival", "-a", help="Name of a file: what became of it, and what it waited for.")
    ] = None,
    source: Kind = "",
    as_json: Json = False,
) -> None:
    """Explain a decision: every rule with its figure, all scores, and the data behind them; or what became of one file."""
    from deployments import account, show

    if arrival is not None:
        account.why(account.named(name, source), arrival, as_json=as_json)
    else:
        show.why(name, cycle, as_json=as_json)


Who = Annotated[str | None, typer.Option("--by", help="Who decides; the user of this machine without it.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept for ever.")]


@app.command()
@quiet
def approve(name: Name, reason: Reason, by: Who = None) -> None:
    """Let the version that a cycle holds take the champion's place."""
    from deployments import people

    people.answer(name, approve=True, who=by, why=reason)


@app.command()
@quiet
def reject(name: Name, reason: Reason, by: Who = None) -> None:
    """Turn the version that a cycle holds down; the champion stays."""
    from deployments import people

    people.answer(name, approve=False, who=by, why=reason)


@app.command()
@quiet
def rollback(
    name: Name,
    reason: Reason,
    to: Annotated[int | None, typer.Option("--to", help="Which earlier champion; the one before without it.", metavar="VERSION")] = None,
    by: Who = None,
) -> None:
    """Make an earlier champion the champion again; only rows newer than those seen so far count against it from here on."""
    from deployments import people

    people.roll_back(name, to=to, who=by, why=reason)


@app.command()
def champions(name: Name, as_json: Json = False) -> None:
    """List which version served when, how it came there, and why."""
    from deployments import people

    people.champions(name, as_json=as_json)


@app.command()
def serve(
    name: Name,
    host: Annotated[str, typer.Option("--host", help="Where to listen; off loopback every request needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535)] = 8000,
    workers: Annotated[
        int | None, typer.Option("--workers", "-w", min=1, help="Processes that answer; the pipeline's own number without it.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option("--certificate", help="A file with the certificate, for TLS.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="A file with its key.")] = None,
) -> None:
    """Serve the champion over HTTP, and follow it: `/docs` shows how to ask.

    Tokens are lines of `tokens` in the home, each a name and a token (chmod 600); the file is read anew when it changes.
    """
    from deployments import service

    service.serve(name, host, port, workers, certificate, key)


@app.command()
def trace(
    prediction: Annotated[str, typer.Argument(help="A prediction's name, as a reply lists it.", metavar="ID")],
    name: Annotated[str | None, typer.Argument(help="Its pipeline; all are looked through without it.", metavar="NAME")] = None,
    as_json: Json = False,
) -> None:
    """Trace a prediction back to its version, decision, snapshot and files, and predict its row anew with that version's own code."""
    from deployments import traced

    traced.show(prediction, name, as_json=as_json)


@app.command()
def quality(
    name: Name,
    days: Annotated[float, typer.Option("--days", min=0.001, help="How far back the predictions go that are counted.")] = 28.0,
    as_json: Json = False,
) -> None:
    """Show how good the predictions turned out to be, by version and over time, and for how many the label is still missing."""
    from deployments import measured

    measured.show(name, days, as_json=as_json)


@app.command()
def check(name: Name, as_json: Json = False) -> None:
    """Hold a pipeline's file against what training and serving will ask of it, and say what to change."""
    from deployments import show

    if not show.findings(name, as_json=as_json):
        raise typer.Exit(2)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look for what is wrong with the installation, the servers, the ledger, the lake and the settings."""
    from deployments import doctor as examination

    if not examination.show_all(as_json=as_json):
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
