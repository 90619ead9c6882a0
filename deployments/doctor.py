"""The doctor: look at everything Ratchet stands on, and say of each whether it is well, what was found, and what to do."""

import importlib.metadata
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandera.config

from deployments import show, stack
from deployments.plain import said
from flows import pipelines
from tasks import settings
from tasks.errors import RatchetError
from tasks.promote import deleted
from tasks.records import Champion
from tasks.stores import lake, ledger, models, spool

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
LEAST_FREE = 1 << 30
LATE = 300.0  # seconds that a logged prediction may wait for the lake


@dataclass(frozen=True)
class Examined:
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str
    remedy: str = ""


def examine() -> list[Examined]:
    """Look at everything; what cannot be looked at is not well."""
    return [result for look in LOOKS for result in _sheltered(look)]


def show_all(*, as_json: bool) -> bool:
    """Show what was found, and tell whether all is well."""
    found = examine()
    if as_json:
        show.as_json_text([asdict(result) for result in found])
    else:
        for result in found:
            mark = ("ok  ", "green") if result.ok else ("BAD ", "bold red")
            show.console.print(said(mark, f" {result.what}: {result.found}"))
            if not result.ok:
                show.console.print(said((f"     {result.remedy}", "yellow")))
    return all(result.ok for result in found)


def _sheltered(look: Callable[[], Iterator[Examined]]) -> Iterator[Examined]:
    try:
        yield from look()
    except (RatchetError, OSError) as error:
        yield Examined(look.__name__.strip("_"), False, str(error), "Put that right and look again.")


def _python() -> Iterator[Examined]:
    yield Examined("python", sys.version_info >= (3, 11), sys.version.split()[0], "Use Python 3.11 or newer.")


def _packages() -> Iterator[Examined]:
    """Compare what is installed with the lock."""
    pins = dict(re.findall(r"^([\w.-]+)==([\w.!+-]+)", LOCK.read_text(), flags=re.MULTILINE)) if LOCK.exists() else {}
    watched = ("prefect", "mlflow", "scikit-learn", "pandas", "pandera", "polars", "deltalake", "fastapi", "skops")
    other = {name: importlib.metadata.version(name) for name in watched if name in pins and importlib.metadata.version(name) != pins[name]}
    found = (
        "as in requirements.lock" if not other else ", ".join(f"{name} {version}, locked {pins[name]}" for name, version in other.items())
    )
    yield Examined("packages", not other, found, "Run `make setup`.")


def _home() -> Iterator[Examined]:
    home = settings.read().home
    near = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(near).free
    yield Examined(
        "disk", free >= LEAST_FREE, f"{free / (1 << 30):.1f} GiB free at {near}", "Free at least 1 GiB, or set RATCHET_HOME elsewhere."
    )
    yield Examined("home", os.access(near, os.W_OK), f"{home} can be written", f"Give this user the right to write to {near}.")


def _servers() -> Iterator[Examined]:
    found = stack.find()
    what = ", ".join(f"{part.name} {part.url or ''}".strip() for part in found.parts) if found else "not running"
    yield Examined("servers", found is not None, what, "Start them with `ratchet up`.")
    for part in found.parts if found else ():
        yield Examined(f"process of {part.name}", part.alive, "alive" if part.alive else "gone", "`ratchet up` starts it again.")


def _validation() -> Iterator[Examined]:
    on = pandera.config.CONFIG.validation_enabled
    remedy = "Ratchet checks all the same, but unset PANDERA_VALIDATION_ENABLED: other code may rely on it."
    yield Examined("pandera", on, "switched on" if on else "switched off by the environment", remedy)


def _telemetry() -> Iterator[Examined]:
    off = settings.read().do_not_track
    yield Examined("telemetry", off, "off" if off else "on", "Set DO_NOT_TRACK=true.")


def _pipelines() -> Iterator[Examined]:
    for name in pipelines.names():
        try:
            pipelines.get(name)
        except RatchetError as error:
            yield Examined(f"pipeline {name}", False, str(error), f"Correct it; `ratchet check {name}` helps.")
        else:
            yield Examined(f"pipeline {name}", True, "imports")


def _champions() -> Iterator[Examined]:
    """Hold the ledger's champions against the registry, where it is up."""
    if stack.find() is None:
        return
    from flows.embedded import connected

    with connected():
        for name in pipelines.names():
            champion = ledger.champion(name)
            if champion is None:
                continue
            if not models.exists(name, champion.version):
                what, remedy = deleted(name, champion.version).split(". ", 1)
                yield Examined(f"alias of {name}", False, f"{what}.", remedy)
                yield _loads(name, champion)
                continue
            alias = models.pointed(name)
            same = alias == champion.version
            remedy = f"Run a cycle (`ratchet run {name}`), or set the alias back by hand; the ledger's word holds."
            yield Examined(f"alias of {name}", same, f"ledger {champion.version}, registry {alias}", remedy)
            yield _loads(name, champion)


def _loads(name: str, champion: Champion) -> Examined:
    try:
        models.load(champion)
    except RatchetError as error:
        return Examined(f"champion of {name}", False, str(error), f"Bring an earlier one back with `ratchet rollback {name}`.")
    return Examined(f"champion of {name}", True, f"version {champion.version} loads, its digest is the ledger's")


def _logs() -> Iterator[Examined]:
    """See whether logged predictions reach the lake, where a pipeline has any."""
    for name in pipelines.names():
        since = spool.oldest(name)
        if since is not None:
            late = time.time() - since > LATE
            found = (
                f"{spool.size(name):,} bytes wait in {spool.place(name)}, since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC"
            )
            remedy = f"See why the lake does not take them (the server's log says so); a server of {name}, or its next cycle, brings them."
            yield Examined(f"log of predictions of {name}", not late, found, remedy)


def _records() -> Iterator[Examined]:
    """Open the ledger, and every pipeline's table."""
    found = [(name, ledger.champion(name), lake.version(name)) for name in pipelines.names()]
    yield Examined("ledger and lake", True, ", ".join(f"{name} v{version}" for name, _, version in found if version is not None) or "empty")


LOOKS: tuple[Callable[[], Iterator[Examined]], ...] = (
    _python,
    _packages,
    _home,
    _servers,
    _validation,
    _telemetry,
    _records,
    _logs,
    _pipelines,
    _champions,
)
