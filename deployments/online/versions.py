"""A version brought into a server: verified by digest, loaded, and tried on its golden rows before it may answer."""

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import admission, settings
from tasks.admission import Admitted
from tasks.errors import ModelRejected, RatchetError
from tasks.records import Champion
from tasks.serving import Answerer, answerer
from tasks.stores import kept

FETCH_LIMIT, LOOK = 300.0, 1.0  # seconds that files may take to come, and after which it is seen whether they are still wanted
SOON = 0.0001  # seconds after which the thread that loads a version gives the interpreter to another
PAUSE, STAND, PATIENCE = 0.0005, 0.02, 1.0  # seconds that it sleeps at a time, stands still for one request, and for all of them
STEP = 0.003  # seconds that it goes on in between
ALONE = 8  # golden rows that are also asked for by themselves


@dataclass(frozen=True)
class Active:
    """A version that may answer: what the ledger says of it, and the model, ready and warm.

    `together` tells whether its answers are the same, to the last bit, whichever rows it is asked about at once.
    """

    champion: Champion
    answerer: Answerer
    golden: pl.DataFrame
    together: bool = False

    @property
    def version(self) -> int:
        """The model's version."""
        return self.champion.version

    def answer(self, rows: Admitted) -> dict[str, NDArray[Any]]:
        """Predict admitted rows."""
        return self.answerer.answer(rows)


class Overtaken(RatchetError):
    """A version that is not wanted any more, before its files had come."""


def bring(champion: Champion, busy: Callable[[], bool] = lambda: False, wanted: Callable[[], bool] = lambda: True) -> Active:
    """Load a version and try it, and stand still for a while whenever the process is `busy` with something else.

    Raises:
        Overtaken: if it is not `wanted` any more while the registry is waited for.
        ModelRejected: if its bytes are others than the ledger's, or it does not load, or does not answer its golden rows with finite figures.
        Unreachable: if there is no local copy, and the registry does not give one.
    """
    patience = Patience(busy)
    with _giving_way(patience):
        kept.prepare_to_load()
        there = kept.verified(champion.sha256) is not None
    if not there:
        _fetch(champion, wanted)
    with _giving_way(patience):
        return _loaded(champion)


@contextmanager
def _giving_way(patience: "Patience") -> Iterator[None]:
    """Let requests go first: whenever this thread calls a function, which it does all the time, it looks whether there are any.

    Threads share one interpreter by turns, and pandas and pyarrow give it away several times a request. What would have to be waited for each
    time is this thread's turn, so that a request takes twice as long while a version is loaded, and some three times.
    """
    before = sys.getswitchinterval(), sys.getprofile()
    sys.setswitchinterval(SOON)
    gc.disable()
    sys.setprofile(patience.wait)
    try:
        yield
    finally:  # what a model is made of stays: to look for garbage among it would hold a request up
        sys.setprofile(before[1])
        gc.freeze()
        gc.enable()
        sys.setswitchinterval(before[0])


class Patience:
    """Waits while something is `busy`: a little at a time, for it may need what this thread holds, and only so long in all, for it may be so always."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        self.busy, self.left, self.again = busy, PATIENCE, 0.0

    def wait(self, *_: Any) -> None:
        """Wait a little."""
        if self.left <= 0 or not self.busy() or (began := time.monotonic()) < self.again:
            return
        while self.busy() and time.monotonic() - began < STAND:
            time.sleep(PAUSE)
        ended = time.monotonic()
        self.left -= ended - began
        self.again = ended + STEP


def _loaded(champion: Champion) -> Active:
    try:
        loaded = kept.load(champion)
        active = _tried(Active(champion, answerer(loaded, loaded.golden), loaded.golden))
    except ModelRejected:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's model raises is why it may not serve
        raise ModelRejected(
            f"Version {champion.version} of {champion.pipeline!r} does not load, or does not answer its golden rows "
            f"({type(error).__name__}: {error}); it does not serve."
        ) from error
    return active


def _tried(active: Active) -> Active:
    """Ask a version about its golden rows, all at once and some by themselves."""
    rows = active.answerer.trial
    if not rows:
        return active
    places = range(min(ALONE, admission.count(rows)))
    whole = active.answer(rows)
    alone = [active.answer({name: values[place : place + 1] for name, values in rows.items()}) for place in places]
    bad = sorted({name for answers in (whole, *alone) for name in undefined(answers)})
    if bad:
        raise ModelRejected(
            f"Version {active.version} of {active.champion.pipeline!r} gives undefined or infinite figures in {bad} for its golden rows; it does not serve."
        )
    alike = all(np.array_equal(whole[name][place : place + 1], alone[place][name]) for name in whole for place in places)
    return replace(active, together=alike)


def undefined(answers: Mapping[str, NDArray[Any]]) -> list[str]:
    """Name the columns of an answer that hold a figure that is not finite.

    >>> undefined({"predicted": np.array([1.0, np.nan]), "p_1": np.array([0.5, 0.5])})
    ['predicted']
    """
    return [name for name, values in answers.items() if values.dtype.kind == "f" and not np.isfinite(values).all()]


def _fetch(champion: Champion, wanted: Callable[[], bool]) -> None:
    """Bring the files into the local copies, in a process of its own: MLflow takes seconds to import, in which nothing would be answered."""
    command = [sys.executable, "-m", "deployments.online.fetching", json.dumps(asdict(champion))]
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as process:
        try:
            _await(process, champion, wanted)
        finally:
            process.kill()  # it puts the files where they belong all at once, or not at all
        said.seek(0)
        last = (said.read().decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
    if process.returncode:
        raise ModelRejected(f"The files of {champion.model_uri} could not be brought: {last[:500]}")


def _await(process: "subprocess.Popen[bytes]", champion: Champion, wanted: Callable[[], bool]) -> None:
    limit = time.monotonic() + FETCH_LIMIT
    while True:
        try:
            process.wait(LOOK)
            return
        except subprocess.TimeoutExpired as error:
            if not wanted():
                raise Overtaken(f"Version {champion.version} is not wanted any more; its files are not waited for.") from error
            if time.monotonic() > limit:
                raise ModelRejected(
                    f"The files of {champion.model_uri} did not come within {FETCH_LIMIT:.0f} s; they are asked for again."
                ) from error


def remember(champion: Champion) -> None:
    """Write down which version served last, so that a server can start with it while nothing else can be reached."""
    path = _memory(champion.pipeline)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(asdict(champion)))
    fresh.replace(path)


def remembered(pipeline: str) -> Champion | None:
    """Give the version that served last on this machine, or None."""
    try:
        return Champion(**json.loads(_memory(pipeline).read_text()))
    except (OSError, ValueError, TypeError):  # not there, or of another version of this file
        return None


def _memory(pipeline: str) -> Path:
    return settings.read().serving / pipeline / "champion.json"


def explained(error: RatchetError | OSError) -> str:
    """Give an error in one line."""
    return " ".join(str(error).split())
