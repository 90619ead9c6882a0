"""Batch scoring: predict the rows of files with the champion, those that are named or those that have landed at the pipeline's second source."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import cast

from prefect import runtime
from prefect.states import Completed

from flows import pipelines
from flows.embedded import embedded, tag_run
from flows.streams import Stream, claimed, left_to_do, outstanding, passed_over, stream
from tasks import batch, document, scored
from tasks.batch import Order, score_file
from tasks.errors import CycleInProgress
from tasks.observe import observe
from tasks.records import Arrival, ArrivalState, Look
from tasks.scorings import Batch, Scored, told
from tasks.spec import Pipeline
from tasks.stores import artifacts, ledger
from tasks.stores.ledger import Lease
from tasks.triggers import SCORING


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"{given['pipeline']} · scoring · {given.get('trigger', 'manual')} · {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


@embedded(name=SCORING, flow_run_name=_run_name, persist_result=False)
def batch_scoring(
    pipeline: str, input: str | None = None, output: str | None = None, form: str = "parquet", trigger: str = "manual"
) -> Batch:
    """Predict every row of the input with the champion, each version of a file once by a model version into a place.

    Args:
        pipeline: name of a pipeline file (see `flows.pipelines`).
        input: a file, a directory or an s3:// prefix; without it, what has landed at the pipeline's `scoring` source and was not scored yet.
        output: a directory or an s3:// prefix; without it the `output` of the pipeline's `scoring`, or `scored/<pipeline>` in the home.
        form: "parquet" or "csv".
        trigger: what started this run.

    Returns:
        What became of every file, with the addresses of what was written.

    Raises:
        UserError: if pipeline, input or output is wrong, there is no champion, or what has landed is being scored already.
    """
    spec = pipelines.get(pipeline)
    tag_run(pipeline, "scoring", trigger, process=ledger.holder())
    if input is None:
        return _landed(spec, stream(spec, "scoring"), output, form, trigger)
    asked = batch.order(spec, output, form, input)
    looks, ignored = batch.inputs(input)
    files = tuple(score_file(asked, look, None, look.name) for look in looks)
    return _shown(_made(asked, input, files, ignored))


def _made(asked: Order, given: str, files: tuple[Scored, ...], ignored: Iterable[str] = ()) -> Batch:
    notes = tuple(f"Ignored {what}." for what in ignored)
    return Batch(asked.pipeline.name, given, asked.output, asked.champion.version, files, notes, told(files, asked.output))


def _shown(made: Batch) -> Batch:
    """Leave the artifact, and let the list of runs in Prefect say what was done."""
    key = f"{made.pipeline.replace('_', '-').lower()}-scored"
    artifacts.markdown(str(runtime.flow_run.id), key, document.markdown(scored.told(made)), made.sentence)
    if runtime.deployment.id is None:
        return made
    return cast("Batch", Completed(name="Scored" if made.count("scored") else "Skipped", message=made.sentence))


def _landed(spec: Pipeline, source: Stream, output: str | None, form: str, trigger: str) -> Batch:
    """Score what has landed and was not scored yet, in a cycle of the stream's own."""
    observation = observe(source.name, source.uri)
    by_itself = runtime.deployment.id is not None
    if by_itself and trigger == "arrival" and not left_to_do(source.name):
        return cast("Batch", passed_over(source.name, trigger, "nothing", "Nothing is outstanding any more: an earlier run has scored it."))
    if by_itself and ledger.champion(spec.name) is None:
        return cast(
            "Batch", passed_over(source.name, trigger, "champion", "There is no champion yet: what has landed waits for the first one.")
        )
    asked = batch.order(spec, output, form, source.uri)
    try:
        with claimed(source, trigger) as lease:
            files = _score_outstanding(asked, lease)
    except CycleInProgress as busy:
        if not by_itself:
            raise
        return cast("Batch", passed_over(source.name, trigger, "running", str(busy).partition(". ")[0] + "."))
    return _shown(_made(asked, source.uri, files, observation.ignored))


def _score_outstanding(asked: Order, lease: Lease) -> tuple[Scored, ...]:
    """Score all that is outstanding; what is done is settled at once."""
    made: list[Scored] = []
    for arrival in chain.from_iterable(outstanding(lease)):
        if arrival.duplicate_of is not None:
            ledger.settle(lease, [replace(arrival, state="duplicate")])
            continue
        look = Look(name=arrival.name, uri=arrival.uri, size=arrival.size, stamp=arrival.stamp)
        made.append(score_file(asked, look, arrival.sha256, arrival.name))
        _settle(lease, arrival, made[-1])
    return tuple(made)


def _settle(lease: Lease, arrival: Arrival, made: Scored) -> None:
    """Record what became of an arrival."""
    if made.outcome == "missed":
        gone = not arrival.uri.startswith("s3://") and not Path(arrival.uri).exists()
        settle = ledger.give_up if gone else ledger.put_off
        settle(lease, [(arrival, ledger.GONE if gone else made.reason or "")])
        return
    broken = f"{made.rejected:,} rows break the contract; they are beside the predictions." if made.rejected else None
    state: ArrivalState = "ingested" if made.predicted else "quarantined"
    settled = replace(arrival, state=state, accepted=made.predicted, rejected=made.rejected, reason=made.reason or broken)
    ledger.settle(lease, [settled])
