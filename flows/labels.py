"""Labels: take in what has landed at a pipeline's source of labels, so that what was predicted can be held against it.

    observe > claim > ingest > clean

Each file once, whatever ends in between: the same steps as for rows to train on, under the ledger's stream `<pipeline>:labels`.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import cast

from prefect import get_run_logger, runtime

from flows import pipelines
from flows.embedded import embedded, tag_run
from flows.streams import claimed, left_to_do, outstanding, passed_over, stream
from tasks import settings
from tasks.clean import clean, compact, recover
from tasks.errors import CycleInProgress
from tasks.ingest import batches, ingest
from tasks.labels import TABLES, reading
from tasks.observe import observe
from tasks.predictions import upkeep
from tasks.records import Arrival
from tasks.spec import Pipeline
from tasks.stores import ledger
from tasks.stores.ledger import Lease
from tasks.triggers import LABELS


@dataclass(frozen=True)
class Taken:
    """What became of the files of labels that were outstanding; `notes` say what was set aside and why."""

    pipeline: str
    files: int = 0
    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    notes: tuple[str, ...] = ()


def _run_name() -> str:
    return f"{runtime.flow_run.parameters['pipeline']} · labels · {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


@embedded(name=LABELS, flow_run_name=_run_name, persist_result=False)
def take_labels(pipeline: str, trigger: str = "manual") -> Taken:
    """Take in the labels that have landed at the pipeline's `labels` and were not taken in before.

    Raises:
        UserError: if the pipeline declares no source of labels, the source cannot be read, or another run takes them in at this moment.
    """
    spec = pipelines.get(pipeline)
    read_as, source = reading(spec), stream(spec, "labels")
    tag_run(pipeline, "labels", trigger, process=ledger.holder())
    seen = observe(source.name, source.uri)
    by_itself = runtime.deployment.id is not None
    if by_itself and trigger == "arrival" and not left_to_do(source.name):
        return cast(
            "Taken", passed_over(source.name, trigger, "nothing", "Nothing is outstanding any more: an earlier run has taken it in.")
        )
    try:
        with claimed(source, trigger) as lease, _directory(pipeline, lease) as work:
            taken = _all(spec, read_as, lease, work, tuple(f"Ignored {name}." for name in seen.ignored))
    except CycleInProgress as busy:
        if not by_itself:
            raise
        return cast("Taken", passed_over(source.name, trigger, "running", str(busy).partition(". ")[0] + "."))
    get_run_logger().info("%d labels of %d files; %s", taken.accepted, taken.files, " ".join(taken.notes) or "nothing was set aside.")
    return taken


def _all(spec: Pipeline, read_as: Pipeline, lease: Lease, work: Path, notes: tuple[str, ...]) -> Taken:
    """Take in all that is outstanding."""
    taken = _with(Taken(spec.name, notes=notes), recover(spec.name, lease, TABLES))
    for batch in chain.from_iterable(map(batches, outstanding(lease))):
        what = batch[0].name if len(batch) == 1 else f"{len(batch)} files of labels"
        staged = ingest(read_as, batch, str(work), what)
        taken = _with(taken, clean(read_as, lease, staged, what, TABLES).arrivals)
        missed = tuple(f"{part.arrival.name} could not be read and is tried again: {part.missed}" for part in staged if part.missed)
        taken = replace(taken, notes=taken.notes + missed)
    compact(spec.name, lease, TABLES[0])
    return replace(taken, notes=taken.notes + upkeep(spec))


@contextmanager
def _directory(pipeline: str, lease: Lease) -> Iterator[Path]:
    """Give a directory to stage in; those of runs that were killed are removed."""
    work = settings.read().work / pipeline / f"labels-{lease.cycle}"
    for left in work.parent.glob("labels-*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _with(taken: Taken, arrivals: tuple[Arrival, ...]) -> Taken:
    """Add what became of some files."""
    bad = [part for part in arrivals if part.state == "quarantined" or part.rejected]
    return replace(
        taken,
        files=taken.files + len(arrivals),
        accepted=taken.accepted + sum(part.accepted for part in arrivals),
        rejected=taken.rejected + sum(part.rejected for part in arrivals),
        repeated=taken.repeated + sum(part.repeated for part in arrivals),
        notes=taken.notes
        + tuple(
            f"{part.name} {'was quarantined' if part.state == 'quarantined' else 'has rows in quarantine'}: {part.reason}" for part in bad
        ),
    )
