"""Run the API: one process or several on one socket, in the open or with TLS."""

import argparse
import gc
import logging
import ssl
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

from deployments.online.app import create
from deployments.online.guard import LOOPBACK, Tokens
from flows import pipelines
from tasks import settings
from tasks.errors import BadSetting, BrokenPipeline, RatchetError, UserError
from tasks.spec import Pipeline

logger = logging.getLogger("ratchet.serve")
GRACE = 10  # seconds that requests have to end in after SIGTERM
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


def checked(given: argparse.Namespace) -> Pipeline | None:
    """See that the server may run so, and give the pipeline, or None where its file cannot be used.

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
    try:
        return pipelines.get(given.name)
    except BrokenPipeline as error:
        logger.warning("The file of %s cannot be used; its champion is served all the same, with the usual limits: %s", given.name, error)
        return None


def config(given: argparse.Namespace, spec: Pipeline | None) -> uvicorn.Config:
    """Describe the server for uvicorn."""
    secure = "https" if given.certificate else "http"
    return uvicorn.Config(
        partial(create, given.name, spec, f"{secure}://{given.host}:{given.port}", given.host not in LOOPBACK),
        factory=True,
        host=given.host,
        port=given.port,
        workers=given.workers or (spec.serving.workers if spec else 1),
        http="httptools",
        ws="none",
        log_level="warning",
        access_log=False,  # it would hold who asked what, and cost as much as reading the request
        server_header=False,
        date_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=given.certificate,
        ssl_keyfile=given.key,
        ssl_version=ssl.PROTOCOL_TLS_SERVER,
    )


def main(words: Sequence[str]) -> None:
    """Serve until SIGTERM or SIGINT; requests that are being answered end first."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    gc.set_threshold(50_000, 20, 100)  # a request leaves no cycles behind; to look for some after every few takes as long as a prediction
    sys.setswitchinterval(0.001)  # seconds; what keeps predictions or loads a version gives way to a request that soon
    given = parsed(words)
    try:
        spec = checked(given)
    except RatchetError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(2)
    made = config(given, spec)
    if made.workers > 1:
        Multiprocess(made, sockets=[made.bind_socket()]).run()
    else:
        uvicorn.Server(made).run()
