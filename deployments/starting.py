"""Start everything, and say when every source is watched: `ratchet up`."""

import time
from collections.abc import Mapping, Sequence

from deployments import service, show, stack, watches
from deployments.plain import said
from deployments.watches import Watch
from flows import pipelines

PATIENCE = 30.0  # seconds to wait until all sources are watched


def up() -> None:
    """Start what is missing, and wait until the sources are watched, or it is known why one is not."""
    show.stack(stack.up(service.wanted()))
    others = stack.differences()
    if others:
        show.console.print("The agent that runs was started with other settings, and keeps them:")
        for other in others:
            show.console.print(said(f"  {other}"))
        show.console.print(
            "To start it with those of this shell: [bold]ratchet down[/], then [bold]ratchet up[/]. It watches:", highlight=False
        )
    names = sorted(watches.read() or {}) if others else pipelines.names()
    with show.console.status(said("Until the sources are watched ...")):
        found = awaited(names)
    for name in [*names, *sorted(found.keys() - set(names))]:
        show.console.print(said(f"  {name:14} {sentence(found.get(name))}"), soft_wrap=True)


def awaited(names: Sequence[str], patience: float = PATIENCE) -> Mapping[str, Watch]:
    """Wait until of every pipeline it is known whether its source is watched, but no longer than `patience` seconds."""
    limit = time.monotonic() + patience
    while True:
        found = watches.read() or {}
        if all(name in found and (found[name].watched or found[name].note) for name in names) or time.monotonic() > limit:
            return found
        time.sleep(0.1)


def sentence(watch: Watch | None) -> str:
    """Say of one pipeline whether its source is watched.

    >>> sentence(Watch("churn.py", "/data", True)), sentence(None)
    ('watched: /data', 'not watched yet; `ratchet status` tells when it is')
    """
    if watch is None or not (watch.watched or watch.note):
        return "not watched yet; `ratchet status` tells when it is"
    note = f" ({watch.note})" if watch.note else ""
    return f"watched: {watch.source}{note}" if watch.watched else f"not watched: {watch.note}"
