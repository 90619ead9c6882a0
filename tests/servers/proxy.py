"""A fault proxy on loopback in front of an HTTP server: it can cut the reply after the server has acted, refuse, delay, or answer with an error."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

Kind = Literal["cut", "short", "refuse", "delay", "500", "503", "answer"]


@dataclass(frozen=True)
class Fault:
    """What to do to requests whose method and path match: `skip` of them are let pass first, then `times` are hit.

    "cut": the request is forwarded and the reply read, then the connection is closed without a byte of it; "short": after half of its body.
    "answer": `status` and `body` are answered, and the request is not forwarded.
    """

    kind: Kind
    path: str = ""
    method: str = ""
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    status: int = 500
    body: str = "{}"


@dataclass
class Gate:
    """The proxy's address, its present fault, and what it has seen."""

    url: str
    upstream: tuple[str, int]
    fault: Fault | None = None
    hits: int = 0
    matched: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def set(self, fault: Fault | None) -> None:
        """Begin with a fault, or with none."""
        with self.lock:
            self.fault, self.hits, self.matched = fault, 0, 0

    def hit(self, method: str, path: str) -> Fault | None:
        """Give the fault if it hits this request."""
        with self.lock:
            self.requests.append((method, path))
            fault = self.fault
            if fault is None or not re.search(fault.path, path) or (fault.method and fault.method != method):
                return None
            self.matched += 1
            if self.matched <= fault.skip or self.hits >= fault.times:
                return None
            self.hits += 1
            return fault


@contextmanager
def running(upstream: str) -> Iterator[Gate]:
    """Run the proxy in front of a server."""
    parts = urlsplit(upstream)
    listener = socket.create_server(("127.0.0.1", 0))
    gate = Gate(f"http://127.0.0.1:{listener.getsockname()[1]}", (parts.hostname or "", parts.port or 80))
    threading.Thread(target=_accept, args=(gate, listener), daemon=True).start()
    try:
        yield gate
    finally:
        listener.close()


def _accept(gate: Gate, listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(gate, connection), daemon=True).start()


def _serve(gate: Gate, connection: socket.socket) -> None:
    with suppress(OSError, ValueError), connection, connection.makefile("rb") as reader:
        while _one(gate, connection, reader):
            pass


def _one(gate: Gate, connection: socket.socket, reader: BinaryIO) -> bool:
    """Serve one request, and tell whether the connection goes on."""
    head = _head(reader)
    if not head:
        return False
    method, path, *_ = head.decode("latin-1").split(" ")
    if b"upgrade: websocket" in head.lower():
        _tunnel(gate, connection, head)
        return False
    body, fault = _body(reader, head), gate.hit(method, path)
    if fault is not None and fault.kind == "refuse":
        return False
    if fault is not None and fault.kind in ("500", "503", "answer"):
        connection.sendall(_answer(fault))
        return True
    if fault is not None and fault.kind == "delay":
        time.sleep(fault.seconds)
    reply = _forward(gate, head, body)
    if fault is not None and fault.kind == "cut":
        return False
    if fault is not None and fault.kind == "short":
        start = reply.index(b"\r\n\r\n") + 4
        reply = reply[: start + (len(reply) - start) // 2]
    connection.sendall(reply)
    return False


def _answer(fault: Fault) -> bytes:
    status, kind = (fault.status, "xml") if fault.kind == "answer" else (fault.kind, "json")
    body = fault.body.encode()
    return f"HTTP/1.1 {status} Fault\r\nContent-Type: application/{kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _head(reader: BinaryIO) -> bytes:
    lines = []
    while (line := reader.readline()) not in (b"\r\n", b""):
        lines.append(line)
    return b"".join(lines)


def _body(reader: BinaryIO, head: bytes) -> bytes:
    length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    if length:
        return reader.read(int(length[1]))
    if not re.search(rb"(?im)^transfer-encoding:.*chunked", head):
        return b""
    parts = []
    while True:
        size = reader.readline()
        parts.append(size)
        parts.append(reader.read(int(size, 16) + 2))
        if int(size, 16) == 0:
            return b"".join(parts)


def _forward(gate: Gate, head: bytes, body: bytes) -> bytes:
    """Send the request on, on a connection of its own, and give the whole reply."""
    plain = re.sub(rb"(?im)^connection:.*\r\n", b"", head) + b"Connection: close\r\n\r\n"
    with socket.create_connection(gate.upstream) as server:
        server.sendall(plain + body)
        parts = []
        while part := server.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _tunnel(gate: Gate, connection: socket.socket, head: bytes) -> None:
    with socket.create_connection(gate.upstream) as server:
        server.sendall(head + b"\r\n")
        back = threading.Thread(target=_pump, args=(server, connection), daemon=True)
        back.start()
        _pump(connection, server)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
