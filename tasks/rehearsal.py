"""Rehearsal: what the serving probe's fresh process does. It loads a stored model as a server does and answers; it judges nothing.

Run as `python -m tasks.rehearsal DIRECTORY`. It imports what it needs and waits for a line on its standard input. The directory then holds
`request.json`, the golden requests in `requests.arrow` and the edge rows in `edges.arrow`; each part of the answer is a line of JSON in
`answer.jsonl`, written as soon as it is known, so that of a process that dies halfway it is known how far it came. No server's address is needed,
and neither Prefect nor MLflow is imported.
"""

import gc
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tasks import admission, serving
from tasks.records import Champion
from tasks.serving import Answerer
from tasks.stores import kept

PARTS = ("load", "all", "single", "shuffled", "edges", "latency")
ROUNDS = 5
WARM_UP = 20
LONGEST = 10.0  # seconds of measuring; of a slow model fewer requests are timed
FEWEST = 5
LOOK = 5.0  # seconds between two looks whether the one who may ask is still there


def answers(ready: Answerer, rows: pl.DataFrame) -> dict[str, list[Any]]:
    """Give the predictions of raw rows, by column, as JSON has them."""
    given = ready.answer(admission.arrays(serving.typed(rows, ready.model.pipeline)))
    return {name: values.tolist() for name, values in given.items()}


def one_by_one(ready: Answerer, rows: pl.DataFrame) -> list[dict[str, list[Any]]]:
    """Give the predictions of each row asked for by itself."""
    return [answers(ready, rows[place : place + 1]) for place in range(rows.height)]


def each(ready: Answerer, rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Give of each row asked for by itself the predictions, or the error that it raised."""
    found: list[dict[str, Any]] = []
    for place in range(rows.height):
        try:
            found.append({"answer": answers(ready, rows[place : place + 1])})
        except Exception as error:  # whatever the user's model raises is its answer to that row
            found.append({"error": f"{type(error).__name__}: {error}"})
    return found


def latency(ready: Answerer, rows: pl.DataFrame) -> dict[str, Any]:
    """Time one-row requests, after a warm-up: `p50_ms` and `p99_ms` over these different requests, `timed` requests in all.

    Every request is asked in five rounds and counts with the fastest of its times, without what it waited for a processor, so that the
    figures are those of the model and not of what else the machine does. Garbage is collected before, and not meanwhile.
    """
    requests = [_request(rows[place : place + 1]) for place in range(rows.height)]
    started = time.perf_counter()
    for number in range(WARM_UP):
        _answer(ready, requests[number % len(requests)])
    each_takes = (time.perf_counter() - started) / WARM_UP
    fitting = min(len(requests), max(FEWEST, int(LONGEST / ROUNDS / each_takes)))
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with _waiting() as waited:
            taken = [[_taken(ready, request, waited) for request in requests[:fitting]] for _ in range(ROUNDS)]
    finally:
        gc.enable()
        gc.unfreeze()
    fastest = np.array(taken).min(axis=0) / 1e6
    return {"p50_ms": float(np.percentile(fastest, 50)), "p99_ms": float(np.percentile(fastest, 99)), "timed": ROUNDS * fitting}


def _request(row: pl.DataFrame) -> dict[str, list[Any]]:
    """Write a row as a request in JSON has it."""
    return {name: [value.isoformat() if isinstance(value, date) else value for value in row[name].to_list()] for name in row.columns}


def _answer(ready: Answerer, request: Mapping[str, list[Any]]) -> None:
    ready.answer(ready.admission.admit(request))


def _taken(ready: Answerer, request: Mapping[str, list[Any]], waited: Callable[[], int]) -> int:
    """Give the nanoseconds of a request; the wait is read inside of them, so that never more is taken off than was waited."""
    started = time.perf_counter_ns()
    before = waited()
    _answer(ready, request)
    after = waited()
    return time.perf_counter_ns() - started - (after - before)


@contextmanager
def _waiting() -> Iterator[Callable[[], int]]:
    """Give what reads the nanoseconds that this thread was ready to run and waited for a processor; 0 where the kernel does not tell."""
    try:
        statistics = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:  # only Linux tells
        yield lambda: 0
        return
    try:
        yield lambda: int(os.pread(statistics, 100, 0).split()[1])
    finally:
        os.close(statistics)


def peak_memory() -> float:
    """Give the most memory that this process has had resident, in MB of 1,000,000 bytes."""
    with suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS counts bytes


def rehearse(directory: Path, tell: Callable[[str, Any], None]) -> None:
    """Load the model that `request.json` names, give it the requests, and tell each part of the answer; whatever it raises is raised."""
    request = json.loads((directory / "request.json").read_text())
    signal.alarm(request["seconds"])  # should nobody be left to end this process
    rows, edges = pl.read_ipc(directory / "requests.arrow"), pl.read_ipc(directory / "edges.arrow")
    started = time.perf_counter()
    model = kept.load(Champion(**request["candidate"]))
    ready = serving.answerer(model, model.golden)
    tell("load", {"seconds": time.perf_counter() - started, "columns": dict(model.columns)})
    tell("all", answers(ready, rows))
    tell("single", one_by_one(ready, rows[request["single"]]))
    tell("shuffled", answers(ready, rows[request["shuffled"]]))
    tell("edges", each(ready, edges))
    tell("latency", {**latency(ready, rows[request["timed"]]), "memory_mb": peak_memory()})


def asked() -> bool:
    """Wait for the question; False once nobody is left to ask it, whoever else holds the other end of the pipe open."""
    parent = os.getppid()
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], LOOK)[0]:
            return bool(sys.stdin.readline())
    return False


def main(words: Sequence[str]) -> int:
    """Get ready, and once it is asked rehearse in the directory that is named; what stops it is the last line of the answer."""
    directory = Path(words[0])
    with (directory / "answer.jsonl").open("w") as answer:

        def tell(part: str, value: Any) -> None:
            answer.write(json.dumps({"part": part, "value": value}) + "\n")
            answer.flush()

        try:
            kept.prepare_to_load()
            if not asked():
                raise EOFError("nobody was left to ask it")
            rehearse(directory, tell)
        except Exception as error:  # a user's model may raise anything; it is for the probe to say what that means
            tell("error", f"{type(error).__name__}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # a server does not end; what a library does at exit is none of the probe's business
