"""The verified local copies of models: told by digest, read without unpickling and without a server. The only importer of skops.

A model is a directory: `MLmodel`, the fitted estimator in `model.skops`, `pipeline.py`, the definition it was made with, and in `golden.arrow`
a few rows that it can be tried on (none where the definition has private columns). The definition
is imported under a name of its own, and what the estimator has of it (a transformer of the user's, say) is taken from that same text.
"""

import hashlib
import importlib
import importlib.util
import io
import json
import sys
import threading
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pandas as pd
import polars as pl
import yaml

from tasks import settings
from tasks.errors import ModelRejected
from tasks.records import Champion
from tasks.spec import Pipeline

DEFINITIONS = "flows.pipelines."  # the package that users' files are imported in
# Modules whose types a model file may name: loading one builds such objects, and runs nothing else.
TRUSTED = ("builtins.", "collections.", "numpy.", "scipy.", "sklearn.", "pandas.", DEFINITIONS)
_DTYPES = {"double": "float64", "string": "str"}  # of a signature, as features have them
_IMPORTING = threading.RLock()


@dataclass(frozen=True)
class Loaded:
    """A verified model with the definition that it was made with: all that a server needs. `columns` are its features and their dtypes.

    `golden` are raw rows, without target and hindsight, to try it on before it serves; none where it was stored without.
    """

    estimator: Any
    pipeline: Pipeline
    columns: Mapping[str, str]
    golden: pl.DataFrame = field(default_factory=pl.DataFrame)

    @property
    def features(self) -> Callable[[pd.DataFrame], pd.DataFrame]:
        """The `features` that the model was trained with."""
        return self.pipeline.features


def digest(directory: Path) -> str:
    """Give the SHA-256 over the names and contents of all files of a model, without the one that MLflow adds on download.

    >>> import tempfile
    >>> empty = Path(tempfile.mkdtemp())
    >>> digest(empty)[:8]
    'e3b0c442'
    """
    total = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.name != "registered_model_meta"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(directory).as_posix()}:{content}\n".encode())
    return total.hexdigest()


def place(sha256: str) -> Path:
    """Give the directory where the copy of that digest is, or would be."""
    return settings.read().models / sha256


def verified(sha256: str) -> Path | None:
    """Give the copy of that digest, or None where there is none or its bytes are others by now."""
    kept = place(sha256)
    return kept if kept.is_dir() and digest(kept) == sha256 else None


def load(champion: Champion) -> Loaded:
    """Load a model from its local copy alone, after its bytes were held against the digest.

    Raises:
        ModelRejected: if there is no such copy, its bytes are others, or it holds what may not or cannot be loaded.
    """
    kept = verified(champion.sha256)
    if kept is None:
        raise ModelRejected(
            f"{place(champion.sha256)} is not there, or its files are not those of digest {champion.sha256}. It is not loaded; "
            f"the next load from the registry brings it anew."
        )
    return read(champion, kept)


def read(champion: Champion, directory: Path) -> Loaded:
    """Read a verified model's directory.

    Raises:
        ModelRejected: if it holds types that may not be loaded, or cannot be read.
    """
    module = _definition(champion, directory / "pipeline.py")
    return Loaded(
        estimator=_estimator((directory / "model.skops").read_bytes(), f"{DEFINITIONS}{champion.pipeline}", module.__name__),
        pipeline=module.PIPELINE,
        columns=signature(directory / "MLmodel"),
        golden=_golden(directory / "golden.arrow"),
    )


def _golden(path: Path) -> pl.DataFrame:
    return pl.read_ipc(path) if path.exists() else pl.DataFrame()


def allowed(types: list[str]) -> list[str]:
    """Give the types that a model file names, if all of them may be loaded.

    Raises:
        ModelRejected: if one may not.
    """
    foreign = [name for name in types if not name.startswith(TRUSTED)]
    if foreign:
        raise ModelRejected(
            f"The model has types that may not be loaded: {foreign}. Use estimators of scikit-learn, or classes of the pipeline's own file."
        )
    return types


def prepare_to_load() -> None:
    """Import what loading a model needs, for a process in which the first load is not to wait for that."""
    importlib.import_module("skops.io")


def types_of(estimator: Any) -> list[str]:
    """Name the types of an estimator that skops does not trust by itself.

    Raises:
        ModelRejected: if one of them may not be loaded.
    """
    import skops.io

    return allowed(skops.io.get_untrusted_types(data=skops.io.dumps(estimator)))


def signature(path: Path) -> dict[str, str]:
    """Read the features and their dtypes from a model's `MLmodel` file.

    Raises:
        ModelRejected: if it has no signature, or one of other types than features have.
    """
    try:
        inputs = json.loads(yaml.safe_load(path.read_text())["signature"]["inputs"])
        return {column["name"]: _DTYPES[column["type"]] for column in inputs}
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ModelRejected(
            f"{path} has no signature of float and text columns ({type(error).__name__}: {error}); the model is not loaded."
        ) from error


def _estimator(data: bytes, own: str, instead: str) -> Any:
    """Load an estimator; what it names of module `own` is taken from module `instead`."""
    import skops.io

    types = allowed(skops.io.get_untrusted_types(data=data))
    if any(name.startswith(f"{own}.") for name in types):
        data = _renamed(data, own, instead)
        types = allowed(skops.io.get_untrusted_types(data=data))
    try:
        return skops.io.loads(data, trusted=types)
    except (ImportError, AttributeError) as error:
        raise ModelRejected(
            f"The model names something that is not there ({type(error).__name__}: {error}). Only the pipeline's own file travels with "
            f"a model: define what it needs in that file, or install it where models are served."
        ) from error


def _renamed(data: bytes, own: str, instead: str) -> bytes:
    """Write another module's name into the file's schema, wherever it names `own`."""

    def rename(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "__module__": instead} if part.get("__module__") == own else part

    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == "schema.json":
                content = json.dumps(json.loads(content, object_hook=rename)).encode()
            target.writestr(entry, content)
    return made.getvalue()


def _definition(champion: Champion, source: Path) -> ModuleType:
    """Import the definition that came with the model under a name of its own; its bytes are covered by the model's digest."""
    name = f"{DEFINITIONS}_of_{champion.pipeline}_{champion.sha256[:16]}"
    with _IMPORTING:
        if name not in sys.modules:
            _import(name, source)
        return sys.modules[name]


class _TextAlone(SourceFileLoader):
    """Import a text as it is: no byte code is read from beside it, and none written there, where it would change the model's digest."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import(name: str, source: Path) -> None:
    loader = _TextAlone(name, str(source))
    module = sys.modules[name] = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(source)))
    try:
        loader.exec_module(module)
        if not isinstance(getattr(module, "PIPELINE", None), Pipeline):
            raise ModelRejected(f"{source} defines no PIPELINE of tasks.spec; the model is not loaded.")
    except BaseException as error:  # half a module must not be taken for a whole one by the next load
        del sys.modules[name]
        if isinstance(error, ModelRejected) or not isinstance(error, Exception):
            raise
        raise ModelRejected(
            f"The definition that came with the model does not import ({type(error).__name__}: {error}); it is not loaded. Whatever that file "
            f"imports has to be installed where models are served."
        ) from error
