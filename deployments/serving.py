"""What `ratchet status` shows of the servers that answer with a champion, on this machine and on others."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from deployments.plain import said
from tasks.stores import ledger
from tasks.stores.ledger import Server

QUIET = 30.0  # seconds without a sign of life


def servers(name: str) -> list[dict[str, Any]]:
    """Give the servers of a pipeline as JSON has them; one that has ended without a word is left out."""
    return [{**asdict(server), "quiet": quiet(server)} for server in ledger.servers(name) if not ledger.gone(server.server)]


def quiet(server: Server) -> bool:
    """Tell whether a server has given no sign of life for too long."""
    return (datetime.now(UTC) - datetime.fromisoformat(server.seen_at)).total_seconds() > QUIET


def show(console: Console, found: Sequence[Mapping[str, Any]]) -> None:
    """Show servers, and what is the matter with them."""
    if not found:
        return
    table = Table("server", "pipeline", "version", "ready", "predictions kept")
    for one in found:
        state = one["state"]
        kept = state["log"]
        counts = f"{kept['written']:,}" + (f", {kept['dropped']:,} dropped" if kept["dropped"] else "")
        version = str(state["version"] or "-")
        table.add_row(*map(said, (one["url"], one["pipeline"], version, "yes" if state["ready"] else "no", counts)))
    console.print(table)
    for one in found:
        if what := note(one):
            console.print(said(f"{one['pipeline']} at {one['url']}: {what}."), soft_wrap=True)


def note(one: Mapping[str, Any]) -> str:
    """Say what is the matter with a server, and what is on trial there.

    >>> note({"quiet": False, "state": {"ledger": "answers", "refused": {"version": 3, "why": "other bytes."}, "trial": None, "hung": 0}})
    'version 3 is refused: other bytes'
    """
    state, said_so = one["state"], []
    if one["quiet"]:
        said_so.append("it has given no sign of life for half a minute")
    if state["refused"]:
        said_so.append(f"version {state['refused']['version']} is refused: {state['refused']['why'].rstrip('.')}")
    if state["trial"]:
        on = state["trial"]
        said_so.append(f"version {on['version']} is its {on['mode']} ({on['requests']} requests, {on['failed']} failed)")
    if state["hung"]:
        said_so.append(f"{state['hung']} predictions hang")
    return "; ".join(said_so)
