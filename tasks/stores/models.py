"""The model registry: models are written in skops and verified by digest before every load. One of the two importers of mlflow.

A model is a directory: `MLmodel`, the fitted estimator in `model.skops`, and `pipeline.py`, the definition it was made with, whose
`features` is what the model is served with ever after. Its digest is in the ledger; a directory of another digest is never loaded.
`mlflow.pyfunc.load_model` works too: it takes the features instead of the raw rows, and checks no digest.
"""

import functools
import importlib
import importlib.metadata
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from tasks import crash, settings
from tasks.errors import ModelRejected
from tasks.records import Champion, Registered
from tasks.stores import kept, tracking
from tasks.stores.kept import Loaded, digest

ALIAS = "champion"
STATUS = "status"  # of a version: new, promoted or orphan
SIGNATURE_ROWS = 1000
REQUIREMENTS = ("scikit-learn", "numpy", "pandas", "scipy", "skops")
# What scikit-learn's own models need that skops does not trust by itself; a list at hand saves writing the model once only to ask.
USUAL = (
    "numpy.dtype",
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.compose._column_transformer._RemainderColsList",
)


def preload() -> None:
    """Import what storing and loading a model needs, for a process that others are forked from."""
    for module in ("mlflow.artifacts", "mlflow.entities", "mlflow.models", "mlflow.sklearn", "skops.io"):
        importlib.import_module(module)


def register(
    pipeline: str,
    estimator: Any,
    definition: Path,
    examples: pd.DataFrame,
    *,
    run: str,
    tags: Mapping[str, str],
    golden: pl.DataFrame | None = None,
) -> Registered:
    """Log a fitted estimator as a model of `run`, register it as a new version, and keep the verified copy that was stored.

    `examples` are features; at most the first 1,000 make the signature. `golden` are raw rows to try the model on before it serves.

    Raises:
        ModelRejected: if the estimator has types that may not be loaded, or what was stored is not what was written.
        Unreachable: if MLflow does not do it; a version that it may have made all the same is marked as an orphan by the next cycle.
    """
    with tempfile.TemporaryDirectory() as made, tracking.reached(f"register a model of {pipeline!r}"):
        directory = Path(made) / "model"
        model_id = _write(pipeline, estimator, definition, examples, run, directory, golden)
        written = digest(directory)
        client = tracking.client()
        client.log_model_artifacts(model_id, str(directory))
        client.finalize_logged_model(model_id, _ready())
        uri = f"models:/{model_id}"
        _fetch(uri, written)
        crash.point("promote.stored")
        _ensure_registered(pipeline)
        version = client.create_model_version(
            pipeline, uri, run_id=run, tags={**tags, "sha256": written, STATUS: "new"}, model_id=model_id, await_creation_for=0
        )
    return Registered(version=int(version.version), model_uri=uri, sha256=written)


def _write(
    pipeline: str, estimator: Any, definition: Path, examples: pd.DataFrame, run: str, directory: Path, golden: pl.DataFrame | None
) -> str:
    """Write the model's directory and give the id of the logged model that was opened for it."""
    logged = tracking.client().create_logged_model(tracking.experiment(pipeline), name=pipeline, source_run_id=run)
    save(estimator, definition, examples, directory, run=run, model_id=logged.model_id, golden=golden)
    return str(logged.model_id)


def save(
    estimator: Any,
    definition: Path,
    examples: pd.DataFrame,
    directory: Path,
    *,
    run: str | None = None,
    model_id: str | None = None,
    golden: pl.DataFrame | None = None,
) -> None:
    """Write a model's directory: what a registered model consists of.

    Raises:
        ModelRejected: if the estimator has types that may not be loaded.
    """
    import mlflow.sklearn
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, infer_signature

    head = examples.head(SIGNATURE_ROWS)
    write = functools.partial(
        mlflow.sklearn.save_model,
        estimator,
        str(directory),
        mlflow_model=Model(run_id=run, model_id=model_id),
        serialization_format="skops",
        signature=infer_signature(head, estimator.predict(head)),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
    )
    try:
        write(skops_trusted_types=list(USUAL))
    except MlflowException:  # MLflow reads back what it wrote, and refuses types that are not in the list
        shutil.rmtree(directory, ignore_errors=True)
        write(skops_trusted_types=kept.types_of(estimator))
    shutil.copyfile(definition, directory / "pipeline.py")
    if golden is not None:
        golden.write_ipc(directory / "golden.arrow")


def _ready() -> Any:
    from mlflow.entities import LoggedModelStatus

    return LoggedModelStatus.READY


def _ensure_registered(pipeline: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        tracking.client().create_registered_model(pipeline)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def point(pipeline: str, version: int) -> None:
    """Point the registry's `champion` alias to a version and mark that version as one that served; doing so twice changes nothing.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    with tracking.reached(f"move the alias {ALIAS!r} of {pipeline!r} to version {version} (it is moved later, the ledger's word holds)"):
        tracking.client().set_registered_model_alias(pipeline, ALIAS, str(version))
        tracking.client().set_model_version_tag(pipeline, str(version), STATUS, "promoted")


def retire(pipeline: str, served: Collection[int]) -> tuple[int, ...]:
    """Mark the new versions that are none of those that `served` as orphans, and give them.

    They are left by a cycle that was stopped between registry and ledger, or by a reply that was lost and asked for again.

    Raises:
        Unreachable: if MLflow does not do it.
    """
    with tracking.reached(f"mark the versions of {pipeline!r} that never served (they are marked later)"):
        found = tracking.client().search_model_versions(f"name = '{pipeline}' and tags.{STATUS} = 'new'")
        orphans = tuple(sorted(int(version.version) for version in found if int(version.version) not in served))
        for version in orphans:
            tracking.client().set_model_version_tag(pipeline, str(version), STATUS, "orphan")
    return orphans


def pointed(pipeline: str) -> int | None:
    """Give the version that the registry's `champion` alias points to, or None.

    Raises:
        Unreachable: if MLflow does not say.
    """
    from mlflow.exceptions import MlflowException

    with tracking.reached(f"tell where the alias {ALIAS!r} of {pipeline!r} points"):
        try:
            return int(tracking.client().get_model_version_by_alias(pipeline, ALIAS).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def exists(pipeline: str, version: int) -> bool:
    """Tell whether the registry still has a version.

    Raises:
        Unreachable: if MLflow does not say.
    """
    from mlflow.exceptions import MlflowException

    with tracking.reached(f"tell of version {version} of {pipeline!r}"):
        try:
            return bool(tracking.client().get_model_version(pipeline, str(version)).status == "READY")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise


def load(champion: Champion) -> Loaded:
    """Load a champion, from the local copy or else from the registry, after its bytes were held against the ledger's digest.

    Raises:
        ModelRejected: if the bytes are not those of the ledger, or hold what may not or cannot be loaded.
        Unreachable: if there is no local copy, and MLflow does not give one.
    """
    return kept.read(champion, fetch(champion))


def fetch(champion: Champion) -> Path:
    """Give the directory of the verified local copy of a model, downloading it where there is none or where it was changed.

    Raises:
        ModelRejected: if the registry's bytes are not those of the ledger.
        Unreachable: if MLflow does not give them.
    """
    return _fetch(champion.model_uri, champion.sha256)


def _fetch(uri: str, wanted: str) -> Path:
    found = kept.verified(wanted)
    if found is not None:
        return found
    place = kept.place(wanted)
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as landing:
        path = Path(_download(uri, landing))
        brought = digest(path)
        if brought != wanted:
            raise ModelRejected(
                f"The files of {uri} have digest {brought}; the ledger has {wanted}. They were changed after the decision and are not loaded."
            )
        path.rename(place)
    return place


def _download(uri: str, into: str) -> str:
    import mlflow.artifacts

    with tracking.reached(f"give the files of {uri}"):
        return str(mlflow.artifacts.download_artifacts(uri, dst_path=into, tracking_uri=settings.read().mlflow_tracking_uri))
