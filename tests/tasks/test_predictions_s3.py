"""The prediction log with the lake on S3, a real server behind a proxy that breaks what it answers: nothing is there twice, and nothing is lost."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import predictions
from tasks.stores import spool
from tests.servers import aws, proxy, radosgw
from tests.servers.proxy import Fault, Gate
from tests.tasks.test_predictions import QUICK, answered, log, logged
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(radosgw.absent()), reason=f"not installed: {', '.join(radosgw.absent())}; see .ci/packages"),
]
COMMIT = r"_delta_log/0*\d+\.json"


@pytest.fixture
def gate(s3_endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The proxy that the log sees S3 through."""
    with proxy.running(s3_endpoint) as gate:
        aws.use(monkeypatch, gate.url, radosgw.ACCESS, radosgw.SECRET)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        bucket = aws.bucket(s3_endpoint, home)
        monkeypatch.setenv("RATCHET_LAKE", f"s3://{bucket.name}/lake")
        yield gate
        aws.forget()


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cut", COMMIT, "PUT", skip=1),
        Fault("cut", COMMIT, "PUT", skip=1, times=3),
        Fault("refuse", times=4),
        Fault("500", r"\.parquet", "PUT", times=2),
    ],
    ids=["the reply to a commit is lost", "several are lost", "S3 is away for a moment", "S3 fails"],
)
def test_whatever_s3_answers_each_prediction_is_in_the_lake_once(gate: Gate, fault: Fault) -> None:
    ours = log(QUICK)
    gate.set(fault)
    for number in range(3):
        ours.add(answered(number))
        until(lambda: not list(spool.waiting("toy")) and ours.counts[0] == 0, "the commit", 60)
    ours.close()
    assert gate.hits
    gate.set(None)
    assert sorted(logged()["_prediction"]) == [f"{answered(number).request}-0" for number in range(3)]


def test_closing_does_not_wait_for_s3_that_is_away_and_the_next_server_brings_what_was_left(gate: Gate) -> None:
    gate.set(Fault("refuse", times=10_000))
    ours = log(QUICK)
    ours.add(answered(1))
    ours.close()
    assert ours.counts == (0, 1, 0)
    assert [batch.num_rows for batch in spool.waiting("toy")] == [1]
    gate.set(None)
    until(lambda: not any(thread.name.startswith("_commit") for thread in threading.enumerate()), "the end of the last try")
    predictions.adopt("toy")
    assert logged()["_prediction"].to_list() == [f"{answered(1).request}-0"]
