"""Continuous training: one pass over what has arrived, from the source to a decision.

    observe > claim > ingest > clean > feature > train > evaluate > decide > (refit > promote) > report

This file is wiring: what each step does is in the file of its name in `tasks/`.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

from prefect import runtime
from prefect.states import Completed

from flows import pipelines
from flows.contest import challenge
from flows.cycle import Cycle, claimed, recorded, sweep_out, told
from flows.embedded import embedded, tag_run
from flows.streams import left_to_do, outstanding, passed_over, source_of
from tasks import crash
from tasks.clean import clean, compact, recover
from tasks.decide import preconditions
from tasks.errors import CycleInProgress
from tasks.evidence import Rule
from tasks.feature import feature
from tasks.ingest import batches, ingest
from tasks.observe import observe
from tasks.predictions import upkeep
from tasks.promote import check_alias, clear_up, settle_effects
from tasks.records import Arrival, Decision, Observation
from tasks.report import settle_reports
from tasks.spec import Pipeline
from tasks.stores import lake, ledger, tracking
from tasks.triggers import TRAINING


def _run_name() -> str:
    given = runtime.flow_run.parameters
    return f"{given['pipeline']} · {given.get('trigger', 'manual')} · {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


@embedded(name=TRAINING, flow_run_name=_run_name, persist_result=False)
def continuous_training(pipeline: str, source: str | None = None, trigger: str = "manual") -> Decision:
    """Take in everything outstanding at the source, train challengers, and promote one only if the gate lets it through.

    Args:
        pipeline: name of a pipeline file (see `flows.pipelines`).
        source: directory, file or s3:// prefix to read instead of the pipeline's own source.
        trigger: what started this cycle; it is kept with the decision.

    Returns:
        The decision, as it stands in the ledger: promote, keep or skip, with a reason for every rule.

    Raises:
        UserError: if the pipeline, the source or a setting is wrong, or another cycle of the pipeline is running.
    """
    spec = pipelines.get(pipeline)
    observation = observe(pipeline, source or source_of(spec))
    tag_run(pipeline, trigger, process=ledger.holder())
    if trigger == "arrival" and runtime.deployment.id is not None and not left_to_do(pipeline):
        return cast(
            "Decision", passed_over(pipeline, trigger, "nothing", "Nothing is outstanding any more: an earlier cycle has taken it in.")
        )
    try:
        decision = _pass(spec, trigger, observation)
        return decision if runtime.deployment.id is None else _shown(decision)
    except CycleInProgress as busy:
        if runtime.deployment.id is None:
            raise
        return cast("Decision", passed_over(pipeline, trigger, "running", str(busy).partition(". ")[0] + "."))


def _shown(decision: Decision) -> Decision:
    """Let the list of runs in Prefect say what was decided, and the run why."""
    name = {"promote": "Promoted", "keep": "Kept", "hold": "Held", "skip": "Skipped"}[decision.verdict]
    return cast("Decision", Completed(name=name, message=decision.sentence))  # Prefect takes a state for the run's own


def _pass(spec: Pipeline, trigger: str, observation: Observation) -> Decision:
    pipeline = spec.name
    with claimed(spec, trigger) as cycle:
        left = settle_effects(pipeline) + settle_reports(pipeline) + clear_up(pipeline, tried=cycle.tried) + upkeep(spec)
        sweep_out(cycle)
        cycle = replace(cycle, alias=check_alias(spec))
        recovered = recover(pipeline, cycle.lease)
        draft = _draft(cycle, trigger, observation, left + ((cycle.alias,) if cycle.alias else ()) + _made_good(recovered))
        if cycle.unchanged and not ledger.outstanding(pipeline):
            return _skipped(cycle, draft, f"nothing is new, all {observation.files} files at the source are known")
        return _train(cycle, _take_in(cycle, draft))


def _made_good(recovered: tuple[Arrival, ...]) -> tuple[str, ...]:
    return (f"{len(recovered)} arrivals were settled that a cycle had taken in before it was stopped.",) if recovered else ()


def _draft(cycle: Cycle, trigger: str, observation: Observation, notes: tuple[str, ...]) -> Decision:
    champion = ledger.champion(cycle.spec.name)
    waiting = tuple(f"{look.name} is still being written; it is taken up when it has settled." for look in observation.settling)
    return Decision(
        pipeline=cycle.spec.name,
        cycle=cycle.lease.cycle,
        verdict="skip",
        sentence="",
        trigger=trigger,
        previous=champion.version if champion else None,
        champion=champion.version if champion else None,
        notes=notes + waiting + tuple(f"Ignored {name}." for name in observation.ignored),
        prefect_run=runtime.flow_run.id,
        prefect_url=runtime.flow_run.ui_url,
        registry=cycle.alias,
    )


def _take_in(cycle: Cycle, draft: Decision) -> Decision:
    """Ingest and clean all that is outstanding."""
    for arrivals in outstanding(cycle.lease):
        for batch in batches(arrivals):
            draft = _take_in_batch(cycle, draft, batch)
    compact(cycle.spec.name, cycle.lease)
    return draft


def _take_in_batch(cycle: Cycle, draft: Decision, batch: list[Arrival]) -> Decision:
    """Ingest and clean one batch, and note what came of it."""
    what = batch[0].name if len(batch) == 1 else f"{len(batch)} arrivals"
    staged = ingest(cycle.spec, batch, str(cycle.work / "staged"), what)
    crash.point("ingest.staged")
    cleaned = clean(cycle.spec, cycle.lease, staged, what)
    set_aside = [arrival for arrival in cleaned.arrivals if arrival.state == "quarantined" or arrival.rejected]
    refused = tuple(
        f"{part.name} {'was quarantined' if part.state == 'quarantined' else 'has rows in quarantine'}: {part.reason}" for part in set_aside
    )
    missed = tuple(f"{part.arrival.name} could not be read and is tried again: {part.missed}" for part in staged if part.missed)
    return replace(
        draft,
        arrivals=draft.arrivals + tuple(arrival.name for arrival in cleaned.arrivals),
        accepted=draft.accepted + cleaned.accepted,
        rejected=draft.rejected + cleaned.rejected,
        repeated=draft.repeated + cleaned.repeated,
        notes=draft.notes + refused + missed + tuple(note for part in staged for note in part.notes),
    )


def _train(cycle: Cycle, draft: Decision) -> Decision:
    """Train on the newest version of the lake, if there is enough to train on, and decide."""
    spec = cycle.spec
    new, version = ledger.rows_since_training(spec.name), lake.version(spec.name)
    if version is None:
        return _skipped(cycle, draft, "there is no row to train on yet")
    if cycle.unchanged and new < spec.retrain.min_rows:
        return _skipped(cycle, draft, f"{new:,} rows are new since the last training, fewer than the {spec.retrain.min_rows:,} asked for")
    prepared = feature(spec, version, ledger.champion(spec.name), str(cycle.work))
    draft = replace(draft, snapshot=prepared.snapshot)
    unmet = tuple(rule for rule in preconditions(spec.gate, spec.kind, prepared) if not rule.passed)
    if unmet:
        return _skipped(cycle, draft, "; ".join(rule.sentence for rule in unmet), unmet)
    run = tracking.start(spec.name, f"cycle {cycle.lease.cycle}")
    return challenge(cycle, replace(draft, mlflow_run=run, mlflow_url=tracking.url(run)), prepared, run)


def _skipped(cycle: Cycle, draft: Decision, why: str, rules: tuple[Rule, ...] = ()) -> Decision:
    """End a cycle that trained nothing."""
    in_service = f"Champion {draft.champion} stays" if draft.champion else "There is no champion yet"
    draft = replace(draft, sentence=f"{in_service}. Nothing was trained: {why}.", rules=rules)
    return told(cycle, recorded(cycle, draft))
