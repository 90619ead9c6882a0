"""`make chaos SEEDS=n [FIRST=k]`: stories of faults, each replayable by its seed, on SQLite and on PostgreSQL, and what the checker found."""

import argparse
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import stack
from infra.parts import Stack
from tasks import settings
from tasks.stores.ledger import access
from tests.chaos import checker, siege, story
from tests.servers import postgres

EVERY = 25  # stories after which the servers are started afresh, so that their databases stay small


def main() -> int:
    """Play the stories and print the table; the exit code counts the violations, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--sieges", type=int, default=0, help="how often the whole stack is besieged, on each ledger")
    parser.add_argument("--ledger", choices=["sqlite", "postgresql", "both"], default="both")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    backends = ["sqlite", "postgresql"] if given.ledger == "both" else [given.ledger]
    if "postgresql" in backends and postgres.absent():
        print(f"PostgreSQL is not installed ({postgres.absent()} are missing): playing on SQLite alone.")
        backends.remove("postgresql")
    wrong = sum(_all(backend, range(given.first, given.first + given.seeds)) for backend in backends)
    wrong += sum(_sieges(backend, range(given.first, given.first + given.sieges)) for backend in backends)
    return min(wrong, 1)


def _all(backend: str, seeds: range) -> int:
    kills: Counter[str] = Counter()
    wrong, cycles, began = 0, 0, time.monotonic()
    with _ledgers(backend) as fresh:
        for first in range(seeds.start, seeds.stop, EVERY):
            with _servers() as found:
                for seed in range(first, min(first + EVERY, seeds.stop)):
                    played = _one(backend, seed, fresh(), found)
                    wrong, cycles = wrong + played[0], cycles + played[1]
                    kills += played[2]
    print(f"\n{backend}: seeds {seeds.start}..{seeds.stop - 1}, {cycles} cycles, {kills.total()} signals, {time.monotonic() - began:.0f} s")
    print("violations (lost + duplicated + unexpected + other):", wrong)
    for what, count in sorted(kills.items()):
        print(f"  {what:35} {count:4}")
    return wrong


def _sieges(backend: str, seeds: range) -> int:
    wrong = 0
    with _ledgers(backend) as fresh:
        for seed in seeds:
            _use(fresh())
            home = Path(tempfile.mkdtemp(prefix=f"ratchet-siege-{seed}-"))
            with siege.laid(seed, home) as (name, source):
                found, done = siege.play(name, source, seed)
            told = "\n".join(["ok"] if not found else [f"VIOLATIONS, all of it kept in {home}", *found])
            print(f"{backend} siege {seed}: {dict(done)}: {told}", flush=True)
            wrong += len(found)
            if not found:
                shutil.rmtree(home, ignore_errors=True)
    return wrong


def _use(url: str | None) -> None:
    os.environ.pop("RATCHET_LEDGER_URL", None)
    os.environ.update({"RATCHET_LEDGER_URL": url} if url else {})


def _one(backend: str, seed: int, url: str | None, servers: Stack) -> tuple[int, int, Counter[str]]:
    _use(url)
    began, home = time.monotonic(), Path(tempfile.mkdtemp(prefix=f"ratchet-chaos-{seed}-"))
    with story.begun(seed, home, servers) as played:
        found = story.play(played)
        state = "ok" if not found else f"{len(found)} VIOLATIONS, all of it kept in {home}"
        print(
            f"{backend} seed {seed}: {played.cycles} cycles, {played.kills.total()} signals, {time.monotonic() - began:.1f} s: {state}",
            flush=True,
        )
        if found:
            print("\n".join(found), "\n", checker.minimal_history(played.pipeline, played.world), sep="", flush=True)
        else:
            story.clear(played)
        return len(found), played.cycles, played.kills


@contextmanager
def _ledgers(backend: str) -> Iterator[Callable[[], str | None]]:
    """Give a function that names a fresh ledger, None for the one in the home."""
    if backend == "sqlite":
        yield lambda: None
        return
    with postgres.running() as url:
        yield lambda: _closed(postgres.fresh_database(url))


def _closed(fresh: str) -> str:
    """Close what this process holds open of the ledger before: a server takes a hundred connections."""
    access._opened.cache_clear()
    gc.collect()
    return fresh


@contextmanager
def _servers() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="ratchet-chaos-servers-") as home:
        place = settings.read({"RATCHET_HOME": home})
        try:
            yield stack.up(place)
        finally:
            stack.down(place)


if __name__ == "__main__":
    raise SystemExit(main())
