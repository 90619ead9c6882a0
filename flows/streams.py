"""Streams: the sources of a pipeline that are watched, each with the flow that takes in what lands there.

A stream has a name in the ledger and in Prefect, "churn" for the rows to train on and "churn:scoring" for those to predict, and under that
name arrivals, receipts, the lease and cycles of its own. Another source is one more entry in `KINDS`.
"""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import runtime
from prefect.states import Completed

from flows import pipelines
from tasks import settings
from tasks.errors import LeaseLost, UserError
from tasks.records import Arrival
from tasks.spec import Pipeline, Retrain, Source
from tasks.stores import ledger
from tasks.stores.ledger import Lease
from tasks.triggers import LABELS, SCORING, TRAINING, Receipt, stream_of

Declared = tuple[Source, Retrain] | None


@dataclass(frozen=True)
class Kind:
    """One kind of source: the function and the Prefect name of its flow, what that does, and what a pipeline's file says of it, if anything.

    `purpose` and `description`, in which {} is the pipeline, tell it in Prefect's UI.
    """

    function: str
    flow: str
    purpose: str
    description: str
    declared: Callable[[Pipeline], Declared]


@dataclass(frozen=True)
class Stream:
    """One source of one pipeline: `uri` is where it lies, `retrain` says when its flow is due."""

    name: str
    pipeline: str
    kind: Kind
    source: Source
    uri: str
    retrain: Retrain


def _scoring(spec: Pipeline) -> Declared:
    asked = spec.scoring
    if asked is None:
        return None
    return asked.source, Retrain(on_arrival=asked.on_arrival, schedule=asked.schedule, timezone=asked.timezone)


def _labels(spec: Pipeline) -> Declared:
    return None if spec.labels is None else (spec.labels, Retrain())


KINDS = {
    "": Kind(
        "flows.training.continuous_training",
        TRAINING,
        "train",
        "Continuous training of {}: ingest, train, compare, decide.",
        lambda spec: (spec.source, spec.retrain),
    ),
    "scoring": Kind(
        "flows.scoring.batch_scoring", SCORING, "predict", "Batch scoring of {}: what has landed is predicted with the champion.", _scoring
    ),
    "labels": Kind("flows.labels.take_labels", LABELS, "take labels", "Labels of {} that come later, for `ratchet quality`.", _labels),
}


def streams(spec: Pipeline) -> tuple[Stream, ...]:
    """Give the streams of a pipeline, that of the rows to train on first."""
    return tuple(stream(spec, kind) for kind in KINDS if KINDS[kind].declared(spec) is not None)


def stream(spec: Pipeline, kind: str = "") -> Stream:
    """Give one stream of a pipeline; a source without an address is a directory in the inbox, which is made if it is not there.

    Raises:
        UserError: if the pipeline declares no such source.
    """
    declared = KINDS[kind].declared(spec) if kind in KINDS else None
    if declared is None:
        known = [word for word in KINDS if word and KINDS[word].declared(spec) is not None]
        raise UserError(
            f"Pipeline {spec.name!r} has no source {kind!r}; it has {', '.join(known) or 'no other than that of the rows to train on'}."
        )
    source, retrain = declared
    return Stream(stream_of(spec.name, kind), spec.name, KINDS[kind], source, source.uri or _inbox(spec.name, kind), retrain)


def source_of(spec: Pipeline) -> str:
    """Give the place of the rows to train on."""
    return stream(spec).uri


def _inbox(pipeline: str, kind: str) -> str:
    inbox = settings.read().inbox / (f"{pipeline}.{kind}" if kind else pipeline)
    inbox.mkdir(parents=True, exist_ok=True)
    return str(inbox)


def function(flow: str) -> Any:
    """Import the flow of that Prefect name."""
    module, _, name = next(kind.function for kind in KINDS.values() if kind.flow == flow).rpartition(".")
    return getattr(importlib.import_module(module), name)


def left_to_do(name: str) -> bool:
    """Tell whether anything of a stream is outstanding, or its last cycle has left something to finish."""
    last = ledger.last_cycle(name)
    return bool(ledger.outstanding(name)) or (last is not None and last.state != "done")


def passed_over(name: str, trigger: str, rule: str, why: str) -> Any:
    """End a run of a stream that begins no cycle: with a receipt, and shown in Prefect as skipped."""
    ledger.record(name, Receipt("skipped", rule, why, trigger=trigger))
    return Completed(name="Skipped", message=why)  # Prefect takes a state for the run's own


def outstanding(lease: Lease) -> Iterator[list[Arrival]]:
    """Give what is outstanding in a stream, and then what settling that brings back (see `ledger.settle`), each arrival once.

    What lands from here on is the next cycle's.
    """
    tried: set[int] = set()
    newest = max((arrival.seq for arrival in ledger.outstanding(lease.pipeline)), default=0)
    while True:
        ledger.sort_out(lease)
        arrivals = [part for part in ledger.outstanding(lease.pipeline) if part.seq not in tried and part.seq <= newest]
        if not arrivals:
            return
        tried.update(arrival.seq for arrival in arrivals)
        yield arrivals


@contextmanager
def claimed(stream: Stream, trigger: str) -> Iterator[Lease]:
    """Claim a stream other than the first for one cycle; whatever happens, the cycle is closed and its lease given back.

    Raises:
        CycleInProgress: if another cycle of the stream is at work.
        LeaseLost: if the lease was taken over meanwhile.
    """
    digest = pipelines.digest(stream.pipeline)
    lease = ledger.begin(stream.name, trigger=trigger, definition=digest, flow_run=runtime.flow_run.id)
    try:
        with worked(lease):
            yield lease
            ledger.end(lease)
    finally:
        ledger.release(lease)


@contextmanager
def worked(lease: Lease) -> Iterator[None]:
    """Keep a lease while the block works; a cycle that fails is recorded with the reason.

    Raises:
        LeaseLost: if the lease was taken over meanwhile, whatever the block stumbled over.
    """
    try:
        with ledger.kept(lease):
            yield
    except BaseException as error:
        lost = ledger.lost(lease)
        ledger.end(lease, error=f"{type(error).__name__}: {error}")
        if lost is not None and not isinstance(error, LeaseLost):
            raise lost from error
        raise
