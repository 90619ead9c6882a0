"""Report: tell a cycle's decision in MLflow and in Prefect, in plain words, with the figures and plots behind it.

A report is an effect in the outbox, queued with the decision: what a cycle that was killed, or a server that was away, has left untold is
told by the next one. Telling twice changes nothing.
"""

import functools
import hashlib
import json
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import crash, plots, wording
from tasks.errors import Unreachable
from tasks.evidence import Evaluation
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
    """Give what the report of a decision needs beside it: the kind of target, the seconds of the fit, and the parameters of the run."""
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
    return {"kind": pipeline.kind, "seconds": fitted.seconds, "params": {name: str(value) for name, value in params.items()}}


def to_mlflow(decision: Decision, details: Mapping[str, Any]) -> None:
    """Log parameters, metrics, dataset, plots and the decision itself in the cycle's run, and end it; without a run there is nothing to do.

    Raises:
        Unreachable: if MLflow does not take all of it.
    """
    run = decision.mlflow_run
    if run is None:
        return
    tags = {"trigger": decision.trigger, "verdict": decision.verdict, "cycle": str(decision.cycle), **code_version()}
    tags |= {
        "prefect_flow_run": decision.prefect_run or "",
        "prefect_url": decision.prefect_url or "",
        "mlflow.note.content": decision.sentence,
    }
    with tracking.finished(run), tempfile.TemporaryDirectory() as made:
        tracking.log(run, params=details["params"], metrics=figures(decision.evaluation, details["seconds"]), tags=tags)
        if decision.snapshot:
            tracking.log_snapshot(run, decision.pipeline, decision.snapshot)
        if decision.evaluation and Path(decision.evaluation.predictions).exists():  # of a cycle on another machine they are not here
            plots.draw(details["kind"], decision.evaluation, decision.evaluation.metric, Path(made))
        (Path(made) / "decision.md").write_text(wording.markdown(decision))
        (Path(made) / "decision.json").write_text(json.dumps(decision.as_dict(), indent=1))
        tracking.log_files(run, Path(made))


def to_prefect(decision: Decision) -> None:
    """Leave the decision as a markdown artifact of the flow run, and a link to the MLflow run.

    Raises:
        Unreachable: if Prefect does not take them.
    """
    if decision.prefect_run is None:
        return
    key = decision.pipeline.replace("_", "-").lower()
    artifacts.markdown(decision.prefect_run, f"{key}-decision", wording.markdown(decision), decision.sentence)
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
    to_mlflow(decision, effect.payload)
    to_prefect(decision)


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False)
def report(pipeline: str) -> tuple[str, ...]:
    """Tell the decision; a cycle that trained nothing has no run in MLflow."""
    return settle_reports(pipeline)
