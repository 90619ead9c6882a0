"""The contest: choose a challenger, hold it against the champion, and publish what the gate lets through."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from flows.cycle import Cycle, recorded, timed, told
from tasks import crash
from tasks.budget import Spending, allot
from tasks.decide import Circumstances, decide, sentence_of, twins, verdict_of
from tasks.errors import Breakdown, BrokenPipeline, UserError
from tasks.evaluate import evaluate
from tasks.evidence import Budget, Evaluation, Rule
from tasks.golden import digest as golden_digest
from tasks.metrics import METRICS
from tasks.probe import probe, standby
from tasks.promote import clear_up, promote, register
from tasks.records import Champion, Decision, Fitted, Prepared, Trial
from tasks.report import details, what_it_goes_by
from tasks.spec import Pipeline
from tasks.stability import stability
from tasks.stores import ledger
from tasks.train import best_of, drawn_settings, fit, train

SHARE = 0.5  # of the cycle's time limit, the most that the comparison may take


@dataclass(frozen=True)
class Contest:
    """A challenger and what its decision needs: how it was chosen and fitted, what is to be spent, and what the report is told."""

    cycle: Cycle
    prepared: Prepared
    chosen: Trial
    fitted: Fitted
    spending: Spending | None
    more: Mapping[str, Any]


def challenge(cycle: Cycle, draft: Decision, prepared: Prepared, run: str) -> Decision:
    """Choose a challenger, compare it with the champion, and publish it if every rule of the gate is met."""
    spec, champion = cycle.spec, ledger.champion(cycle.spec.name)
    chosen, notes = choose(spec, prepared, run)
    crash.point("train.chosen")
    fitted = _fit(cycle, prepared, chosen, prepared.train)
    budget = budget_of(spec, prepared, champion)
    draft = replace(draft, challenger=chosen.candidate, params=chosen.params, notes=draft.notes + notes, budget=budget)
    evaluation = _evaluated(cycle, prepared, fitted, champion, budget)
    crash.point("evaluate.done")
    more = details(spec, prepared, fitted)
    if isinstance(evaluation, Rule):
        return _kept(Contest(cycle, prepared, chosen, fitted, None, more), draft, (evaluation,), champion)
    more |= what_it_goes_by(spec, prepared, fitted)
    contest = Contest(cycle, prepared, chosen, fitted, _spent(cycle, budget, spec, prepared), more)
    draft = replace(draft, evaluation=evaluation)
    rules = decide(spec.gate, evaluation, champion, budget, _circumstances(cycle, fitted, more))
    return _kept(contest, draft, rules, champion) if verdict_of(rules) == "keep" else _published(contest, draft, rules, champion)


def _evaluated(cycle: Cycle, prepared: Prepared, fitted: Fitted, champion: Champion | None, budget: Budget | None) -> Evaluation | Rule:
    """Compare; if that fails through the models or the user's code, that is a rule which is not met."""
    alpha = budget.allowed if budget and budget.allowed else cycle.spec.gate.alpha
    within = evaluate.with_options(timeout_seconds=cycle.spec.retrain.time_limit * SHARE)
    state = within(cycle.spec, prepared, fitted, champion, str(cycle.work), alpha, return_state=True)
    found: Evaluation | Exception = state.result(raise_on_failure=False)
    if isinstance(found, Breakdown | UserError):  # which say what is to be put right, and promote nothing either
        raise found
    if isinstance(found, Exception):
        what = f"{type(found).__name__}: {found}" if str(found) else type(found).__name__
        return Rule("evaluation", False, None, None, f"the comparison failed, so nothing is proven: {what}")
    return found


def _fit(cycle: Cycle, prepared: Prepared, chosen: Trial, rows: int) -> Fitted:
    candidate = next(part for part in cycle.spec.candidates if part.name == chosen.candidate)
    return fit(cycle.spec, prepared, candidate, chosen.params, rows, str(cycle.work))


def budget_of(spec: Pipeline, prepared: Prepared, champion: Champion | None) -> Budget | None:
    """Give the error budget as a comparison with the champion finds it; the first model has none to be compared with."""
    if champion is None:
        return None
    return allot(spec.gate, ledger.spendings(spec.name), golden=golden_digest(spec), moment=datetime.fromisoformat(_moment(spec, prepared)))


def _moment(spec: Pipeline, prepared: Prepared) -> str:
    """Give where in time a comparison stands: by the data's own time, or by the clock where the pipeline has none."""
    dtype = str(spec.contract.to_schema().columns[spec.time].dtype) if spec.time else ""
    if dtype.startswith("Date") and prepared.snapshot.last is not None:
        return prepared.snapshot.last
    return datetime.now(UTC).replace(tzinfo=None).isoformat()


def _spent(cycle: Cycle, budget: Budget | None, spec: Pipeline, prepared: Prepared) -> Spending | None:
    if budget is None or not budget.allowed:
        return None
    return Spending(cycle.lease.cycle, budget.evidence, budget.allowed, _moment(spec, prepared))


def _circumstances(cycle: Cycle, fitted: Fitted, more: Mapping[str, Any]) -> Circumstances:
    return Circumstances(
        label_rate=more["target"]["unseen"].get(str(cycle.spec.positive)),
        quarantine_share=ledger.rejected_since_training(cycle.spec.name),
        drift=more["drift"],
        fit_seconds=fitted.seconds,
        alias=cycle.alias,
    )


def _kept(contest: Contest, draft: Decision, rules: tuple[Rule, ...], champion: Champion | None) -> Decision:
    """Record that the champion stays."""
    cycle = contest.cycle
    sentence = sentence_of("keep", rules, draft.challenger, champion)
    draft = replace(draft, verdict="keep", sentence=sentence, rules=rules)
    return told(cycle, recorded(cycle, draft, trained_rows=contest.prepared.train, spending=contest.spending, more=contest.more))


def _published(contest: Contest, draft: Decision, rules: tuple[Rule, ...], champion: Champion | None) -> Decision:
    """Fit the model that is to serve, store and probe it, and publish or hold it if that passed too."""
    cycle, prepared, spec = contest.cycle, contest.prepared, contest.cycle.spec
    served = contest.fitted
    with standby(cycle.work) as process:  # it gets ready to load the model while that is fitted and stored
        if spec.gate.serve == "refit":
            served = _fit(cycle, prepared, contest.chosen, prepared.snapshot.rows)
            rules += (twins(spec.gate, spec.kind, stability(spec, prepared, contest.fitted, served), served),)
            if verdict_of(rules) == "keep":
                return _kept(contest, draft, rules, champion)
        candidate = register(spec, cycle.lease, draft, prepared, served, str(cycle.work / "pipeline.py"))
        examined = probe(spec, candidate, served, prepared, process)
    crash.point("promote.probed")
    rules, draft = rules + examined.rules, replace(draft, probe=examined)
    verdict = verdict_of(rules)
    if verdict == "keep":
        decision = _kept(contest, draft, rules, champion)
        return replace(decision, notes=decision.notes + clear_up(spec.name, tried=True))  # the version that was refused gets its mark
    sentence = sentence_of(verdict, rules, draft.challenger, champion)
    draft = timed(cycle, replace(draft, verdict=verdict, sentence=sentence, rules=rules))
    return told(cycle, promote(cycle.lease, draft, candidate, prepared, contest.spending, contest.more))


def choose(spec: Pipeline, prepared: Prepared, run: str) -> tuple[Trial, tuple[str, ...]]:
    """Try every setting of every candidate side by side; a setting that fails is noted, and fails the cycle only if all do."""
    jobs = [
        (candidate, number, params)
        for candidate in spec.candidates
        for number, params in enumerate(drawn_settings(candidate, spec.seed), start=1)
    ]
    futures = [
        (f"{candidate.name} #{number}", train.submit(spec, prepared, candidate, number, params, run)) for candidate, number, params in jobs
    ]
    for _, future in futures:
        future.wait()
    trials = [future.result() for _, future in futures if future.state.is_completed()]
    failed = tuple(f"{name} could not be trained: {future.state.message}" for name, future in futures if not future.state.is_completed())
    if not trials:
        raise BrokenPipeline(f"No candidate of {spec.name!r} could be trained; the champion stays. {'; '.join(failed)}")
    return best_of(trials, METRICS[spec.gate.metric]), failed
