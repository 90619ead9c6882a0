"""A model card (Mitchell et al., "Model cards for model reporting", FAT* 2019): what a model is for, made from and good at, and where it is not."""

from tasks import provenance, wording
from tasks.document import Block, Bullets, Cell, Document, Paragraph, Section, Table, markdown
from tasks.evidence import Evaluation
from tasks.facts import Facts, moment, pairs, plural, settings_in_words, share, shown
from tasks.records import Decision

MOVED = 0.1


def card(facts: Facts) -> str:
    """Write the card of the cycle's challenger, as markdown; what is not known is left out."""
    decision, found = facts.decision, facts.decision.evaluation
    version = facts.served.version if facts.served else decision.proposed
    named = f"version {version}" if version else f"cycle {decision.cycle}, {decision.verdict}"
    sections = [
        Section("Intended use", _use(facts)),
        Section("Training data", provenance.data(facts)),
        Section("Evaluation", (*_figures(found), *wording.differences(decision, found)) if found else ()),
        Section("Slices", _slices(found) if found else ()),
        Section("Limits", (Bullets(limits(facts)),)),
        Section("How it was chosen", (Paragraph(decision.sentence), pairs(_chosen(facts)))),
        Section("Identity", (pairs(provenance.lineage(facts)),)),
    ]
    title = f"Model card: {decision.pipeline}, {decision.challenger} ({named})"
    lead = "" if facts.served else f"This model is not in service. {wording.verdict(decision)}."
    return markdown(Document(title, wording.heading(decision), lead, tuple(part for part in sections if part.blocks)))


def _use(facts: Facts) -> tuple[Block, ...]:
    details, target = facts.details, (facts.details.get("target") or {}).get("name")
    kinds = {"binary": "one of two labels, with a probability", "multiclass": "one of several labels", "regression": "a number"}
    rows: list[tuple[str, Cell | None]] = [
        ("pipeline", facts.decision.pipeline),
        ("predicts", f"{target}: {kinds.get(details.get('kind', ''), details.get('kind'))}" if target else details.get("kind")),
        ("counts as 1", details.get("positive")),
        ("inputs", ", ".join(f"{name} ({dtype})" for name, dtype in (details.get("features") or {}).items()) or None),
    ]
    return (pairs(rows),)


def _figures(found: Evaluation) -> tuple[Block, ...]:
    when = f"from {moment(found.first)} to {moment(found.last)}"
    told = f"On {plural(found.rows, 'row', 'rows')} {when} that it was not trained on; the gate's metric is {found.metric}."
    rows = tuple((name, shown(value), shown(found.training.get(name))) for name, value in found.challenger.metrics.items())
    return Paragraph(told), Table(("metric", "unseen rows", "training rows"), rows, frozenset({1, 2}))


def _slices(found: Evaluation) -> tuple[Block, ...]:
    rows = tuple(
        (name, f"{count:,}", shown(next(iter(found.challenger.slices.get(name, {}).values()), None)))
        for name, count in found.slice_rows.items()
    )
    return (Table(("slice", "rows", found.metric), rows, frozenset({1, 2})),) if rows else ()


def limits(facts: Facts) -> tuple[str, ...]:
    """Say where the figures do not reach, from the figures themselves."""
    decision, found = facts.decision, facts.decision.evaluation
    told = []
    if found:
        told.append(f"It was judged on rows from {moment(found.first)} to {moment(found.last)}; of later ones nothing is known.")
        told += _weak(found)
    moved = [name for name, value in (facts.details.get("drift") or {}).items() if value > MOVED]
    if moved:
        told.append(
            f"Inputs that moved by more than {share(MOVED)} between the training rows and the unseen ones: {provenance.listed(tuple(moved))}."
        )
    if _refitted(decision):
        told.append(
            "In service is its twin, fitted anew on all rows, the unseen ones included: the figures here are those of the model that was tested."
        )
    return (*told, *(f"Not met: {rule.sentence}" for rule in decision.rules if not rule.passed)) or ("None are known.",)


def _weak(found: Evaluation) -> list[str]:
    undefined = [name for name, value in found.challenger.metrics.items() if value is None]
    worse = [name for name, one in found.slice_differences.items() if one.high is not None and one.high < 0]
    told = [f"Could not be computed on these rows: {', '.join(undefined)}."] if undefined else []
    return told + ([f"Worse than the champion on: {provenance.listed(tuple(worse))}."] if worse else [])


def _refitted(decision: Decision) -> bool:
    return decision.verdict == "promote" and decision.served != "tested"


def _chosen(facts: Facts) -> list[tuple[str, Cell | None]]:
    params = facts.details.get("params") or {}
    seconds = facts.details.get("seconds")
    return [
        ("candidate", facts.decision.challenger),
        ("parameters", settings_in_words(facts.decision.params)),
        ("gate", params.get("gate")),
        ("seed", params.get("seed")),
        ("seconds of the fit", None if seconds is None else f"{seconds:.2g}"),
    ]
