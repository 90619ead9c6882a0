"""Report: tell a cycle's decision in MLflow and in Prefect, in plain words, with the figures and plots behind it.

A report is an effect in the outbox, queued with the decision: what a cycle that was killed, or a server that was away, has left untold is
told by the next one. Telling twice changes nothing.
"""

import functools
import hashlib
import json
import logging
import math
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import joblib
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import card, crash, curves, document, frames, page, plots, wording
from tasks.document import Block
from tasks.drift import drift
from tasks.effects import effects
from tasks.errors import Unreachable
from tasks.evidence import Evaluation
from tasks.facts import Facts
from tasks.records import Decision, Fitted, Prepared
from tasks.spec import Pipeline
from tasks.stores import artifacts, ledger, tracking
from tasks.stores.ledger import Effect

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def code_version() -> dict[str, str]:
    """Give the git commit of this checkout, "+" behind it if it was changed since, and the digest of the lock; what is unknown is left out."""
    found = {}
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        commit = subprocess.run([git, "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        changed = subprocess.run([git, "-C", str(ROOT), "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
        if commit.returncode == 0:
            found["git_commit"] = commit.stdout.strip() + ("+" if changed.stdout.strip() else "")
    lock = ROOT / "requirements.lock"
    if lock.exists():
        found["lock_sha256"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return found


def figures(evaluation: Evaluation | None, seconds: float | None) -> dict[str, float | None]:
    """Flatten scores into metric names: `training_`, `unseen_`, `champion_`, `baseline_<name>_` and `slice_<name>_`, each before the metric."""
    found: dict[str, float | None] = {} if seconds is None else {"fit_seconds": seconds}
    if evaluation is None:
        return found
    found |= {f"training_{name}": value for name, value in evaluation.training.items()}
    found |= {f"unseen_{name}": value for name, value in evaluation.challenger.metrics.items()}
    if evaluation.champion:
        found |= {f"champion_{name}": value for name, value in evaluation.champion.metrics.items()}
    for scores in evaluation.baselines:
        found |= {f"baseline_{scores.model}_{name}": value for name, value in scores.metrics.items()}
    for part, metrics in evaluation.challenger.slices.items():
        found |= {f"slice_{_plain(part)}_{name}": value for name, value in metrics.items()}
    return found


def _plain(name: str) -> str:
    """Leave only what MLflow takes in a metric's name."""
    return "".join(character if character.isalnum() or character in "_- " else "_" for character in name)


def details(pipeline: Pipeline, prepared: Prepared, fitted: Fitted) -> dict[str, Any]:
    """Give what the report of a decision needs beside it, as JSON: all that is gone once the cycle's staged files are.

    The kind of target, the seconds of the fit, the parameters of the run, the code, the spread of the target and the drift of the features. The
    model is not asked: it may be what keeps the comparison from ending (see `what_it_goes_by`).
    """
    params = {f"challenger.{name}": value for name, value in fitted.params.items()} | {
        "challenger": fitted.candidate,
        "seed": pipeline.seed,
        "threads": fitted.threads,
        "train_rows": prepared.train,
        "unseen_rows": prepared.unseen,
        "cut": prepared.cut,
        "lake_version": prepared.snapshot.version,
        "snapshot_sha256": prepared.snapshot.digest,
        "gate": pipeline.gate,
    }
    rows = pl.read_ipc(prepared.features)
    before, unseen = rows.head(prepared.train), rows.slice(prepared.train)
    return {
        "kind": pipeline.kind,
        "seconds": fitted.seconds,
        "params": {name: str(value) for name, value in params.items()},
        "code": code_version(),
        "positive": None if pipeline.positive is None else str(pipeline.positive),
        "features": prepared.columns,
        "target": {"name": pipeline.target, "training": spread(pipeline, before["_target"]), "unseen": spread(pipeline, unseen["_target"])},
        "drift": drift(before.drop("_target"), unseen.drop("_target")),
    }


def spread(pipeline: Pipeline, target: pl.Series) -> dict[str, float | None]:
    """Give the share of each label, of the 20 most frequent ones, or the quartiles, mean and ends of a number; what is not finite is None."""
    if pipeline.kind == "binary":
        share = int((target == 1).sum()) / max(1, len(target))
        return {str(pipeline.positive): share, "all others": 1 - share}
    if pipeline.kind == "multiclass":
        counts = target.value_counts(sort=True).head(20)
        return {str(label): count / len(target) for label, count in counts.iter_rows()}
    quartiles = {"least": 0.0, "25 % below": 0.25, "median": 0.5, "75 % below": 0.75, "greatest": 1.0}
    found = {name: target.quantile(part, "linear") for name, part in quartiles.items()} | {"mean": cast("float | None", target.mean())}
    return {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}


def what_it_goes_by(pipeline: Pipeline, prepared: Prepared, fitted: Fitted) -> dict[str, Any]:
    """Give the effects of the features on a model that was compared, for the details of its decision."""
    features, truth = frames.read_staged(prepared, prepared.train, prepared.train + prepared.unseen)
    try:
        found = effects(pipeline, joblib.load(fitted.uri), features, truth.to_numpy(), seed=pipeline.seed)
    except Exception as error:  # whatever the user's estimator raises on shuffled rows, the decision does not rest on this
        return {"effects": [], "effects_problem": f"{type(error).__name__}: {error}"}
    return {"effects": [asdict(effect) for effect in found]}


def facts_of(decision: Decision, details: Mapping[str, Any]) -> Facts:
    """Gather what the report tells: the decision, its details, the champions it is about, and curves if the predictions are at hand."""
    known = {champion.version: champion for champion in ledger.champions(decision.pipeline)}
    served = known.get(decision.champion or 0) if decision.verdict == "promote" else None
    return Facts(decision, details, known.get(decision.previous or 0), served, _curves(decision, details))


def _curves(decision: Decision, details: Mapping[str, Any]) -> tuple[Block, ...]:
    path = staged_predictions(decision)
    return () if path is None else curves.curves(details["kind"], pl.read_ipc(path))


def staged_predictions(decision: Decision) -> Path | None:
    """Give the file of the cycle's predictions, if they can be drawn.

    Of a cycle that has ended, or on another machine, it is not here; what is not finite has no place in a plot.
    """
    path = Path(decision.evaluation.predictions) if decision.evaluation else None
    if path is None or not path.is_file():
        return None
    numbers = pl.scan_ipc(path).select(pl.selectors.float().is_finite().all()).collect()
    return path if all(numbers.row(0)) else None


def to_mlflow(facts: Facts) -> None:
    """Log parameters, metrics, dataset, report, model card, plots and the decision itself in the cycle's run, and end it.

    Without a run there is nothing to do.

    Raises:
        Unreachable: if MLflow does not take all of it.
    """
    decision, details, run = facts.decision, facts.details, facts.decision.mlflow_run
    if run is None:
        return
    code = details.get("code") or code_version()
    tags = {"trigger": decision.trigger, "verdict": decision.verdict, "cycle": str(decision.cycle), **code}
    tags |= {
        "prefect_flow_run": decision.prefect_run or "",
        "prefect_url": decision.prefect_url or "",
        "mlflow.note.content": decision.sentence,
    }
    with tracking.finished(run), tempfile.TemporaryDirectory() as made:
        tracking.log(run, params=details["params"], metrics=figures(decision.evaluation, details["seconds"]), tags=tags)
        if decision.snapshot:
            tracking.log_snapshot(run, decision.pipeline, decision.snapshot)
        write(facts, Path(made))
        tracking.log_files(run, Path(made))


def write(facts: Facts, into: Path) -> None:
    """Write the decision into a directory: as a page, as markdown and as JSON, with the model card, and the plots if predictions are at hand."""
    decision = facts.decision
    if decision.evaluation and staged_predictions(decision):
        plots.draw(facts.details["kind"], decision.evaluation, decision.evaluation.metric, into)
    told = wording.told(facts)
    (into / "report.html").write_text(page.html(told), encoding="utf-8")
    (into / "decision.md").write_text(document.markdown(told), encoding="utf-8")
    (into / "model_card.md").write_text(card.card(facts), encoding="utf-8")
    (into / "decision.json").write_text(json.dumps(decision.as_dict(), indent=1), encoding="utf-8")


def to_prefect(facts: Facts) -> None:
    """Leave the report as a markdown artifact of the flow run, and a link to the MLflow run.

    Raises:
        Unreachable: if Prefect does not take them.
    """
    decision = facts.decision
    if decision.prefect_run is None:
        return
    key = decision.pipeline.replace("_", "-").lower()
    text = document.markdown(wording.told(facts))
    artifacts.markdown(decision.prefect_run, f"{key}-decision", text, decision.sentence)
    if decision.mlflow_url:
        link = f"[cycle {decision.cycle} in MLflow]({decision.mlflow_url})"
        artifacts.markdown(decision.prefect_run, f"{key}-mlflow-run", link, "The run in MLflow")


def settle_reports(pipeline: str) -> tuple[str, ...]:
    """Tell every decision that has not been told yet; say what could not be."""
    left = []
    for effect in ledger.unfinished(pipeline, ("report",)):
        try:
            _tell(effect)
        except Unreachable as error:
            logger.warning("%s", error)
            left.append(f"The report of cycle {effect.cycle} is told later. {error}")
            continue
        crash.point("effect.report")
        ledger.finish(effect)
        crash.point("report.told")
    return tuple(left)


def _tell(effect: Effect) -> None:
    record = ledger.decision(effect.pipeline, effect.cycle)
    if record is None:
        return
    decision = Decision.from_dict(record)
    facts = facts_of(decision, effect.payload)
    to_mlflow(facts)
    to_prefect(facts)


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def report(pipeline: str) -> tuple[str, ...]:
    """Tell the decision; a cycle that trained nothing has no run in MLflow."""
    return settle_reports(pipeline)
