"""Replies: predictions with their ids and the version that made them, and problems with what is wrong and where."""

import io
import os
import time
from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import orjson
import polars as pl
from numpy.typing import NDArray
from starlette.responses import Response

from deployments.online.bodies import ARROW, CSV, JSON
from deployments.online.versions import Active
from tasks.admission import Fault

Answers = Mapping[str, NDArray[Any]]


def request_id() -> str:
    """Make the id of a request: its moment in milliseconds as 12 hexadecimal digits, so that ids sort by time, and 16 random ones."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"


def predictions(active: Active, request: str, answers: Answers, wanted: str) -> Response:
    """Give the predictions of a request in the form that is `wanted` (what it says it accepts), JSON where nothing else fits."""
    headers = {"x-model-version": str(active.version), "x-request-id": request}
    for kind, write in ((ARROW, _arrow), (CSV, _csv)):
        if kind in wanted:
            return Response(write(_table(active, request, answers)), media_type=kind, headers=headers)
    return Response(_json(active, request, answers), media_type=JSON, headers=headers)


def _json(active: Active, request: str, answers: Answers) -> bytes:
    names, columns = ["id", *answers], [values.tolist() for values in answers.values()]
    ids = [f"{request}-{place}" for place in range(len(columns[0]))]
    rows = zip(ids, *columns, strict=True)
    made = list(map(dict, map(zip, repeat(names), rows)))  # for a hundred, a loop takes half as long again
    told = {"pipeline": active.champion.pipeline, "version": active.version, "decision": active.champion.cycle, "request": request}
    return orjson.dumps({**told, "predictions": made})


def _table(active: Active, request: str, answers: Answers) -> pl.DataFrame:
    frame = pl.DataFrame({name: values.tolist() for name, values in answers.items()})
    ids = pl.Series("id", [f"{request}-{place}" for place in range(frame.height)])
    return frame.select(ids, pl.all(), pl.lit(active.version).alias("version"), pl.lit(active.champion.cycle).alias("decision"))


def _arrow(table: pl.DataFrame) -> bytes:
    made = io.BytesIO()
    table.write_ipc_stream(made)
    return made.getvalue()


def _csv(table: pl.DataFrame) -> str:
    return table.write_csv()


def problem(status: int, code: str, message: str, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None) -> Response:
    """Say what is wrong: {"error": {"code", "message", "faults": [{"row", "column", "rule", "value"}]}}."""
    listed = [{"row": fault.row, "column": fault.column, "rule": fault.rule, "value": fault.value} for fault in faults]
    body = {"error": {"code": code, "message": message, "faults": listed}}
    return Response(orjson.dumps(body), status_code=status, media_type=JSON, headers=dict(headers or {}))
