"""The account of a source: what became of every file, and of one file the whole story, version by version, with every receipt."""

import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deployments import show
from deployments.plain import said
from flows import pipelines
from flows.streams import KINDS, stream
from tasks.errors import UserError
from tasks.records import Arrival, Look
from tasks.stores import files, ledger
from tasks.triggers import Receipt, pipeline_of, stream_of

console = show.console
RECEIPTS = 20  # that are shown of one version


@dataclass(frozen=True)
class Told:
    """One version of a file: the arrival, the receipts from when it was seen until a cycle took it up, and that cycle's decision."""

    arrival: Arrival
    receipts: tuple[Receipt, ...]
    decision: dict[str, Any] | None


def named(name: str, kind: str) -> str:
    """Name the stream of one of a pipeline's sources; "" is that of the rows to train on.

    Raises:
        UserError: if no pipeline has such a source.
    """
    if kind not in KINDS:
        raise UserError(f"There is no source {kind!r}; expected {', '.join(filter(None, KINDS))}, or none for the rows to train on.")
    return stream_of(name, kind)


def arrivals(name: str, limit: int, *, as_json: bool, unseen: bool) -> None:
    """Show a stream's newest arrivals and count all of them; with `unseen`, also what lies at the source and is none, and why."""
    show.arrivals(name, limit, as_json=as_json)
    if as_json:
        return
    counts = ledger.tally(name)
    total = sum(counts.values())
    if total:
        parts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        console.print(said(f"{total:,} arrivals in all: {parts}."))
    for at, reason, _ in ledger.dead_letters(name)[:limit]:
        console.print(said(("A message of the queue could not be read", "yellow"), f" ({at[:19]}): {reason}"))
    if unseen:
        for line in _unseen(name):
            console.print(said(f"  {line}"))


def _unseen(name: str) -> Iterator[str]:
    """Say of everything at the source that is no arrival why it is none."""
    pipeline, _, kind = name.partition(":")
    entries = list(files.look(stream(pipelines.get(pipeline), kind).uri))
    yield from (f"ignored  {entry}" for entry in entries if isinstance(entry, str))
    looks = [entry for entry in entries if isinstance(entry, Look)]
    for first in range(0, len(looks), 500):
        part = looks[first : first + 500]
        known = ledger.recorded(name, [look.uri for look in part])
        for look in part:
            if known.get(look.uri, ("", True))[0] != look.stamp:
                yield f"not yet  {look.name}: it has not settled, or no sweep has come by since it changed"


def why(name: str, file: str, *, as_json: bool) -> None:
    """Tell the story of one file.

    Raises:
        UserError: if no such file was ever seen, with what the source says of it now.
    """
    file = file.encode(errors="backslashreplace").decode()  # a name that is no text was ignored, and is told so
    found = _named(name, file)
    if not found:
        raise UserError(_unknown(name, file))
    told = [_told(name, arrival) for arrival in found]
    if as_json:
        show.as_json_text([asdict(one) for one in told])
        return
    for one in told:
        _print(one)


def _named(name: str, file: str) -> tuple[Arrival, ...]:
    """Find a file by name or address, as it was typed or as another system writes the same letters."""
    spelt = (file, *(unicodedata.normalize(form, file) for form in ("NFC", "NFD")))
    asked = [way for one in spelt for way in (one, str(Path(one).absolute()))]
    return next((found for one in asked if (found := ledger.named(name, one))), ())


def _told(name: str, arrival: Arrival) -> Told:
    cycle = _cycle(name, arrival.cycle) if arrival.cycle is not None else None
    receipts = ledger.receipts(name, since=arrival.seen_at, until=cycle.started_at if cycle else None, limit=RECEIPTS)
    return Told(arrival, tuple(reversed(receipts)), ledger.decision(name, arrival.cycle) if arrival.cycle is not None else None)


def _cycle(name: str, number: int) -> ledger.Cycle | None:
    return next(iter(ledger.list_cycles(name, before=number + 1, limit=1)), None)


def _unknown(name: str, file: str) -> str:
    """Say what the source says of a file that is no arrival."""
    pipelines.path(pipeline_of(name))
    for line in _unseen(name):
        if f" {Path(file).name}" in line.replace("/", " "):
            return f"{file!r} is no arrival of {name!r}: {line}"
    return f"{file!r} is no arrival of {name!r}, and is not at its source. `ratchet arrivals {name}` lists those that were seen."


def _print(told: Told) -> None:
    arrival = told.arrival
    state = f"{arrival.state}, {after}" if (after := show.afterwards(arrival)) else arrival.state
    console.print(said((arrival.name, "bold"), f"  arrival {arrival.seq}, {state}"))
    console.print(said(f"  seen {(arrival.seen_at or '')[:19]} UTC, {arrival.size:,} bytes, sha256 {arrival.sha256[:12]}"))
    if arrival.state in ("ingested", "quarantined"):
        rows = f"{arrival.accepted:,} rows accepted, {arrival.rejected:,} rejected, {arrival.repeated:,} repeats"
        console.print(said(f"  {rows}{f'. {arrival.reason}' if arrival.reason else ''}"))
    elif arrival.reason:
        console.print(said(f"  {arrival.reason}"))
    for receipt in told.receipts:
        times = f" ({receipt.times} times)" if receipt.times > 1 else ""
        console.print(said(f"  {(receipt.first_at or '')[:19]}  {receipt.outcome:8} {receipt.rule}: {receipt.why}{times}"))
    if told.decision:
        console.print(said(f"  cycle {told.decision['cycle']}: {told.decision['verdict']}. {told.decision['sentence']}"))
    elif arrival.cycle is not None:
        console.print(said(f"  cycle {arrival.cycle} took it in and ended without a decision; the next one goes on from there."))
    elif arrival.state == "pending":
        console.print("  It is outstanding: the next cycle takes it in.", highlight=False)
