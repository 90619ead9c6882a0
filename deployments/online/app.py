"""The API itself: `POST /v1/predict`, `GET /v1/model`, `/healthz`, `/readyz`, `/metrics`, `/docs`."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from deployments.online import bodies, meters, replies, schema
from deployments.online.bodies import Late, TooMuch, Unsupported
from deployments.online.guard import Guard, Tokens
from deployments.online.service import Asked, Outcome, Service, Undefined, admitted, failure
from tasks import settings
from tasks.admission import Admission, Admitted, Refused, count
from tasks.errors import BrokenPipeline
from tasks.services import Serving
from tasks.spec import Pipeline

logger = logging.getLogger("ratchet.serve")


def create(name: str, spec: Pipeline | None, url: str, required: bool) -> Guard:
    """Make the application of one pipeline, reached at `url`; tokens are `required` off loopback, and asked for wherever there are some.

    Without a `spec`, where the pipeline's file cannot be used, the champion is served with the usual limits.
    """
    service = Service(name, spec, url)
    tokens = Tokens(settings.read().tokens)
    tokens.names()  # a file that cannot be used ends the server here, and not its first request
    app = FastAPIOffline(title=f"Ratchet: {name}", version="1", redoc_url=None, lifespan=_living(service))
    app.state.service = service
    _add_routes(app, service, lambda request: _may_know(request, tokens, required))

    def described() -> dict[str, Any]:
        return schema.describe(plain(), name, service.follower.current, service.limits.private, required or tokens.asked_for)

    plain, app.openapi = app.openapi, described  # type: ignore[method-assign]
    return Guard(app, tokens, service.limits.concurrency, required)


def _living(service: Service) -> Any:
    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(service.start)
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(service.stop)

    return living


def _add_routes(app: FastAPI, service: Service, may_know: Callable[[Request], bool]) -> None:
    async def predict(request: Request) -> Response:
        return await answered(service, request)

    async def unknown(_: Request, error: HTTPException) -> Response:
        return replies.problem(error.status_code, "http", str(error.detail), headers=error.headers)

    app.add_route("/v1/predict", predict, methods=["POST"], include_in_schema=False)
    app.add_exception_handler(HTTPException, unknown)  # type: ignore[arg-type]

    @app.get("/v1/model", responses=schema.problems())  # type: ignore[arg-type]
    async def model() -> JSONResponse:
        """Say which version answers, since when and why, and what it was trained on."""
        return JSONResponse(service.model(), status_code=200 if service.follower.current else 503)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Say that the process lives."""
        return {"status": "alive"}

    @app.get("/readyz", responses={503: {"description": "No version answers."}})
    async def readyz(request: Request) -> JSONResponse:
        """Say whether predictions are answered, and to those who may ask for them what is the matter otherwise."""
        found = service.state()
        told = found if may_know(request) else {name: found[name] for name in ("ready", "version")}
        return JSONResponse(told, status_code=200 if found["ready"] else 503)

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Give the figures of this process, as Prometheus reads them."""
        return Response(service.meters.text(), media_type=meters.CONTENT_TYPE)


def _may_know(request: Request, tokens: Tokens, required: bool) -> bool:
    open_to_all = not required and not tokens.asked_for
    return open_to_all or tokens.bearer(request.headers.get("authorization", "")) is not None


async def answered(service: Service, request: Request) -> Response:
    """Answer a request for predictions, and count it."""
    began = time.perf_counter()
    outcome = Outcome()
    service.under_way += 1
    try:
        response = await _predicted(service, request, outcome)
    except Unsupported as error:
        response = replies.problem(415, "unsupported", str(error))
    except Late as error:
        response = replies.problem(408, "late", str(error))
    except TooMuch as error:
        response = replies.problem(413, "too_much", str(error))
    except Refused as error:
        response = replies.problem(422, "contract", str(error), error.faults)
    except BrokenPipeline as error:
        logger.error("A request could not be predicted: %s", failure(error))
        response = replies.problem(422, "features", "The pipeline's features do not run on these rows.")
    except Undefined:
        response = replies.problem(
            422, "undefined", "The model has no finite figure for these rows; are their values in a range that it was trained on?"
        )
    except TimeoutError:
        response = replies.problem(504, "timeout", f"The prediction took more than {service.limits.timeout:g} s.")
    except Exception as error:  # the model's own code may raise anything; the request fails, and the server goes on
        logger.error("A request could not be predicted: %s", failure(error))
        response = replies.problem(500, "model", "The model failed on these rows; the server's log names the kind of error.")
    finally:
        service.under_way -= 1
    rows = outcome.rows if response.status_code == 200 else 0
    service.meters.count(outcome.version, response.status_code, rows, time.perf_counter() - began)
    return response


async def _predicted(service: Service, request: Request, outcome: Outcome) -> Response:
    active = outcome.active = service.follower.current
    if active is None or not service.scorer.able:
        return replies.problem(503, "not_ready", "No version answers now; /readyz says why.", headers={"retry-after": "1"})
    body = await _body(request, service.limits)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    source = active.answerer.model.pipeline.source

    def read(admission: Admission) -> Admitted:
        return bodies.admitted(body, kind, admission, service.limits.max_rows, source)

    ours = active.answerer.admission
    rows = await admitted(read, ours, len(body))
    outcome.rows, identity = count(rows), replies.request_id()
    outcome.active, answers = await service.answer(Asked(identity, active, rows, len(body), read))
    return replies.predictions(outcome.active, identity, answers, request.headers.get("accept", ""))


async def _body(request: Request, limits: Serving) -> bytes:
    """Read a body, no more of it than is allowed, and no longer."""
    if int(request.headers.get("content-length") or 0) > limits.max_bytes:
        raise TooMuch(f"The body has more than {limits.max_bytes} bytes; send the rows in several requests.")
    parts, size = [], 0
    try:
        async with asyncio.timeout(limits.timeout):
            async for part in request.stream():
                size += len(part)
                if size > limits.max_bytes:
                    raise TooMuch(f"The body has more than {limits.max_bytes} bytes; send the rows in several requests.")
                parts.append(part)
    except (TimeoutError, ClientDisconnect) as error:
        raise Late("The body did not come in time.") from error
    return b"".join(parts)
