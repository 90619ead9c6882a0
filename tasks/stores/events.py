"""Prefect's events: what landed, what is due and what was decided, so that the UI's feed shows it and automations can act on it.

Events are a hint, never the record. Each has an id made of what it is about: sent twice it is one event.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError

from tasks.errors import Unreachable
from tasks.records import Arrival

LANDED, DUE, DECIDED = "ratchet.arrival.landed", "ratchet.retraining.due", "ratchet.cycle.decided"
MOST = 100  # of one look are told one by one, the others as a number


def resource(pipeline: str) -> str:
    """Name a pipeline as Prefect's resource.

    >>> resource("churn")
    'ratchet.pipeline.churn'
    """
    return f"ratchet.pipeline.{pipeline}"


def event(name: str, pipeline: str, about: str, payload: Mapping[str, Any], related: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """Describe an event of a pipeline; `about` is what makes it that one and no other."""
    return {
        "id": str(identity(name, pipeline, about)),
        "occurred": datetime.now(UTC).isoformat(),
        "event": name,
        "resource": {"prefect.resource.id": resource(pipeline), "prefect.resource.name": pipeline},
        "related": list(related),
        "payload": dict(payload),
    }


def identity(name: str, pipeline: str, about: str) -> UUID:
    """Give the id of an event, the same whenever it is made."""
    return uuid5(NAMESPACE_URL, f"{name}/{pipeline}/{about}")


def landed(pipeline: str, arrivals: Sequence[Arrival]) -> list[dict[str, Any]]:
    """Describe the events of arrivals: one for each, and one that counts the rest of a large burst."""
    told = [
        event(
            LANDED,
            pipeline,
            arrival.id,
            {"name": arrival.name, "size": arrival.size, "sha256": arrival.sha256, "number": arrival.seq},
            [
                {
                    "prefect.resource.id": f"ratchet.arrival.{arrival.id}",
                    "prefect.resource.role": "arrival",
                    "prefect.resource.name": arrival.name,
                }
            ],
        )
        for arrival in arrivals[:MOST]
    ]
    rest = arrivals[MOST:]
    if rest:
        payload = {"arrivals": len(rest), "first": rest[0].name, "last": rest[-1].name, "size": sum(part.size for part in rest)}
        told.append(event(LANDED, pipeline, f"{rest[0].id} to {rest[-1].id}", payload))
    return told


def send(events: Sequence[Mapping[str, Any]]) -> None:
    """Give events to the Prefect server, and wait until it has them.

    Raises:
        Unreachable: if it does not take them.
    """
    if not events:
        return
    try:
        with get_client(sync_client=True) as client:
            client.request("POST", "/events", json=list(events))
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        raise Unreachable(
            f"The Prefect server did not take {len(events)} events: {error!r}. They are told again, or not needed any more."
        ) from error
