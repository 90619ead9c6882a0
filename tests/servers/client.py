"""Prefect's client in the tests' own process, in all its threads, at a server of the test's choice."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from prefect.context import refresh_global_settings_context


class Patient(httpx.HTTPTransport):
    """Asks again where Prefect's server says that its database is busy."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Give the first answer that is another."""
        limit = time.monotonic() + 60
        while (answer := super().handle_request(request)).status_code == 503 and time.monotonic() < limit:
            answer.close()
            time.sleep(0.5)
        return answer


@contextmanager
def prefect_at(api_url: str, *, retries: int = 0) -> Iterator[None]:
    """Let Prefect's client talk to that server inside the block, and never start one of its own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_API_URL", api_url)
        environment.setenv("PREFECT_CLIENT_MAX_RETRIES", str(retries))
        environment.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
        refresh_global_settings_context()
        try:
            yield
        finally:
            environment.undo()
            refresh_global_settings_context()


def events_of(api_url: str, pipeline: str) -> list[dict[str, Any]]:
    """Give the events that a server has of a pipeline, as its UI shows them."""
    wanted = {"filter": {"resource": {"id": [f"ratchet.pipeline.{pipeline}"]}}, "limit": 50}
    page = httpx.post(f"{api_url}/events/filter", json=wanted, timeout=30).raise_for_status().json()
    found = list(page["events"])
    while page["next_page"]:
        page = httpx.get(page["next_page"], timeout=30).raise_for_status().json()
        found += page["events"]
    return found
