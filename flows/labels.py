"""Labels: take in what has landed at a pipeline's source of labels, so that what was predicted can be held against it.

    observe > claim > ingest > clean

Each file once, whatever ends in between: the same steps as for rows to train on, under the ledger's stream `<pipeline>:labels`.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from prefect import get_run_logger, runtime

from flows import pipelines
from flows.embedded import embedded, tag_run
from tasks import settings
from tasks.clean import clean, compact, recover
from tasks.ingest import batches, ingest
from tasks.labels import TABLES, reading, source_of, stream
from tasks.observe import observe
from tasks.predictions import upkeep
from tasks.records import Arrival
from tasks.spec import Pipeline
from tasks.stores import ledger
from tasks.stores.ledger import Lease


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


@embedded(name="take-labels", flow_run_name=_run_name, persist_result=False)
def take_labels(pipeline: str) -> Taken:
    """Take in the labels that have landed at the pipeline's `labels` and were not taken in before.

    Raises:
        UserError: if the pipeline declares no source of labels, the source cannot be read, or another run takes them in at this moment.
    """
    spec = pipelines.get(pipeline)
    read_as, source = reading(spec), source_of(spec)
    tag_run(pipeline, "labels", process=ledger.holder())
    seen = observe(stream(pipeline), source)
    with _claimed(spec) as (lease, work):
        recovered = recover(pipeline, lease, TABLES)
        taken = _with(Taken(pipeline, notes=tuple(f"Ignored {name}." for name in seen.ignored)), recovered)
        for batch in _outstanding(lease):
            what = batch[0].name if len(batch) == 1 else f"{len(batch)} files of labels"
            staged = ingest(read_as, batch, str(work), what)
            taken = _with(taken, clean(read_as, lease, staged, what, TABLES).arrivals)
            missed = tuple(f"{part.arrival.name} could not be read and is tried again: {part.missed}" for part in staged if part.missed)
            taken = replace(taken, notes=taken.notes + missed)
        compact(pipeline, lease, TABLES[0])
        taken = replace(taken, notes=taken.notes + upkeep(spec))
    get_run_logger().info("%d labels of %d files; %s", taken.accepted, taken.files, " ".join(taken.notes) or "nothing was set aside.")
    return taken


def _outstanding(lease: Lease) -> Iterator[list[Arrival]]:
    """Give what is outstanding in batches, and what settling those brings back, each arrival once."""
    tried: set[int] = set()
    while True:
        ledger.sort_out(lease)
        arrivals = [part for part in ledger.outstanding(lease.pipeline) if part.seq not in tried]
        if not arrivals:
            return
        tried.update(part.seq for part in arrivals)
        yield from batches(arrivals)


@contextmanager
def _claimed(spec: Pipeline) -> Iterator[tuple[Lease, Path]]:
    """Claim the stream for one run; whatever happens, its lease is given back and its directory is removed."""
    lease = ledger.begin(stream(spec.name), trigger="labels", definition=pipelines.digest(spec.name), flow_run=runtime.flow_run.id)
    work = settings.read().work / spec.name / f"labels-{lease.cycle}"
    try:
        for left in work.parent.glob("labels-*"):  # of runs that were killed
            shutil.rmtree(left, ignore_errors=True)
        with ledger.kept(lease):
            yield lease, work
        ledger.end(lease)
    except BaseException as error:
        ledger.end(lease, error=f"{type(error).__name__}: {error}")
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
        ledger.release(lease)


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
