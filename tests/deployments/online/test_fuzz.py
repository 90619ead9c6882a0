"""The API fuzzed by its own description: whatever is sent, there is no failure of the server, and no reply that is not described."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.online import enthrone, serving
from tests.stored import amounts_rows, sorts_rows, store

# Not `positive_data_acceptance`: a contract may ask for more than its description can say. Not `negative_data_rejection`: values are read as those
# of arrivals are, so that "0.5" is a number.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [("amounts", amounts_rows()), ("sorts", sorts_rows())])
def test_no_request_makes_the_server_fail_or_reply_as_is_not_described(home: Path, tmp_path: Path, name: str, rows: object) -> None:
    enthrone(store(name, rows, tmp_path / "stored").candidate, 1)  # type: ignore[arg-type]
    with serving(name, tmp_path / "server.log") as running:
        command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{running.client.base_url}/openapi.json"]
        done = subprocess.run(
            [*command, "--checks", ",".join(CHECKS), "--max-examples", "60", "--seed", "1", "--no-color"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        counted = running.client.get("/metrics").text
        assert 'status="200"' in counted, "no request was good enough to be answered"
        assert 'status="422"' in counted, "no request was bad enough to be refused"
        assert running.ready()
