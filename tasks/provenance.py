"""Where a decision comes from, in words: its data and how they have moved, the error budget, the probe of the stored model, and its lineage."""

from collections.abc import Mapping
from typing import Any

from tasks.document import Block, Cell, Chart, Link, Mark, Paragraph, Section, Table
from tasks.evidence import Budget, Probe
from tasks.facts import Facts, moment, pairs, plural, rules_table, settings_in_words, share, shown
from tasks.records import Champion

SHOWN = 20


def sections(facts: Facts) -> list[Section]:
    """Tell of the data, the budget, the probe and the lineage, each if there is anything known of it."""
    decision = facts.decision
    return [
        Section("Data", data(facts)),
        Section("Error budget", _budget(decision.budget) if decision.budget else ()),
        Section("Serving probe", _probe(decision.probe) if decision.probe else ()),
        Section("Lineage", (pairs(lineage(facts)),)),
    ]


def data(facts: Facts) -> tuple[Block, ...]:
    """Tell which rows there were, how the target is spread in them, and how far each input has moved."""
    decision, found = facts.decision, facts.decision.snapshot
    rows: list[tuple[str, Cell | None]] = [
        ("arrivals", listed(decision.arrivals)),
        ("rows of this cycle", f"{decision.accepted:,} accepted, {decision.rejected:,} rejected, {decision.repeated:,} repeats"),
        ("share in quarantine", share(decision.quarantine_share)),
    ]
    if found:
        rows.append(("rows of the snapshot", f"{found.rows:,}, from {moment(found.first)} to {moment(found.last)}"))
    if decision.evaluation:
        seen, unseen = (found.rows - decision.evaluation.rows if found else None), decision.evaluation
        rows.append(("rows to train on", f"{seen:,}" if seen is not None else None))
        rows.append(("unseen rows", f"{unseen.rows:,}, from {moment(unseen.first)} to {moment(unseen.last)}"))
        rows.append(("used by a decision before", reused_in_words(unseen.rows, unseen.reused, unseen.reused_by)))
    return pairs(rows), *_target(facts.details), *_drift(facts.details.get("drift") or {})


def reused_in_words(rows: int, reused: int | None, cycles: tuple[int, ...]) -> str | None:
    """Say how many of the rows of a comparison earlier decisions rest on already, and which; None where that was not counted.

    >>> reused_in_words(1344, 1000, (3, 4))
    '1,000 of 1,344, by cycles 3, 4; each use has a part of the error budget of its own'
    """
    if not reused:
        return None if reused is None else "none"
    named = f"cycle{'s' if len(cycles) > 1 else ''} {listed(tuple(map(str, cycles)))}"
    return f"{reused:,} of {rows:,}, by {named}; each use has a part of the error budget of its own"


def listed(names: tuple[str, ...]) -> str:
    """Name at most 20, and count the others."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more if names else "none"


def _target(details: Mapping[str, Any]) -> tuple[Block, ...]:
    found = details.get("target") or {}
    before, after = found.get("training") or {}, found.get("unseen") or {}
    if not before:
        return ()
    write = shown if details.get("kind") == "regression" else share
    rows = tuple((name, write(value), write(after.get(name))) for name, value in before.items())
    what = "values of the target" if details.get("kind") == "regression" else "share of each label"
    return (Table((f"{what}: {found.get('name')}", "training rows", "unseen rows"), rows, frozenset({1, 2})),)


def _drift(found: Mapping[str, float]) -> tuple[Block, ...]:
    if not found:
        return ()
    largest = sorted(found.items(), key=lambda item: -item[1])[:SHOWN]
    marks = tuple(Mark(name, value, share(value), colour="other") for name, value in largest)
    more = f" The {SHOWN} largest of {len(found)} are shown." if len(found) > SHOWN else ""
    how = f"Drift is the largest change in the share of one value, or of one tenth of a number's range, from the training rows to the unseen ones.{more}"
    return Chart("Drift of the inputs", "bars", ("feature", "drift"), marks, full=1.0), Paragraph(how)


def _budget(found: Budget) -> tuple[Block, ...]:
    where = "the stream" if found.evidence == "stream" else f"golden set {found.evidence[:16]}"
    rows: list[tuple[str, Cell | None]] = [
        ("whole budget", f"{found.alpha:g} in a {found.per}" if found.per == "year" else f"{found.alpha:g} in {found.per} decisions"),
        ("belongs to", where),
        ("allowed to this decision", f"{found.allowed:.3g}"),
        ("spent by earlier ones", f"{found.spent:.3g} in {plural(found.decisions, 'decision', 'decisions')}"),
        ("left after it", f"{found.left:.3g}"),
    ]
    return Paragraph(found.sentence), pairs(rows)


def _probe(found: Probe) -> tuple[Block, ...]:
    told = f"The stored model was loaded in a fresh process and answered {plural(found.requests, 'request', 'requests')} in {found.seconds:.2g} s."
    rows: list[tuple[str, Cell | None]] = [
        ("one row, median", _unit(found.p50_ms, "ms")),
        ("one row, 99th percentile", _unit(found.p99_ms, "ms")),
        ("peak memory", _unit(found.memory_mb, "MB")),
        ("time to load", _unit(found.load_seconds, "s")),
        ("size on disk", _unit(found.artifact_mb, "MB")),
    ]
    return (Paragraph(told), pairs(rows), *((rules_table(found.rules),) if found.rules else ()))


def _unit(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:.3g} {unit}"


def lineage(facts: Facts) -> list[tuple[str, Cell | None]]:
    """Name everything that the decision was made from, and where it is to be found."""
    decision, code, found = facts.decision, facts.details.get("code") or {}, facts.decision.snapshot
    return [
        ("snapshot", f"version {found.version} of {found.uri}" if found else None),
        ("digest of its rows", f"SHA-256 {found.digest}" if found else None),
        ("compared with", champion_in_words(facts.champion)),
        ("served now", champion_in_words(facts.served)),
        ("digest of the model", f"SHA-256 {facts.served.sha256}" if facts.served else None),
        ("challenger", f"{decision.challenger}: {settings_in_words(decision.params)}" if decision.challenger else None),
        ("code", code.get("git_commit")),
        ("digest of the lock file", f"SHA-256 {code['lock_sha256']}" if "lock_sha256" in code else None),
        ("run in MLflow", _link(f"cycle {decision.cycle} in MLflow", decision.mlflow_url, decision.mlflow_run)),
        ("run in Prefect", _link(f"cycle {decision.cycle} in Prefect", decision.prefect_url, decision.prefect_run)),
        ("seconds of the cycle", None if decision.seconds is None else f"{decision.seconds:.1f}"),
    ]


def champion_in_words(found: Champion | None) -> str | None:
    """Say which version it is, and who brought it into service when and how."""
    if found is None:
        return None
    by = f" by {found.who}" if found.who else ""
    return f"version {found.version} ({found.candidate}), {found.how}{by} in cycle {found.cycle}, in service since {moment(found.since)}"


def _link(text: str, url: str | None, run: str | None) -> Cell | None:
    return Link(text, url) if url else run
