"""A client that asks as fast as it is answered, or so many times a second: figures as JSON. `python -m tests.benchmarks.asking --help`.

Each connection is kept open and has one request under way; one thread waits for all of them, so that the client takes little of the machine.
"""

import argparse
import json
import re
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

_BODY_VERSION = re.compile(rb'"version":(\d+)')


@dataclass
class Connection:
    """One connection: when its request was sent, and what has come of the reply."""

    line: socket.socket
    due: float = 0.0
    asked: float | None = None
    came: bytes = b""


@dataclass
class Found:
    """Of every reply its moment, the seconds that it took, and the versions in its header and its body; and what was no reply of status 200."""

    replies: list[tuple[float, float, int, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def message(url: str, body: bytes, kind: str) -> bytes:
    """Write a request."""
    where = urlsplit(url)
    head = f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ask(url: str, request: bytes, connections: int, seconds: float, rate: float | None = None) -> tuple[Found, float]:
    """Ask for so many seconds, and give what was found and how long it took in all."""
    where, found = urlsplit(url), Found()
    lines = [Connection(socket.create_connection((where.hostname or "", where.port or 80), timeout=30)) for _ in range(connections)]
    apart = connections / rate if rate else 0.0
    began = now = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for place, one in enumerate(lines):
            one.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            one.due = began + apart * place / connections
            selector.register(one.line, selectors.EVENT_READ, one)
        while not _STOPPED and (now := time.perf_counter()) - began < seconds:
            for one in lines:
                if one.asked is None and one.due <= now:
                    _send(one, request, max(one.due + apart, now - 1))
            wait = min((one.due - now for one in lines if one.asked is None), default=0.2)
            for key, _ in selector.select(timeout=max(wait, 0) if rate else 0.2):
                _hear(key.data, found)
    for one in lines:
        one.line.close()
    return found, now - began


_STOPPED: list[int] = []


def _send(one: Connection, request: bytes, due: float) -> None:
    one.asked, one.came, one.due = time.perf_counter(), b"", due
    one.line.sendall(request)


def _hear(one: Connection, found: Found) -> None:
    part = one.line.recv(1 << 20)
    if not part:
        raise ConnectionError(f"the server closed the connection after {one.came[:200]!r}")
    one.came += part
    head, gap, body = one.came.partition(b"\r\n\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.splitlines()[1:])}
    if not gap or len(body) < int(fields[b"content-length"]):
        return
    took, one.asked = time.perf_counter() - (one.asked or 0.0), None
    if not head.startswith(b"HTTP/1.1 200"):
        found.failed.append(one.came[:300].decode(errors="replace"))
    told = _BODY_VERSION.search(body)
    found.replies.append((time.time(), took, int(fields.get(b"x-model-version", 0)), int(told[1]) if told else 0))


def main(words: Sequence[str]) -> None:
    """Ask, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in (("url", str), ("body", Path), ("connections", int), ("seconds", float)):
        parser.add_argument(name, type=kind)
    parser.add_argument("--kind", default="application/json")
    parser.add_argument("--rate", type=float, help="requests a second, all connections together; as many as are answered without it")
    given = parser.parse_args(words)
    signal.signal(signal.SIGTERM, lambda number, _: _STOPPED.append(number))
    request = message(given.url, given.body.read_bytes(), given.kind)
    ask(given.url, request, 1, 0.3)
    found, took = ask(given.url, request, given.connections, given.seconds, given.rate)
    print(json.dumps({"replies": found.replies, "failed": found.failed[:5], "failures": len(found.failed), "took": took}))


if __name__ == "__main__":
    main(sys.argv[1:])
