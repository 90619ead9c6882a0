"""Bring a model's files into the verified local copies: `python -m deployments.online.fetching RECORD`, the champion's record as JSON."""

import json
import sys

from deployments.online.versions import explained
from tasks.errors import RatchetError
from tasks.records import Champion
from tasks.stores import models


def main(record: str) -> int:
    """Fetch; what went wrong is the last line of the standard error."""
    try:
        models.fetch(Champion(**json.loads(record)))
    except RatchetError as error:
        sys.stderr.write(f"{type(error).__name__}: {explained(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
