"""Pipelines by name: the files in this directory and in every directory that RATCHET_PIPELINES names.

A user's file is imported as a module of this package, so that what it defines has one identity wherever it is loaded.
"""

import difflib
import hashlib
import importlib
import inspect
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tasks import settings
from tasks.errors import BadSetting, BrokenPipeline, UnknownPipeline

if TYPE_CHECKING:
    from tasks.spec import Pipeline

_SHIPPED = Path(__file__).parent
_READ: dict[str, tuple[str, str]] = {}  # of each imported module its file and that file's digest


def names() -> tuple[str, ...]:
    """Name the pipelines that there are, without importing any.

    Raises:
        BrokenPipeline: if two files have the same name.
        BadSetting: if RATCHET_PIPELINES names something that is no directory.
    """
    return tuple(sorted(_files()))


def path(name: str) -> Path:
    """Give the file of a pipeline.

    Raises:
        UnknownPipeline: if there is none of that name.
    """
    known = _files()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        guess = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownPipeline(
            f"There is no pipeline {name!r}.{guess} Known are: {', '.join(sorted(known)) or 'none'}. "
            f"Put a file {name}.py into a directory that RATCHET_PIPELINES names."
        )
    return known[name]


def digest(name: str) -> str:
    """Give the SHA-256 of a pipeline's file, without importing it."""
    return hashlib.sha256(path(name).read_bytes()).hexdigest()


def get(name: str) -> "Pipeline":
    """Import a pipeline.

    Raises:
        UnknownPipeline: if there is none of that name.
        BrokenPipeline: if its file does not import, defines no PIPELINE of that name, or its gate asks for what there is not.
    """
    from tasks.against import beyond_reach, misnamed
    from tasks.spec import Pipeline

    file = path(name)
    found = getattr(_imported(name, file), "PIPELINE", None)
    if not isinstance(found, Pipeline):
        raise BrokenPipeline(
            f"{file} defines no PIPELINE; expected `PIPELINE = Pipeline(name={name!r}, ...)` with the Pipeline of tasks.spec."
        )
    if found.name != name:
        raise BrokenPipeline(f"{file} defines a pipeline named {found.name!r}; name it {name!r}, like its file.")
    if (wrong := misnamed(found.gate, found.kind) or beyond_reach(found.gate, found.kind)) is not None:
        raise BrokenPipeline(f"{file}: {wrong}.")
    return found


def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for directory in _directories():
        for file in sorted(directory.glob("*.py")):
            if file.stem.startswith("_"):
                continue
            if file.stem in found:
                raise BrokenPipeline(f"Two files define the pipeline {file.stem!r}: {found[file.stem]} and {file}. Rename one.")
            found[file.stem] = file
    return found


def _directories() -> list[Path]:
    """Give the directories of pipelines, and let modules of this package be found in all of them."""
    own = [directory for directory in settings.read().pipelines if directory != _SHIPPED]
    absent = [str(directory) for directory in own if not directory.is_dir()]
    if absent:
        raise BadSetting(f"RATCHET_PIPELINES names {absent}, which is no directory. Correct it or unset it.")
    directories = [_SHIPPED, *own]
    __path__[:] = [str(directory) for directory in directories]
    return directories


def _imported(name: str, file: Path) -> ModuleType:
    module = f"{__name__}.{name}"
    loaded, read = sys.modules.get(module), hashlib.sha256(file.read_bytes()).hexdigest()
    if loaded is not None and _READ.get(module) != (str(file), read):  # edited since, or in another directory
        del sys.modules[module]
    _READ[module] = (str(file), read)
    try:
        importlib.invalidate_caches()
        return importlib.import_module(module)
    except Exception as error:  # whatever a user's file raises is that file's fault, and is told as such
        raise BrokenPipeline(f"{file} does not import{_place(error, file)}: {type(error).__name__}: {error}.{_advice(error)}") from error


def _place(error: BaseException, file: Path) -> str:
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    return f" (line {lines[-1]})" if lines else ""


def _advice(error: BaseException) -> str:
    """For a key that does not exist, list those that do."""
    unknown = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if unknown is None:
        return " Correct the file; `ratchet check` tells when it is right."
    from tasks import spec

    keys = list(inspect.signature(getattr(spec, unknown[1])).parameters)
    near = difflib.get_close_matches(unknown[2], keys, n=1)
    return f" {unknown[1]} has no key {unknown[2]!r}{f', did you mean {near[0]!r}' if near else ''}; it takes: {', '.join(keys)}."
