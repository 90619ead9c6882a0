"""Run the API: one process or several on one socket, in the open or with TLS."""

import argparse
import gc
import logging
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

from deployments.online.app import create
from deployments.online.guard import LOOPBACK, Guard, Tokens
from deployments.online.protocol import Bounded
from flows import pipelines
from tasks import settings
from tasks.errors import BadSetting, BrokenPipeline, RatchetError, UserError
from tasks.spec import Pipeline

logger = logging.getLogger("ratchet.serve")
GRACE = 10  # seconds that requests have to end in after SIGTERM
HEALTH = 20  # seconds that a worker may take to say that it lives; it imports for a while before it can
IDLE = 30  # seconds after which a connection that asks nothing is closed


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Read the words of the command."""
    parser = argparse.ArgumentParser(prog="ratchet serve")
    parser.add_argument("name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    return parser.parse_args(words)


def checked(given: argparse.Namespace) -> int:
    """See that the server may run so, and give how many workers it is to have.

    Raises:
        UserError: if there is no such pipeline, or a certificate without a key.
        BadSetting: if it would answer off loopback and nobody has a token, or the file of the tokens cannot be used.
    """
    tokens = Tokens(settings.read().tokens).names()
    if given.host not in LOOPBACK and not tokens:
        raise BadSetting(
            f"{given.host} can be reached from other machines, and {settings.read().tokens} names nobody who may ask. Write a line with a name and a "
            "token of at least 16 characters into it (chmod 600), or serve on 127.0.0.1."
        )
    if bool(given.certificate) != bool(given.key):
        raise UserError("TLS needs both --certificate and --key; give the other one too, or leave both out.")
    spec = definition(given.name)
    return int(given.workers or (spec.serving.workers if spec else 1))


def definition(name: str) -> Pipeline | None:
    """Give a pipeline by its file, or None where that cannot be used.

    Raises:
        UnknownPipeline: if there is no such file.
    """
    try:
        return pipelines.get(name)
    except BrokenPipeline as error:
        logger.warning("The file of %s cannot be used; its champion is served all the same, with the usual limits: %s", name, error)
        return None


def application(name: str, url: str, required: bool) -> Guard:
    """Make the application, in the process that is to answer: a user's file cannot be sent from one to another."""
    prepare()
    return create(name, definition(name), url, required)


def prepare() -> None:
    """Let this process write its log, and do what is not a request's a little later."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    gc.set_threshold(50_000, 20, 100)  # a request leaves few cycles behind; to look for them holds requests up
    sys.setswitchinterval(0.001)  # seconds; what keeps predictions or loads a version gives way to a request that soon


def config(given: argparse.Namespace, workers: int) -> uvicorn.Config:
    """Describe the server for uvicorn."""
    secure = "https" if given.certificate else "http"
    return uvicorn.Config(
        partial(application, given.name, f"{secure}://{given.host}:{given.port}", given.host not in LOOPBACK),
        factory=True,
        host=given.host,
        port=given.port,
        workers=workers,
        http=Bounded,
        ws="none",
        log_level="warning",
        access_log=False,  # it would hold who asked what, and cost as much as reading the request
        server_header=False,
        date_header=False,
        timeout_keep_alive=IDLE,
        timeout_worker_healthcheck=HEALTH,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=given.certificate,
        ssl_keyfile=given.key,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )


def main(words: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT; requests that are being answered end first."""
    prepare()
    given = parsed(words)
    try:
        workers = checked(given)
    except RatchetError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
    made = config(given, workers)
    if made.workers > 1:
        Multiprocess(made, sockets=[made.bind_socket()]).run()
    else:
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # a terminal that was closed ends the server as SIGTERM does
            signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        uvicorn.Server(made).run()
