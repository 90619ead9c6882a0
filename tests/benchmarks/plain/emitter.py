"""The floor of the trigger: a watcher that tells Prefect of each new file with an event, with nothing tuned."""

import sys

import watchfiles
from prefect.events import emit_event

if __name__ == "__main__":
    for changes in watchfiles.watch(sys.argv[1]):
        for change, path in changes:
            if change == watchfiles.Change.added and path.endswith(".csv"):
                emit_event("plain.landed", resource={"prefect.resource.id": f"plain.{path}"}, payload={"path": path})
