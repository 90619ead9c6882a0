"""What the log of predictions costs a server: leaving an answer with it, and bringing it to disk and to the lake, against writing a line of JSON."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.cycle import fresh_home
from tests.benchmarks.measure import Cost, block, median, tell

NEVER = 3600.0


def logged(runs: int, rows: int) -> None:
    """CPU a row of `add`, of the spool and of the commit, for requests of one row and of a hundred."""
    os.environ["RATCHET_PIPELINES"] = str(Path(__file__).parent / "pipelines")
    _ours(_requests(10, 1))  # the first has the imports
    for each in (1, 100):
        ours, floors = [], []
        for _ in range(runs):
            requests = _requests(rows // each, each)
            ours.append(_ours(requests))
            floors.append(block(lambda requests=requests: _json(requests)))  # type: ignore[misc]
        floor, what = median(floors).cpu / rows * 1e6, f"of {each} row{'s' if each > 1 else ''}, CPU a row"
        steps = ("leave an answer with the log", "  bring it to disk", "  bring it to the lake")
        for step, costs, target in zip(steps, zip(*ours, strict=True), (0.5, 1.0, 1.0), strict=True):
            note = "floor: json.dumps and write" if step == steps[0] else ""
            tell(f"{step} {what}", runs, median(costs).cpu / rows * 1e6, floor, target, "µs", note=note)


def _requests(count: int, rows: int) -> list[Any]:
    """Make requests about rows of the big pipeline: eleven columns, and a probability."""
    from tasks.served import Served

    random = np.random.default_rng(0)
    numbers = {f"x{place}": random.uniform(-3, 3, rows).tolist() for place in range(9)}
    columns = {"at": [f"2026-01-01T00:00:{row % 60:02d}" for row in range(rows)], **numbers, "kind": ["a"] * rows}
    answers = {"predicted": [1] * rows, "p_1": random.uniform(0, 1, rows).tolist()}
    return [Served(f"{number:028x}", 1_790_000_000.0, 1, 1, "champion", columns, answers) for number in range(count)]


def _ours(requests: list[Any]) -> tuple[Cost, Cost, Cost]:
    """Log the requests in a home of their own; give what it took to leave them, to bring them to disk, and to bring them to the lake."""
    from flows import pipelines
    from tasks.predictions import Limits, PredictionLog

    def leave() -> None:
        for request in requests:
            log.add(request)

    with fresh_home():
        log = PredictionLog(pipelines.get("big"), "bench", Limits(rows=1 << 40, drain=NEVER, commit=NEVER, patience=NEVER))
        costs = block(leave), block(log._drain), block(log.close)
        if log.counts != (0, sum(request.count for request in requests), 0):
            raise RuntimeError(f"rows were lost: {log.counts}")
        return costs


def _json(requests: list[Any]) -> None:
    with fresh_home() as home, (home / "log.jsonl").open("w") as file:
        for request in requests:
            file.write(
                json.dumps(
                    {
                        "request": request.request,
                        "moment": request.moment,
                        "version": request.version,
                        "rows": request.rows,
                        **request.answers,
                    }
                )
                + "\n"
            )
        file.flush()
        os.fsync(file.fileno())
