"""What the `ratchet` command shows: tables for people, JSON of a documented shape for programs.

JSON shapes (fields may be added, none is renamed or removed within a `record_version`):
- `status`: {"stack": {part: url} or null, "pipelines": [{"name", "champion", "last_decision", "outstanding", "running",
   "running_cycle", "receipt", "watched", "watch_note", "waiting", "withdrawn", "registry", "servers": [{"server", "url", "state", "seen_at", "quiet"}]}],
   "sources": [the same of every other source that is watched, as "churn:scoring"]}
- `arrivals`: [Arrival] and `decisions`: [Decision], newest first, with the fields of `tasks.records`
- `why --arrival`: [{"arrival": Arrival, "receipts": [Receipt], "decision": Decision or null}], the file's versions, newest first
- `run`, `why`: one Decision; `why` of a cycle that failed: {"cycle", "state", "error"}
- `predict`: the fields of `tasks.scorings.Batch`, with "rows", "predicted" and "rejected" of what was scored in this call
- `trace`: one Trace, with the fields of `tasks.trace`; `quality`: one Quality, with those of `tasks.quality`
- `check`: [{"rule", "passed", "sentence"}]; `doctor`: [{"what", "ok", "found", "remedy"}]
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from deployments import serving, watches
from deployments import stack as servers
from deployments.plain import lines, said
from deployments.watches import Watch
from flows import pipelines
from infra.parts import Part, Stack
from tasks import wording
from tasks.errors import UserError
from tasks.records import Arrival, Decision
from tasks.stores import ledger
from tasks.triggers import pipeline_of

console = Console()
COLOURS = {"promote": "bold green", "keep": "yellow", "skip": "dim", "hold": "cyan"}


def as_json_text(value: Any) -> None:
    """Print a value as JSON, and nothing else."""
    print(json.dumps(value, indent=2, default=str))  # noqa: T201


def stack(found: Stack) -> None:
    """Say where the servers are and how to stop them."""
    console.print(said(f"Prefect  {found.prefect_url}"))
    console.print(said(f"MLflow   {found.mlflow_url}"))
    for part in found.parts:
        console.print(said((f"  {part.name}: {f'process {part.pid}' if part.owned else 'not started here'}", "dim")))
    console.print("Stop them with [bold]ratchet down[/].")


def stopped(parts: Sequence[Part]) -> None:
    """Say what was stopped."""
    console.print(f"Stopped {', '.join(part.name for part in parts)}." if parts else "Nothing was running.")


def cycle(name: str, source: str | None) -> Decision:
    """Run one cycle with a sign of life in the terminal."""
    from flows.training import continuous_training

    if not console.is_terminal:
        return continuous_training(name, source=source)
    with console.status(said(f"{name}: taking in, training, comparing ...")):
        return continuous_training(name, source=source)


def line(decision: Decision) -> Text:
    """Give a decision as one line with colours."""
    verdict = (f"{decision.verdict.upper():7}", COLOURS[decision.verdict])
    rejected = f"; {decision.rejected:,} rows rejected" if decision.rejected else ""
    return said(verdict, f" cycle {decision.cycle:<3} {wording.brief(decision)}{rejected}")


def decision(made: Decision, *, as_json: bool) -> None:
    """Show a decision that was just made."""
    if as_json:
        as_json_text(made.as_dict())
        return
    console.print(line(made))
    console.print(said(f"  {made.sentence}"))
    for note in made.notes:
        console.print(said((f"  - {note}", "dim")))
    for label, url in (("Prefect", made.prefect_url), ("MLflow", made.mlflow_url)):
        if url:
            console.print(said(f"  {label:8} {url}"), soft_wrap=True)


def status(*, as_json: bool) -> None:
    """Show the servers and every pipeline's state."""
    found = servers.find()
    seen = watches.read()
    rows = [_state(name) | _watched(name, seen) for name in pipelines.names()]
    others = [_state(name) | _watched(name, seen) for name in sorted(seen or {}) if pipeline_of(name) != name]
    if as_json:
        as_json_text({"stack": {part.name: part.url for part in found.parts} if found else None, "pipelines": rows, "sources": others})
        return
    if found:
        stack(found)
    else:
        console.print("The embedded servers are not running; [bold]ratchet up[/] starts them.")
    table = Table("pipeline", "champion", "last decision", "outstanding", "running", "watched", "last moment to retrain")
    for row in sorted([*rows, *others], key=itemgetter("name")):
        last, receipt = row["last_decision"], row["receipt"]
        told = f"{last['verdict']} (cycle {last['cycle']}, {last['at'][:19]})" if last else "-"
        moment = f"{receipt['outcome']}: {receipt['why']} ({receipt['last_at'][:19]})" if receipt else "-"
        cells = (row["name"], str(row["champion"] or "-"), told, str(row["outstanding"]), _running(row), _eye(row), moment)
        table.add_row(*map(said, cells))
    console.print(table)
    serving.show(console, [server for row in rows for server in row["servers"]])
    for row in rows:
        if row["withdrawn"]:
            console.print(said(f"Version {row['waiting']['candidate']['version']} of {row['name']} was withdrawn: {row['withdrawn']}."))
        if row["registry"] is not None:
            console.print(said(f"{row['name']}, in cycle {row['last_decision']['cycle']}: {row['registry']}"))
        if (asked := row["waiting"]) is not None:
            version = asked["candidate"]["version"]
            console.print(
                said(
                    f"Version {version} of {row['name']} waits for an answer (cycle {asked['cycle']}): `ratchet why {row['name']}`, then "
                ),
                said((f"ratchet approve {row['name']}", "bold"), " or ", ("reject", "bold"), " with --reason."),
            )


def _watched(name: str, seen: Mapping[str, Watch] | None) -> dict[str, Any]:
    """Tell whether somebody watches a pipeline's source now, and if not, why."""
    if seen is None:
        alive = any(part.name == "agent" and part.alive for part in servers.parts())
        return {"watched": False, "watch_note": "the agent has just been started" if alive else "no agent runs; `ratchet up` starts it"}
    watch, file = seen.get(name), str(pipelines.path(pipeline_of(name)))
    if watch is not None and watch.file == file:
        return {"watched": watch.watched, "watch_note": watch.note or ("" if watch.watched else "not yet")}
    other = "; ".join(servers.differences())
    return {
        "watched": False,
        "watch_note": f"the agent runs with other settings ({other}): `ratchet down`, then `ratchet up`" if other else "not yet",
    }


def _eye(row: Mapping[str, Any]) -> str:
    said_so = "yes" if row["watched"] else "no"
    return f"{said_so}: {row['watch_note']}" if row["watch_note"] else said_so


def _running(row: Mapping[str, Any]) -> str:
    """Say which cycle runs, and in which process."""
    host, _, process = (row["running"] or "").partition("/")
    if row["running"] is None or row["running_cycle"] is None:
        return "-"
    where = "" if ledger.holder().startswith(f"{host}/") else f" on {host.partition(':')[0]}"
    return f"cycle {row['running_cycle']}, process {process.partition('/')[0]}{where}"


def _state(name: str) -> dict[str, Any]:
    champion = ledger.champion(name)
    last = ledger.decisions(name, limit=1)
    receipt = next(iter(ledger.receipts(name, limit=1)), None)
    newest = ledger.last_cycle(name)
    running = newest if newest and ledger.at_work(newest) else None
    waiting = ledger.waiting(name)
    return {
        "name": name,
        "champion": champion.version if champion else None,
        "last_decision": {key: last[0][key] for key in ("cycle", "verdict", "sentence", "at")} if last else None,
        "outstanding": ledger.count_outstanding(name)[0],
        "running": ledger.lease_holder(name),
        "running_cycle": running.id if running else None,
        "receipt": asdict(receipt) if receipt else None,
        "waiting": asdict(waiting) if waiting else None,
        "servers": serving.servers(name),
        "withdrawn": ledger.withdrawn(name, waiting.cycle) if waiting else None,
        "registry": last[0].get("registry") if last else None,
    }


def arrivals(name: str, limit: int, *, as_json: bool) -> None:
    """Show the newest arrivals."""
    known(name)
    found = ledger.history(name, limit=limit)
    if as_json:
        as_json_text([asdict(arrival) for arrival in found])
        return
    table = Table("#", "arrival", "state", "accepted", "rejected", "repeats", "cycle", "seen", "why")
    for part in found:
        state = f"{part.state} ({after})" if (after := afterwards(part)) else part.state
        counts = [f"{count:,}" for count in (part.accepted, part.rejected, part.repeated)]
        cells = (str(part.seq), part.name, state, *counts, str(part.cycle or "-"), (part.seen_at or "")[:19], part.reason or "")
        table.add_row(*map(said, cells))
    console.print(table if found else said(f"Nothing has arrived for {name} yet."))


def afterwards(arrival: Arrival) -> str:
    """Say what became of an arrival's file since: "" if it is the newest version."""
    return ledger.UNREAD.get(arrival.reason or "", "replaced since") if arrival.superseded else ""


def decisions(name: str, limit: int, *, as_json: bool) -> None:
    """Show the newest decisions."""
    known(name)
    found = ledger.decisions(name, limit=limit)
    if as_json:
        as_json_text(found)
        return
    table = Table("cycle", "at", "trigger", "decision", "champion", "why")
    for row in found:
        coloured = said((row["verdict"], COLOURS[row["verdict"]]))
        first = (str(row["cycle"]), (row["at"] or "")[:19], row["trigger"])
        table.add_row(*map(said, first), coloured, *map(said, (str(row["champion"] or "-"), row["sentence"])))
    console.print(table if found else said(f"No cycle of {name} has ended yet."))


def why(name: str, cycle: int | None, *, as_json: bool) -> None:
    """Explain one cycle's decision, or say why it has none.

    Raises:
        UserError: if there is no such cycle.
    """
    known(name)
    number = cycle if cycle is not None else _newest(name)
    record = ledger.decision(name, number)
    if record is None:
        _failure(name, number, as_json=as_json)
    elif as_json:
        as_json_text(record)
    else:
        console.print(Markdown(lines(wording.markdown(Decision.from_dict(record)))))


def _newest(name: str) -> int:
    last = ledger.last_cycle(name)
    if last is None:
        raise UserError(f"No cycle of {name!r} has run yet. Run one with `ratchet run {name}`.")
    return last.id


def _failure(name: str, number: int, *, as_json: bool) -> None:
    found = next((cycle for cycle in ledger.list_cycles(name, before=number + 1, limit=1) if cycle.id == number), None)
    if found is None:
        raise UserError(f"{name!r} has no cycle {number}. `ratchet decisions {name}` lists those it has.")
    if as_json:
        as_json_text({"cycle": found.id, "state": found.state, "error": found.error})
        return
    console.print(said(f"Cycle {found.id} of {name} has no decision: it is {found.state}. {found.error or ''}"))


def findings(name: str, *, as_json: bool) -> bool:
    """Check a pipeline, show what was found, and tell whether all of it passed."""
    from tasks.check import check

    found = check(pipelines.get(name))
    if as_json:
        as_json_text([asdict(finding) for finding in found])
    else:
        for finding in found:
            passed = ("pass", "green") if finding.passed else ("FAIL", "bold red")
            console.print(said(passed, f"  {finding.rule}: {finding.sentence}"))
    return all(finding.passed for finding in found)


def known(name: str) -> None:
    """Refuse a name that is neither a pipeline nor in the ledger.

    Raises:
        UnknownPipeline: which lists the known ones.
    """
    if ledger.last_cycle(name) is None and not ledger.history(name, limit=1):
        pipelines.path(pipeline_of(name))
