"""Prefect's events: the same thing told twice is one event, a burst is told shortly, and a server that is away is said to be."""

import socket
from uuid import uuid4

import pytest

from infra.parts import Stack
from tasks.errors import Unreachable
from tasks.records import Arrival
from tasks.stores import events
from tests.servers import proxy
from tests.servers.client import events_of, prefect_at
from tests.servers.proxy import Fault, Kind
from tests.waiting import until


def arrivals(count: int) -> list[Arrival]:
    return [Arrival(seq, f"id-{seq}", f"{seq}.csv", f"/in/{seq}.csv", f"sha-{seq}", 10, "stamp") for seq in range(1, count + 1)]


def test_an_event_has_the_id_of_what_it_is_about_whenever_it_is_made() -> None:
    first, again = events.landed("p", arrivals(2)), events.landed("p", arrivals(2))
    assert [event["id"] for event in first] == [event["id"] for event in again]
    others = [
        events.event(events.LANDED, "q", "id-1", {}),
        events.event(events.DUE, "p", "id-1", {}),
        events.event(events.LANDED, "p", "x", {}),
    ]
    assert len({event["id"] for event in [*first, *others]}) == 5


def test_an_arrival_is_told_with_its_pipeline_and_itself_as_resources() -> None:
    (told,) = events.landed("p", arrivals(1))
    assert told["resource"] == {"prefect.resource.id": "ratchet.pipeline.p", "prefect.resource.name": "p"}
    assert told["related"][0]["prefect.resource.id"] == "ratchet.arrival.id-1"
    assert told["payload"] == {"name": "1.csv", "size": 10, "sha256": "sha-1", "number": 1}


def test_of_a_burst_a_hundred_are_told_one_by_one_and_the_rest_as_a_number() -> None:
    assert len(events.landed("p", arrivals(events.MOST))) == events.MOST
    told = events.landed("p", arrivals(events.MOST + 250))
    assert len(told) == events.MOST + 1
    assert told[-1]["payload"] == {"arrivals": 250, "first": "101.csv", "last": "350.csv", "size": 2500}


def test_to_tell_nothing_needs_no_server() -> None:
    with prefect_at("http://127.0.0.1:1/api"):
        events.send(events.landed("p", []))


def test_a_server_that_is_not_there_is_said_to_be_so() -> None:
    with socket.socket() as taken:  # bound and not listening: refused
        taken.bind(("127.0.0.1", 0))
        with prefect_at(f"http://127.0.0.1:{taken.getsockname()[1]}/api"), pytest.raises(Unreachable, match="did not take 1 events"):
            events.send(events.landed("p", arrivals(1)))


@pytest.mark.slow
def test_what_a_failing_server_did_not_confirm_is_told_again_and_is_one_event(servers: Stack) -> None:
    pipelines: dict[Kind, str] = {kind: f"p_{uuid4().hex}" for kind in ("500", "503", "refuse", "cut")}
    with proxy.running(servers.prefect_api_url) as gate, prefect_at(f"{gate.url}/api"):
        for kind, pipeline in pipelines.items():
            told = events.landed(pipeline, arrivals(1))
            gate.set(Fault(kind, path="/events", method="POST"))
            with pytest.raises(Unreachable):
                events.send(told)
            assert gate.hits == 1
            events.send(told)
            events.send([*told, events.event(events.DUE, pipeline, "a state", {"why": "1 arrival is outstanding"})])
    for pipeline in pipelines.values():
        until(lambda pipeline=pipeline: len(events_of(servers.prefect_api_url, pipeline)) >= 2, "two events")  # type: ignore[misc]
        found = {event["event"]: event for event in events_of(servers.prefect_api_url, pipeline)}
        assert len(events_of(servers.prefect_api_url, pipeline)) == len(found) == 2
        assert found[events.LANDED]["id"] == str(events.identity(events.LANDED, pipeline, "id-1"))
        assert found[events.LANDED]["payload"]["name"] == "1.csv"
        assert found[events.DUE]["payload"] == {"why": "1 arrival is outstanding"}
