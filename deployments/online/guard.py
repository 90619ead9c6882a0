"""The guard before the routes: bearer tokens, the host that was asked for, and how many requests are answered at a time."""

import hashlib
import hmac
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployments.online import replies
from tasks.errors import BadSetting

OPEN = ("/healthz", "/readyz")  # what anybody may ask
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
_SHORTEST = 16


@dataclass
class Tokens:
    """The tokens of a file, a name and a token a line, read anew whenever the file changes."""

    path: Path
    _stamp: tuple[int, ...] = ()
    _known: dict[str, bytes] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Name those who have a token.

        Raises:
            BadSetting: if the file is not of that form, or may be read by others.
        """
        self._read()
        return tuple(self._known)

    @property
    def asked_for(self) -> bool:
        """Tell whether there is a file of tokens; one that is unusable asks for them too."""
        return self.path.exists()

    def bearer(self, header: str) -> str | None:
        """Give the name of whom an Authorization header's token is, or None; every token is compared, in constant time.

        A file that was made unusable lets nobody in.
        """
        try:
            self._read()
        except BadSetting:
            return None
        kind, _, token = header.partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        found = None
        for name, wanted in self._known.items():
            if hmac.compare_digest(given, wanted) and kind.lower() == "bearer":
                found = name
        return found

    def _read(self) -> None:
        try:
            about = self.path.stat()
        except OSError:
            self._stamp, self._known = (), {}
            return
        stamp = (about.st_mtime_ns, about.st_size, about.st_ino, about.st_mode)
        if stamp != self._stamp:
            self._known = _parsed(self.path, about.st_mode)
            self._stamp = stamp


def _parsed(path: Path, mode: int) -> dict[str, bytes]:
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        raise BadSetting(f"{path} may be read by others than its owner; take that away with: chmod 600 {path}")
    known = {}
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, token = line.strip().partition(" ")
        if len(token.strip()) < _SHORTEST:
            raise BadSetting(f"{path}, line {number}: expected a name, a space and a token of at least {_SHORTEST} characters.")
        known[name] = hashlib.sha256(token.strip().encode()).digest()
    return known


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} cannot be read as lines of a name and a token: {error}. Nobody is let in until it can.") from error


class Guard:
    """An ASGI application before another: it lets through who may ask, as long as there is room."""

    def __init__(self, app: Any, tokens: Tokens, most: int, required: bool) -> None:
        self.app, self.tokens, self.most, self.required = app, tokens, most, required
        self.active = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request that may not pass, and pass the others on."""
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in (b"authorization", b"host")}
        refusal = self._refusal(headers)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self.active += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.active -= 1

    def _refusal(self, headers: dict[bytes, str]) -> Any:
        if self.required or self.tokens.asked_for:
            if self.tokens.bearer(headers.get(b"authorization", "")) is None:
                told = {"www-authenticate": "Bearer"}
                return replies.problem(
                    401, "unauthorized", "This needs a token: send the header 'Authorization: Bearer TOKEN'.", headers=told
                )
        elif _host(headers.get(b"host", "")) not in LOOPBACK:  # a page elsewhere that made its own name point to this machine
            return replies.problem(421, "host", "This server answers on loopback alone; ask for 127.0.0.1 or localhost.")
        if self.active >= self.most:
            return replies.problem(503, "busy", f"{self.most} requests are being answered; try again.", headers={"retry-after": "1"})
        return None


def _host(header: str) -> str:
    """Give the host of a Host header, without its port.

    >>> _host("127.0.0.1:8000"), _host("[::1]:80"), _host("LOCALHOST")
    ('127.0.0.1', '[::1]', 'localhost')
    """
    host = header if header.endswith("]") else header.rpartition(":")[0] if ":" in header else header
    return host.lower()
