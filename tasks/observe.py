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
from tasks.errors import Changed, SourceUnavailable
from tasks.records import Arrival, Look, Observation
from tasks.stores import files, ledger

AT_ONCE = 500  # files that are looked up and recorded together
NAMED = 20  # ignored files that are named, the others are counted
IN_A_ROW = 3  # files that S3 does not give, one after the other, until S3 is taken to be away


def survey(pipeline: str, source: str) -> Observation:
    """List `source`, record what is new for the pipeline, and say what still changes and what is ignored. Memory does not grow with the source.

    Raises:
        SourceUnavailable: if the source does not exist, may not be read, or does not give its files; what was read before is recorded.
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
        recorded, settling, unread = _note(pipeline, looks)
        ignored += [why for _, why in unread]
        found = replace(
            found,
            files=found.files + len(looks),
            recorded=found.recorded + recorded,
            settling=found.settling + settling,
            ignored=(found.ignored + tuple(ignored))[:NAMED],
            ignored_files=found.ignored_files + len(ignored),
            unread=(found.unread + tuple(unread))[:NAMED],
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


def _note(pipeline: str, looks: Sequence[Look]) -> tuple[tuple[Arrival, ...], tuple[Look, ...], list[tuple[str, str]]]:
    """Record what is new and steady; give it, what is not steady yet, and what cannot be read and why."""
    known = ledger.recorded(pipeline, [look.uri for look in looks]) if looks else {}
    unknown = [look for look in looks if known.get(look.uri) != (look.stamp, True)]
    quiet, now = settings.read().settle, time.time()
    steady = [look for look in unknown if files.settled(look, now=now, quiet=quiet)]
    seen, changed, unread, away = _read(pipeline, steady)
    crash.point("observe.listed")
    recorded = ledger.observe(pipeline, seen)
    crash.point("observe.recorded")
    if away is not None:
        raise away
    calm = {look.uri for look in steady}
    return recorded, (*(look for look in unknown if look.uri not in calm), *changed), unread


def _read(
    pipeline: str, looks: Sequence[Look]
) -> tuple[list[tuple[Look, str, bool]], list[Look], list[tuple[str, str]], SourceUnavailable | None]:
    """Read files: give what was seen of them, those that have changed, why others cannot be read, and why no more were tried, if so."""
    seen: list[tuple[Look, str, bool]] = []
    changed: list[Look] = []
    unread: list[tuple[str, str]] = []
    missed = 0
    for look in looks:
        looked_at = time.time()
        try:
            fetched = files.fetch(look, files.spool(pipeline))
        except Changed:
            changed.append(look)
        except PermissionError as error:
            unread.append((look.uri, f"{look.name}: may not be read ({error.strerror})"))
        except SourceUnavailable as error:  # of this one alone, perhaps: it is to delay no other
            unread.append((look.uri, f"{look.name}: {error}"))
            missed += 1
            if missed == IN_A_ROW:
                return seen, changed, unread, error
            continue
        else:
            seen.append((look, fetched.sha256, files.trusted(look, looked_at)))
        missed = 0
    return seen, changed, unread, None


@task(name="observe", task_run_name="observe {source}", cache_policy=NO_CACHE, persist_result=False)
def observe(pipeline: str, source: str) -> Observation:
    """Look at the source and record what is new; at what has just changed, look a second time a moment later."""
    found = survey(pipeline, source)
    if not found.settling:
        return found
    time.sleep(settings.read().settle)
    again = revisit(pipeline, source, [look.uri for look in found.settling])
    return replace(found, recorded=found.recorded + again.recorded, settling=again.settling)
