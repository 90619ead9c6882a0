"""Probe: load the registered model in a fresh process, as a server does, and hold what it answers against the model that was trained.

Before any promotion: a model that passes every other rule may still not load elsewhere, or answer otherwise there. The process gets the
stored bytes by their digest and a clean environment; golden requests are unseen rows. A crash, a time-out or half an answer is a failed rule
with that reason, and what was not answered passes nothing. It is started before there is a model to ask about, so that it has imported its
libraries by then (`standby`); of the model it learns when it is asked.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import answering, contract, frames, settings
from tasks.answering import Answer, Asked, Columns
from tasks.errors import RatchetError, Unreadable
from tasks.evidence import Probe
from tasks.records import Champion, Fitted, Prepared
from tasks.spec import Pipeline
from tasks.stores import models

GOLDEN = 200  # requests, spread over the unseen rows
SINGLE, TIMED = 25, 40  # of them asked for one by one too, and timed
TIME_LIMIT = 60  # seconds
UNSEEN = "never seen before"
_CHILD = "tasks.rehearsal"
_ROOT = Path(__file__).parents[1]


def golden_places(rows: int, most: int = GOLDEN) -> list[int]:
    """Give the places of at most `most` of `rows` rows, evenly spread, first and last included.

    >>> golden_places(9, 3), golden_places(2, 3), golden_places(0)
    ([0, 4, 8], [0, 1], [])
    """
    return sorted({round(float(place)) for place in np.linspace(0, rows - 1, min(rows, most))}) if rows else []


def edge_rows(pipeline: Pipeline, golden: pl.DataFrame) -> tuple[pl.DataFrame, list[str], list[str]]:
    """Make rows with a value missing or a text never seen, one for each column that is known in time.

    Gives the rows that the contract lets through, the name of what each is, and the names of those that it does not let through.
    """
    known, types = frames.known_in_time(pipeline), contract.dtypes(pipeline.contract)
    edges: list[tuple[str, str, str | None]] = [(f"{name} missing", name, None) for name in known]
    edges += [(f"{name} unseen", name, UNSEEN) for name in known if types[name] == pl.String]
    made = [
        golden[place % golden.height].with_columns(pl.lit(value, dtype=types[column]).alias(column))
        for place, (_, column, value) in enumerate(edges)
    ]
    through = [_lets_through(pipeline, row) for row in made]
    kept = pl.concat([row for row, passes in zip(made, through, strict=True) if passes] or [golden.clear()]).select(known)
    names = [name for name, _, _ in edges]
    return kept, [n for n, p in zip(names, through, strict=True) if p], [n for n, p in zip(names, through, strict=True) if not p]


def _lets_through(pipeline: Pipeline, row: pl.DataFrame) -> bool:
    try:
        return contract.check(row.with_columns(_row=pl.lit(0, dtype=pl.Int64)), pipeline.contract).is_empty()
    except Unreadable:  # a rule about many rows cannot be laid to one
        return False


def trainers_answers(pipeline: Pipeline, expected: Fitted, prepared: Prepared, places: list[int]) -> dict[str, list[Any]]:
    """Give what the trainer's own estimator predicts for some of the unseen rows, from the features that were staged for training."""
    features, _ = frames.read_staged(prepared, prepared.train, prepared.train + prepared.unseen)
    chosen = features.iloc[places].reset_index(drop=True)
    return frames.predictions_of(pipeline, joblib.load(expected.uri), chosen).to_dict(as_series=False)


class Process(subprocess.Popen[bytes]):
    """A fresh process that waits to be asked; its files are in `into`."""

    into: Path


@contextmanager
def standby(into: Path, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Start the process, in a session of its own and with the serving environment, which imports what it needs and waits to be asked.

    At the end of the block it is ended with whatever it has started, asked or not.
    """
    into.mkdir(parents=True, exist_ok=True)
    (into / "answer.jsonl").unlink(missing_ok=True)
    command = [sys.executable, "-m", _CHILD, str(into.absolute())]
    given = dict(settings.serving_environment() if environment is None else environment)
    with (into / "stdout.txt").open("wb") as out, (into / "stderr.txt").open("wb") as err:
        process = Process(command, cwd=_ROOT, env=given, stdin=subprocess.PIPE, stdout=out, stderr=err, start_new_session=True)
    process.into = into
    try:
        yield process
    finally:
        _end(process)


def _end(process: Process) -> int:
    """End a process with whatever it has started; give its exit code."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet, so that the number is still its own
    with suppress(OSError):
        process.stdin.close()  # type: ignore[union-attr]
    return process.wait()


def ask(process: Process, seconds: float) -> str | None:
    """Ask the process what lies in its directory, and wait to its end or to the time limit; give what went wrong, or None."""
    with suppress(OSError):  # of one that has ended its exit code tells
        os.write(process.stdin.fileno(), b"ask\n")  # type: ignore[union-attr]
    ended = _ended(process.pid, time.monotonic() + seconds)
    code = _end(process)
    if not ended:
        return f"it did not end within {seconds:g} seconds and was killed"
    if code < 0:
        return f"it was ended by {signal.Signals(-code).name}"
    return None if code == 0 else f"it ended with exit code {code}{_last_words(process.into / 'stderr.txt')}"


def _ended(pid: int, limit: float) -> bool:
    """Wait until a child has ended, and leave it to be reaped; False if it has not at the limit."""
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > limit:
            return False
        time.sleep(0.005)
    return True


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return f", last it wrote: {lines[-1][-300:]}" if lines else ""


def question(pipeline: Pipeline, golden: pl.DataFrame, prepared: Prepared, expected: Columns) -> tuple[Asked, pl.DataFrame]:
    """Put together what is asked of a model about the golden requests, with the edge rows."""
    edges, names, refused = edge_rows(pipeline, golden)
    asked = Asked(
        expected=expected,
        features=prepared.columns,
        single=golden_places(golden.height, SINGLE),
        shuffled=random.Random(pipeline.seed).sample(range(golden.height), golden.height),  # noqa: S311
        edges=names,
        refused=refused,
    )
    return asked, edges


def examine(pipeline: Pipeline, candidate: Champion, expected: Fitted, prepared: Prepared, process: Process) -> Probe:
    """Probe a registered model (`candidate`) against the one that was trained (`expected`), in a process that stands by.

    Requests, answers and logs are left in its directory. What the model does is never raised: it fails rules.
    """
    started = time.perf_counter()
    asked, answer, size = Asked(features=prepared.columns), Answer(problem="there are no unseen rows to ask it about"), None
    places = golden_places(prepared.unseen)
    if places:
        try:
            size = _megabytes(models.fetch(candidate))
            golden = pl.read_ipc(prepared.raw)[places]
            asked, edges = question(pipeline, golden, prepared, trainers_answers(pipeline, expected, prepared, places))
            answer = rehearsed(candidate, golden.select(frames.known_in_time(pipeline)), edges, asked, process)
        except RatchetError as error:
            answer = Answer(problem=str(error))
        except Exception as error:  # the model's own code may raise anything, and that is what the probe has to tell
            answer = Answer(problem=f"before it was asked, {type(error).__name__} was raised: {error}")
    measured = answer.parts.get("latency", {})
    return Probe(
        rules=answering.rules(pipeline.gate, asked, answer, size),
        requests=len(places),
        p50_ms=measured.get("p50_ms"),
        p99_ms=measured.get("p99_ms"),
        memory_mb=measured.get("memory_mb"),
        load_seconds=answer.parts.get("load", {}).get("seconds"),
        artifact_mb=size,
        seconds=time.perf_counter() - started,
    )


def rehearsed(candidate: Champion, golden: pl.DataFrame, edges: pl.DataFrame, asked: Asked, process: Process) -> Answer:
    """Ask the process, and give what it answered."""
    into = process.into
    golden.write_ipc(into / "requests.arrow")
    edges.write_ipc(into / "edges.arrow")
    request = {
        "candidate": asdict(candidate),
        "single": list(asked.single),
        "shuffled": list(asked.shuffled),
        "timed": golden_places(golden.height, TIMED),
        "seconds": math.ceil(TIME_LIMIT) + 5,
    }
    (into / "request.json").write_text(json.dumps(request))
    problem = ask(process, TIME_LIMIT)
    return answering.read(into / "answer.jsonl", problem)


def _megabytes(directory: Path) -> float:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


@task(name="probe", task_run_name="probe {candidate.candidate} v{candidate.version}", cache_policy=NO_CACHE, persist_result=False)
def probe(pipeline: Pipeline, candidate: Champion, expected: Fitted, prepared: Prepared, process: Process) -> Probe:
    """Probe the registered model before it may serve."""
    return examine(pipeline, candidate, expected, prepared, process)
