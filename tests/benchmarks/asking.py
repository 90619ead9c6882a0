"""A client that asks as fast as it is answered: `python -m tests.benchmarks.asking URL FILE KIND CONNECTIONS SECONDS`, figures as JSON.

Each connection is kept open and has one request under way; one thread waits for all of them, so that the client takes little of the machine.
"""

import json
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

WARM_UP = 20


@dataclass
class Connection:
    """One connection: the bytes that have come of the reply under way, and when it was asked for."""

    line: socket.socket
    asked: float = 0.0
    came: bytes = b""
    taken: list[float] = field(default_factory=list)


@dataclass
class Found:
    """What was found: seconds of each request, and the replies that were none (anything but 200)."""

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)


def message(url: str, body: bytes, kind: str) -> bytes:
    """Write a request."""
    where = urlsplit(url)
    head = f"POST {where.path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def ask(url: str, request: bytes, connections: int, seconds: float) -> tuple[Found, float]:
    """Ask for so many seconds, and give what was found and how long it took in all."""
    where, found = urlsplit(url), Found()
    lines = [Connection(socket.create_connection((where.hostname or "", where.port or 80), timeout=30)) for _ in range(connections)]
    with selectors.DefaultSelector() as selector:
        for one in lines:
            one.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(one.line, selectors.EVENT_READ, one)
            _send(one, request)
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < seconds:
            for key, _ in selector.select(timeout=1):
                if _answered(key.data, found):
                    _send(key.data, request)
    for one in lines:
        one.line.close()
    return found, now - began


def _send(one: Connection, request: bytes) -> None:
    one.asked, one.came = time.perf_counter(), b""
    one.line.sendall(request)


def _answered(one: Connection, found: Found) -> bool:
    part = one.line.recv(1 << 20)
    if not part:
        raise ConnectionError(f"the server closed the connection after {one.came[:200]!r}")
    one.came += part
    head, gap, body = one.came.partition(b"\r\n\r\n")
    if not gap or len(body) < _length(head):
        return False
    found.seconds.append(time.perf_counter() - one.asked)
    if not head.startswith(b"HTTP/1.1 200"):
        found.failed.append(one.came[:300].decode(errors="replace"))
    return True


def _length(head: bytes) -> int:
    return next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))


def main(words: Sequence[str]) -> None:
    """Ask, and print the figures."""
    url, file, kind, connections, seconds = words
    request = message(url, Path(file).read_bytes(), kind)
    ask(url, request, 1, 0.2)
    found, took = ask(url, request, int(connections), float(seconds))
    print(json.dumps({"seconds": found.seconds, "failed": found.failed[:5], "failures": len(found.failed), "took": took}))


if __name__ == "__main__":
    main(sys.argv[1:])
