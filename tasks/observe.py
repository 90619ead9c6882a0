"""Observe: list a source and record every version of a file that the ledger does not know yet.

The listing is the truth. A file whose stamp is the recorded one is not read again, unless it changed so shortly before it was read
that an equal stamp proves nothing. A file that is still being written is left for the next look.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import crash, settings
from tasks.errors import Changed
from tasks.records import Arrival, Look, Observation
from tasks.stores import files, ledger

AT_ONCE = 500  # files that are looked up and recorded together
NAMED = 20  # ignored files that are named, the others are counted


def survey(pipeline: str, source: str) -> Observation:
    """List `source`, record what is new for the pipeline, and say what still changes and what is ignored. Memory does not grow with the source.

    Raises:
        SourceUnavailable: if the source does not exist or may not be read.
    """
    return _take_note(pipeline, files.look(source))


def revisit(pipeline: str, source: str, addresses: Iterable[str]) -> Observation:
    """Look only at these files of `source`, and record what is new.

    Raises:
        SourceUnavailable: if the source may not be read.
    """
    return _take_note(pipeline, files.look_again(source, addresses))


def _take_note(pipeline: str, entries: Iterable[Look | str]) -> Observation:
    found = Observation(files=0, recorded=(), settling=(), ignored=())
    for part in _batches(entries):
        looks = [entry for entry in part if isinstance(entry, Look)]
        ignored = [entry for entry in part if isinstance(entry, str)]
        recorded, settling, closed = _note(pipeline, looks)
        ignored += closed
        found = replace(
            found,
            files=found.files + len(looks),
            recorded=found.recorded + recorded,
            settling=found.settling + settling,
            ignored=(found.ignored + tuple(ignored))[:NAMED],
            ignored_files=found.ignored_files + len(ignored),
        )
    return found


def _batches(entries: Iterable[Look | str]) -> Iterator[list[Look | str]]:
    batch: list[Look | str] = []
    for entry in entries:
        batch.append(entry)
        if len(batch) >= AT_ONCE:
            yield batch
            batch = []
    yield batch


def _note(pipeline: str, looks: Sequence[Look]) -> tuple[tuple[Arrival, ...], tuple[Look, ...], list[str]]:
    """Record what is new and steady; give it, what is not steady yet, and what may not be read."""
    known = ledger.recorded(pipeline, [look.uri for look in looks]) if looks else {}
    unknown = [look for look in looks if known.get(look.uri) != (look.stamp, True)]
    quiet, now = settings.read().settle, time.time()
    steady = [look for look in unknown if files.settled(look, now=now, quiet=quiet)]
    seen, changed, closed = _read(pipeline, steady)
    crash.point("observe.listed")
    recorded = ledger.observe(pipeline, seen)
    crash.point("observe.recorded")
    calm = {look.uri for look in steady}
    return recorded, (*(look for look in unknown if look.uri not in calm), *changed), closed


def _read(pipeline: str, looks: Sequence[Look]) -> tuple[list[tuple[Look, str, bool]], list[Look], list[str]]:
    seen: list[tuple[Look, str, bool]] = []
    changed: list[Look] = []
    closed: list[str] = []
    for look in looks:
        looked_at = time.time()
        try:
            fetched = files.fetch(look, files.spool(pipeline))
        except Changed:
            changed.append(look)
        except PermissionError as error:
            closed.append(f"{look.name}: may not be read ({error.strerror})")
        else:
            seen.append((look, fetched.sha256, files.trusted(look, looked_at)))
    return seen, changed, closed


@task(name="observe", task_run_name="observe {source}", cache_policy=NO_CACHE, persist_result=False)
def observe(pipeline: str, source: str) -> Observation:
    """Look at the source and record what is new; at what has just changed, look a second time a moment later."""
    found = survey(pipeline, source)
    if not found.settling:
        return found
    time.sleep(settings.read().settle)
    again = revisit(pipeline, source, [look.uri for look in found.settling])
    return replace(found, recorded=found.recorded + again.recorded, settling=again.settling)
