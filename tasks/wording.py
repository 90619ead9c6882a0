"""Decisions in words: the same text in the terminal, in Prefect and in MLflow."""

from collections.abc import Sequence
from typing import Any

from tasks.evidence import Evaluation, Scores
from tasks.records import Decision


def heading(decision: Decision) -> str:
    """Give the decision as one line.

    >>> heading(Decision(pipeline="churn", cycle=3, verdict="keep", sentence="Kept."))
    'churn · cycle 3 · KEEP'
    """
    return f"{decision.pipeline} · cycle {decision.cycle} · {decision.verdict.upper()}"


def brief(decision: Decision) -> str:
    """Give what a decision rests on in a few words: the challenger's figure against the champion's, or why nothing was trained."""
    found = decision.evaluation
    if found is None:
        return decision.sentence
    ours = f"{found.metric} {_figure(found.challenger.metrics.get(found.metric))} ({found.challenger.model})"
    if found.champion is None or found.difference is None:
        return f"{ours}, {'the first model' if decision.previous is None else 'the champion could not be scored'}"
    theirs = _figure(found.champion.metrics.get(found.metric))
    low, high = found.difference.low, found.difference.high
    gain = "undefined" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
    return f"{ours} against {theirs}, gain {gain}"


def markdown(decision: Decision) -> str:
    """Tell the decision with its rules, scores and lineage, as markdown."""
    parts = [f"# {heading(decision)}", decision.sentence]
    if decision.rules:
        rows = [("pass" if rule.passed else "**FAIL**", rule.name, rule.sentence) for rule in decision.rules]
        parts += ["## Rules", _table(("", "rule", "what was found"), rows)]
    if decision.evaluation:
        found = decision.evaluation
        parts += [f"## Scores on {found.rows:,} unseen rows ({found.first} to {found.last})", _scores(found)]
        parts += _slices(decision)
    parts += ["## Data", _table(("", ""), _data(decision))]
    parts += [f"- {note}" for note in decision.notes]
    if decision.mlflow_url:
        parts.append(f"[The cycle's run in MLflow]({decision.mlflow_url})")
    return "\n\n".join(parts) + "\n"


def _scores(evaluation: Evaluation) -> str:
    shown = [(f"challenger: {evaluation.challenger.model}", evaluation.challenger)]
    shown += [(f"champion: {evaluation.champion.model}", evaluation.champion)] if evaluation.champion else []
    shown += [(f"{scores.model} (baseline)", scores) for scores in evaluation.baselines]
    shown += [(f"{scores.model} (for reference)", scores) for scores in evaluation.references]
    rows = [(name, *(_figure(scores.metrics.get(name)) for _, scores in shown)) for name in evaluation.challenger.metrics]
    return _table(("metric", *(label for label, _ in shown)), rows)


def _slices(decision: Decision) -> list[str]:
    evaluation = decision.evaluation
    if evaluation is None or not evaluation.slice_rows:
        return []
    rows = [
        (name, f"{count:,}", _part(evaluation.challenger, name), _part(evaluation.champion, name))
        for name, count in evaluation.slice_rows.items()
    ]
    return ["## Slices, by the gate's metric", _table(("slice", "rows", "challenger", "champion"), rows)]


def _part(scores: Scores | None, name: str) -> str:
    return _figure(next(iter(scores.slices.get(name, {}).values()), None)) if scores else "-"


def _data(decision: Decision) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        ("trigger", decision.trigger),
        (
            "arrivals",
            ", ".join(decision.arrivals[:20]) + (f" and {len(decision.arrivals) - 20} more" if len(decision.arrivals) > 20 else "")
            or "none",
        ),
        ("rows", f"{decision.accepted:,} accepted, {decision.rejected:,} rejected, {decision.repeated:,} repeats"),
    ]
    if decision.snapshot:
        found = decision.snapshot
        rows.append(
            (
                "snapshot",
                f"version {found.version} of {found.uri}: {found.rows:,} rows, {found.first} to {found.last}, SHA-256 {found.digest[:16]}",
            )
        )
    return rows


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)
