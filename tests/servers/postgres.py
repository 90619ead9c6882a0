"""A real PostgreSQL for tests, from Debian's packages: on loopback, in a directory of its own, stopped at the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

PROGRAMS = ("initdb", "postgres")
OPTIONS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "max_connections=200")


def absent() -> list[str]:
    """Name the programs that are not installed."""
    return [name for name in PROGRAMS if _program(name) is None]


def _program(name: str) -> str | None:
    """Find a program; Debian keeps the server's below a directory of their version."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else shutil.which(name)


@dataclass
class Server:
    """One server, which may be stopped and started again with what it holds; `url` is the SQLAlchemy address of its first database."""

    home: Path
    user: str
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{self.user}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        words = [str(_program("postgres")), "-D", str(self.home / "data"), f"-cport={self.port}", *(f"-c{option}" for option in OPTIONS)]
        with (self.home / "log").open("wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, **_who(self.user))
        limit = time.monotonic() + 60
        while b"ready to accept connections" not in (self.home / "log").read_bytes():
            if self.process.poll() is not None or time.monotonic() > limit:
                raise TimeoutError(f"PostgreSQL did not come up on port {self.port}:\n{(self.home / 'log').read_text()}")
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: with SIGINT it breaks off what runs, with SIGQUIT it drops everything as in a crash."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server that the test may stop and start."""
    user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name  # it refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="ratchet-postgres-"))
    server = Server(home, user, _free_port())
    try:
        home.chmod(0o755)
        shutil.chown(home, user)
        words = [str(_program("initdb")), "-D", str(home / "data"), "-A", "trust", "-E", "UTF8", "--locale=C", "-U", user, "--no-sync"]
        subprocess.run(words, check=True, capture_output=True, timeout=120, **_who(user))
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def running() -> Iterator[str]:
    """Run a server and give the SQLAlchemy address of its first database."""
    with serving() as server:
        yield server.url


def fresh_database(url: str) -> str:
    """Make a database of its own in the server and give its address."""
    name = f"ledger_{uuid.uuid4().hex[:12]}"
    _command(url, f"CREATE DATABASE {name}")
    return url.rpartition("/")[0] + f"/{name}"


def drop_database(url: str) -> None:
    """Do away with a database, whoever is still connected to it."""
    server, _, name = url.rpartition("/")
    _command(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)")


def _command(url: str, text: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(text.encode())


def _who(user: str) -> dict[str, Any]:
    return {"user": user, "group": user, "cwd": "/"} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
