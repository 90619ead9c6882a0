"""Decisions in words: the same in the terminal, in Prefect, in MLflow and on the report's page."""

from tasks import document, provenance
from tasks.document import Block, Chart, Document, Drawn, Mark, Paragraph, Section, Table
from tasks.evidence import Difference, Evaluation, Scores
from tasks.facts import Facts, interval, moment, plural, rules_table, share, shown, signed
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
    ours = f"{found.metric} {shown(found.challenger.metrics.get(found.metric))} ({found.challenger.model})"
    if found.champion is None or found.difference is None:
        return f"{ours}, {'the first model' if decision.previous is None else 'the champion could not be scored'}"
    theirs = shown(found.champion.metrics.get(found.metric))
    low, high = found.difference.low, found.difference.high
    gain = "undefined" if low is None or high is None else f"{signed(low)} to {signed(high)}"
    return f"{ours} against {theirs}, gain {gain}"


def verdict(decision: Decision) -> str:
    """Give the verdict in one sentence.

    >>> verdict(Decision("churn", 3, "keep", "", challenger="forest", champion=2))
    'Champion 2 of churn stays; forest is not promoted'
    >>> verdict(Decision("churn", 4, "promote", "", challenger="forest", champion=3, previous=2))
    'Version 3 of churn is promoted: forest takes the place of champion 2'
    """
    stays = (
        f"champion {decision.champion} of {decision.pipeline} stays" if decision.champion else f"{decision.pipeline} has no champion yet"
    )
    if decision.verdict == "promote":
        role = "is its first model" if decision.previous is None else f"takes the place of champion {decision.previous}"
        return f"Version {decision.champion} of {decision.pipeline} is promoted: {decision.challenger} {role}"
    if decision.verdict == "hold":
        version = f" (version {decision.proposed})" if decision.proposed else ""
        return f"{decision.challenger}{version} waits for a person to decide; {stays}"
    what = f"{decision.challenger} is not promoted" if decision.challenger else "nothing was trained"
    return f"{stays[0].upper() if decision.champion else stays[0]}{stays[1:]}; {what}"


def markdown(decision: Decision) -> str:
    """Tell what the decision itself holds, as markdown."""
    return document.markdown(told(Facts(decision)))


def told(facts: Facts) -> Document:
    """Tell a decision with everything it rests on; what is not known is left out."""
    decision = facts.decision
    place = [heading(decision), f"started by {decision.trigger}", *([f"{moment(decision.at)} UTC"] if decision.at else [])]
    sections = [_rules(decision), *_comparison(facts), *provenance.sections(facts)]
    if decision.notes:
        sections.append(Section("Notes", (document.Bullets(decision.notes),)))
    return Document(verdict(decision), " · ".join(place), decision.sentence, tuple(part for part in sections if part.blocks))


def _rules(decision: Decision) -> Section:
    passed = sum(rule.passed for rule in decision.rules)
    told = Paragraph(f"{passed} of {plural(len(decision.rules), 'rule', 'rules')} passed. All have to.")
    return Section("Rules of the gate", (told, rules_table(decision.rules)) if decision.rules else ())


def _comparison(facts: Facts) -> list[Section]:
    found = facts.decision.evaluation
    if found is None:
        return []
    return [
        Section("Challenger against champion", differences(facts.decision, found)),
        Section("Slices, by the gate's metric", _slices(found)),
        Section(f"Scores on {plural(found.rows, 'unseen row', 'unseen rows')}", _scores(found)),
        Section("Predictions", facts.curves),
        Section("What the challenger goes by", _effects(facts, found.metric)),
    ]


def differences(decision: Decision, found: Evaluation) -> tuple[Block, ...]:
    """Tell how much better the challenger is, by every metric that was compared, the gate's first; or why that is not known."""
    told: list[Block] = []
    compared = _by_gate_first(found)
    if compared:
        marks = [_mark(f"{name} (the gate's)" if name == found.metric else name, one) for name, one in compared.items()]
        marks += [_mark(f"{found.metric} on the golden set", found.golden)] if found.golden else []
        title = "Improvement over the champion, each in its own unit"
        told.append(Chart(title, "intervals", ("metric", "improvement"), tuple(marks), "own", ("◂ worse", "better ▸")))
        told.append(Paragraph(_method(next(iter(compared.values())))))
    elif decision.previous is None:
        told.append(Paragraph("There was no champion to compare with: this would be the first model."))
    elif found.champion is None:
        told.append(Paragraph(f"Champion {decision.previous} could not be scored: {found.champion_error}"))
    if found.difference and found.difference.proven_low is not None and found.difference.proven_high is not None:
        told.append(Paragraph(_proven(found.difference)))
    if found.changed is not None:
        told.append(Paragraph(f"{share(found.changed)} of the rows are predicted otherwise than by the champion."))
    if found.golden_error:
        told.append(Paragraph(f"The golden set could not be scored: {found.golden_error}"))
    return tuple(told)


def _by_gate_first(found: Evaluation) -> dict[str, Difference]:
    compared = dict(found.differences)
    gates = compared.pop(found.metric, found.difference)
    return {found.metric: gates, **compared} if gates else compared


def _mark(label: str, found: Difference) -> Mark:
    return Mark(label, found.improvement, interval(found), found.low, found.high)


def _method(found: Difference) -> str:
    return f"Positive is better, whatever the metric's direction. The intervals hold with {share(found.confidence)} ({found.method})."


def _proven(found: Difference) -> str:
    level = "" if found.alpha is None else f", at level {found.alpha:.2g}"
    low, high = shown(found.proven_low), shown(found.proven_high)
    return f"The gate goes by one-sided bounds{level}: the true improvement of {found.metric} is above {low}; it is below {high}."


def _slices(found: Evaluation) -> tuple[Block, ...]:
    if not found.slice_rows:
        return ()
    marks = tuple(
        _mark(f"{name} ({plural(found.slice_rows.get(name, 0), 'row', 'rows')})", one) for name, one in found.slice_differences.items()
    )
    chart = Chart(
        f"Improvement of {found.metric} on each slice", "intervals", ("slice", "improvement"), marks, sides=("◂ worse", "better ▸")
    )
    rows = tuple((name, f"{count:,}", *_parts(found, name)) for name, count in found.slice_rows.items())
    header = ("slice", "rows", "challenger", "champion", "improvement")
    used = 5 if marks else 4 if found.champion else 3
    table = Table(header[:used], tuple(row[:used] for row in rows), frozenset({1, 2, 3}) & frozenset(range(used)))
    return (Drawn(chart), table) if marks else (table,)


def _parts(found: Evaluation, name: str) -> tuple[str, str, str]:
    one = found.slice_differences.get(name)
    return _part(found.challenger, name), _part(found.champion, name), interval(one) if one else "too few rows to compare"


def _part(scores: Scores | None, name: str) -> str:
    return shown(next(iter(scores.slices.get(name, {}).values()), None)) if scores else "-"


def _scores(found: Evaluation) -> tuple[Block, ...]:
    models = [(f"challenger: {found.challenger.model}", found.challenger)]
    models += [(f"champion: {found.champion.model}", found.champion)] if found.champion else []
    models += [(f"{scores.model} (baseline)", scores) for scores in found.baselines]
    models += [(f"{scores.model} (for reference)", scores) for scores in found.references]
    marks = tuple(
        Mark(label, value := scores.metrics.get(found.metric), shown(value), colour=_colour(scores, found)) for label, scores in models
    )
    rows = tuple((name, *(shown(scores.metrics.get(name)) for _, scores in models)) for name in found.challenger.metrics)
    table = Table(("metric", *(label for label, _ in models)), rows, frozenset(range(1, len(models) + 1)))
    when = Paragraph(f"From {moment(found.first)} to {moment(found.last)}; no model was trained on them.")
    return when, Drawn(Chart(f"{found.metric}, the gate's metric", "bars", ("model", found.metric), marks)), table


def _colour(scores: Scores, found: Evaluation) -> document.Colour:
    return "challenger" if scores is found.challenger else "champion" if scores is found.champion else "other"


def _effects(facts: Facts, metric: str) -> tuple[Block, ...]:
    problem, found = facts.details.get("effects_problem"), facts.details.get("effects") or ()
    if problem:
        return (Paragraph(f"The effects of the features could not be measured: {problem}"),)
    marks = tuple(
        Mark(name, mean, f"{shown(mean)} ± {noise:.2g}", mean - noise, mean + noise)
        for name, mean, noise in ((one["feature"], one["mean"], one["deviation"]) for one in found)
    )
    title = f"How much worse {metric} gets if a feature's values are shuffled (mean and standard deviation of the shuffles)"
    alike = Paragraph("Features that tell the same share their effect: each looks small, because the other is left.")
    return (Chart(title, "bars", ("feature", "effect"), marks), alike) if marks else ()
