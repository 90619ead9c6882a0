"""Prefect's artifacts: what a flow run leaves to be read in the UI, also when it is another process that leaves it."""

import logging
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.exceptions import PrefectHTTPStatusError

from tasks.errors import Unreachable

logger = logging.getLogger(__name__)

GONE = (404, 409)  # what Prefect answers where the run is not there any more


def markdown(flow_run: str, key: str, text: str, description: str) -> None:
    """Leave a text under a key of a flow run; one that is there already is left as it is.

    For a run that was deleted in Prefect there is nothing to leave.

    Raises:
        Unreachable: if the Prefect server does not answer.
    """
    run = UUID(flow_run)
    wanted = {"artifacts": {"flow_run_id": {"any_": [flow_run]}, "key": {"any_": [key]}}, "limit": 1}
    made = ArtifactCreate(key=key, type="markdown", description=description, data=text, flow_run_id=run)
    try:
        with get_client(sync_client=True) as client:
            if not client.request("POST", "/artifacts/filter", json=wanted).json():
                client.create_artifact(made)
    except (httpx.HTTPError, PrefectHTTPStatusError) as error:
        if isinstance(error, PrefectHTTPStatusError) and error.response.status_code in GONE:
            logger.warning("The artifact %r of run %s is left out, Prefect does not have that run any more: %s", key, flow_run, error)
            return
        raise Unreachable(f"The Prefect server did not take the artifact {key!r} of run {flow_run}: {error!r:.300}.") from error
