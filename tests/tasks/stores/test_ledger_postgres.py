"""The ledger on a PostgreSQL that is stopped, restarted or crashes, and beside a process that stops in the midst of a transaction."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.queues import Queue
from pathlib import Path

import pytest
import sqlalchemy as sa

from tasks.errors import LedgerError
from tasks.records import Arrival, Look
from tasks.stores import ledger
from tasks.stores.ledger import Lease, access, schema
from tests.servers import postgres
from tests.servers.postgres import Server
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(postgres.absent()), reason=f"not installed: {', '.join(postgres.absent())}; see .ci/packages"),
]
on_postgres = pytest.mark.parametrize("new_ledger", ["postgresql"], indirect=True)


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of this test alone, and the ledger in its first database."""
    with postgres.serving() as found:
        monkeypatch.setenv("RATCHET_LEDGER_URL", found.url)
        yield found
        access._open(found.url).dispose()


def see(uri: str, content: str = "one") -> tuple[Arrival, ...]:
    return ledger.observe("p", [(Look(name=uri.strip("/"), uri=uri, size=1, stamp=content), content, True)])


def begin() -> Lease:
    return ledger.begin("p", trigger="test", definition="d", flow_run=None)


def names() -> list[str]:
    return [arrival.name for arrival in reversed(ledger.history("p"))]


def test_a_server_that_was_restarted_between_two_transactions_is_not_even_noticed(server: Server) -> None:
    see("/a")
    lease = begin()
    server.stop()
    server.start()
    ledger.renew(lease)
    see("/b", "two")
    assert names() == ["a", "b"]


def test_a_server_that_is_away_is_named_and_found_again_once_it_is_back(server: Server) -> None:
    see("/a")
    server.stop()
    with pytest.raises(LedgerError, match=rf"(?s)127\.0\.0\.1:{server.port}/postgres refused.*earlier ones stand"):
        see("/b", "two")
    with pytest.raises(LedgerError, match="refused"):
        names()
    server.start()
    assert names() == ["a"]
    see("/b", "two")
    assert names() == ["a", "b"]


def test_a_server_that_is_away_when_the_ledger_is_first_opened_is_found_once_it_is_there(server: Server) -> None:
    server.stop()
    with pytest.raises(LedgerError, match="refused"):
        begin()
    server.start()
    assert begin().token == 1


def test_of_a_transaction_in_which_the_server_crashed_nothing_is_kept_and_all_that_was_before(server: Server) -> None:
    see("/a")
    with pytest.raises(LedgerError, match="not made"), ledger.transaction() as connection:
        connection.execute(sa.text("UPDATE arrivals SET state = 'ingested'"))
        server.stop(signal.SIGQUIT)
        connection.execute(sa.text("UPDATE arrivals SET accepted = 3"))
    server.start()
    assert [(arrival.state, arrival.accepted) for arrival in ledger.history("p")] == [("pending", 0)]


def expiry() -> str:
    with access.reading() as connection:
        return str(connection.execute(sa.select(schema.leases.c.expires_at)).scalar_one())


def test_a_lease_is_renewed_again_once_a_server_that_was_away_is_back(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_LEASE", "6")
    lease = begin()
    with ledger.kept(lease):
        server.stop()
        time.sleep(2.5)  # one renewal falls into this
        server.start()
        before = expiry()
        until(lambda: expiry() > before)
        assert ledger.lost(lease) is None


def test_a_password_is_in_no_message(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_LEDGER_URL", "postgresql+psycopg://somebody:hush@127.0.0.1:9/ledger")
    with pytest.raises(LedgerError, match="somebody") as told:
        names()
    assert "hush" not in str(told.value)


def _stop_inside(came_of_it: "Queue[str]") -> None:
    try:
        with ledger.transaction() as connection:
            connection.execute(sa.text("UPDATE arrivals SET state = 'ingested'"))
            os.kill(os.getpid(), signal.SIGSTOP)
    except LedgerError as error:
        came_of_it.put(str(error))
    else:
        came_of_it.put("committed")


@on_postgres
def test_a_process_that_is_stopped_inside_a_transaction_holds_the_others_up_for_a_while_and_then_commits_nothing(
    home: Path, new_ledger: Callable[[], str]
) -> None:
    see("/a")
    spawning = multiprocessing.get_context("spawn")
    came_of_it = spawning.Queue()
    stopped = spawning.Process(target=_stop_inside, args=(came_of_it,), daemon=True)
    stopped.start()
    try:
        os.waitid(os.P_PID, stopped.pid or 0, os.WSTOPPED | os.WNOWAIT)
        assert names() == ["a"]  # who only reads waits for nobody
        see("/b", "two")  # waits until the server has cut the other one off
        assert names() == ["a", "b"]
    finally:
        os.kill(stopped.pid or 0, signal.SIGCONT)
    assert "not made" in came_of_it.get(timeout=60)
    stopped.join(60)
    assert {arrival.state for arrival in ledger.history("p")} == {"pending"}
