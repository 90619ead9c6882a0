"""Observe: list a source and record every version of a file that the ledger does not know yet.

The listing is the truth. A file whose stamp is the recorded one is not read again, unless it changed so shortly before it was read
that an equal stamp proves nothing. A file that is still being written is left for the next look.
"""

import time
from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import settings
from tasks.errors import Changed
from tasks.records import Look, Observation
from tasks.stores import files, ledger


def survey(pipeline: str, source: str) -> Observation:
    """List `source`, record what is new for the pipeline, and say what still changes and what is ignored.

    Raises:
        SourceUnavailable: if the source does not exist or may not be read.
    """
    listing = files.look(source)
    known = ledger.recorded(pipeline)
    unknown = [look for look in listing.looks if known.get(look.uri) != (look.stamp, True)]
    steady, settling = _settle(source, unknown)
    seen, changed = _read(pipeline, steady)
    recorded = ledger.observe(pipeline, seen)
    return Observation(files=len(listing.looks), recorded=recorded, settling=(*settling, *changed), ignored=listing.ignored)


def _settle(source: str, looks: Sequence[Look]) -> tuple[list[Look], list[str]]:
    """Look a second time, a moment later, if any file has just changed; those that differ are still being written."""
    quiet = settings.read().settle
    if all(files.settled(look, now=time.time(), quiet=quiet) for look in looks):
        return list(looks), []
    time.sleep(quiet)
    again = {look.uri: look.stamp for look in files.look(source).looks}
    steady = [look for look in looks if again.get(look.uri) == look.stamp]
    return steady, [look.name for look in looks if look not in steady]


def _read(pipeline: str, looks: Sequence[Look]) -> tuple[list[tuple[Look, str, bool]], list[str]]:
    seen: list[tuple[Look, str, bool]] = []
    changed: list[str] = []
    for look in looks:
        looked_at = time.time()
        try:
            fetched = files.fetch(look, files.spool(pipeline))
        except Changed:
            changed.append(look.name)
        else:
            seen.append((look, fetched.sha256, files.trusted(look, looked_at)))
    return seen, changed


@task(name="observe", task_run_name="observe {source}", cache_policy=NO_CACHE, persist_result=False)
def observe(pipeline: str, source: str) -> Observation:
    """Look at the source once and record what is new."""
    return survey(pipeline, source)
