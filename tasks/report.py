"""Report: tell a cycle's decision in MLflow and in Prefect, in plain words, with the figures and plots behind it."""

import functools
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from prefect import task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks import plots, wording
from tasks.records import Decision, Evaluation, Fitted, Prepared
from tasks.spec import Pipeline
from tasks.stores import tracking

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


def figures(evaluation: Evaluation | None, fitted: Fitted | None) -> dict[str, float | None]:
    """Flatten scores into metric names: `training_`, `unseen_`, `champion_`, `baseline_<name>_` and `slice_<name>_`, each before the metric."""
    found: dict[str, float | None] = {"fit_seconds": fitted.seconds} if fitted is not None else {}
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


def to_mlflow(pipeline: Pipeline, decision: Decision, prepared: Prepared, fitted: Fitted) -> None:
    """Log parameters, metrics, dataset, plots and the decision itself in the cycle's run, and end it."""
    run = decision.mlflow_run
    if run is None:
        return
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
    tags = {"trigger": decision.trigger, "verdict": decision.verdict, "cycle": str(decision.cycle), **code_version()}
    tags |= {
        "prefect_flow_run": decision.prefect_run or "",
        "prefect_url": decision.prefect_url or "",
        "mlflow.note.content": decision.sentence,
    }
    with tracking.finished(run), tempfile.TemporaryDirectory() as made:
        tracking.log(run, params=params, metrics=figures(decision.evaluation, fitted), tags=tags)
        tracking.log_snapshot(run, pipeline.name, prepared.snapshot)
        if decision.evaluation:
            plots.draw(pipeline.kind, decision.evaluation, pipeline.gate.metric, Path(made))
        (Path(made) / "decision.md").write_text(wording.markdown(decision))
        (Path(made) / "decision.json").write_text(json.dumps(decision.as_dict(), indent=1))
        tracking.log_files(run, Path(made))


def to_prefect(decision: Decision) -> None:
    """Leave the decision as a markdown artifact of the flow run, and a link to the MLflow run."""
    key = decision.pipeline.replace("_", "-").lower()
    create_markdown_artifact(wording.markdown(decision), key=f"{key}-decision", description=decision.sentence)
    if decision.mlflow_url:
        create_link_artifact(decision.mlflow_url, link_text=f"cycle {decision.cycle} in MLflow", key=f"{key}-mlflow-run")


@task(
    name="report", task_run_name="report {decision.verdict}", cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=2
)
def report(pipeline: Pipeline, decision: Decision, prepared: Prepared | None, fitted: Fitted | None) -> None:
    """Tell the decision; a cycle that trained nothing has no run in MLflow."""
    if prepared is not None and fitted is not None:
        to_mlflow(pipeline, decision, prepared, fitted)
    to_prefect(decision)
