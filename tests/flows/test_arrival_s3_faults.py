"""A real S3 server behind a proxy that breaks what it answers: nothing is lost or taken in half, it is said what is wrong, and later all is taken in once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.parts import Stack
from tasks.errors import SourceUnavailable
from tasks.observe import survey
from tasks.stores import files, lake, ledger, s3
from tests.landing import take_in_from
from tests.servers import aws, clock, proxy, radosgw
from tests.servers.client import prefect_at
from tests.servers.proxy import Fault, Gate
from tests.servers.watched import csv, names, toy, watching
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(radosgw.absent()), reason=f"not installed: {', '.join(radosgw.absent())}; see .ci/packages"),
]
LIST, GET = r"list-type=2", r"\.csv$"
SLOW = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
EXPIRED = "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
DENIED = "<Error><Code>AccessDenied</Code></Error>"
FAULTS = {
    "500": (Fault("answer", status=500, body="<Error><Code>InternalError</Code></Error>"), "cannot {}.* now: InternalError.*asked again"),
    "500 without a body": (Fault("answer", status=500, body=""), "cannot {}.* now: 500.*asked again"),
    "SlowDown": (Fault("answer", status=503, body=SLOW), "cannot {}.* now: SlowDown.*asked again"),
    "cut": (Fault("short"), "S3 (does not answer|broke off)"),
    "no answer": (Fault("refuse"), "S3 (does not answer|broke off)"),
    "expired": (Fault("answer", status=403, body=EXPIRED), "refuses to {}.*ExpiredToken.*have expired"),
}
FOR_EVER = 10_000


@pytest.fixture
def gate(s3_endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """The proxy that the product sees S3 through; a request that fails is tried once more, and not four times."""
    monkeypatch.setattr(s3, "RETRIES", 1)
    with proxy.running(s3_endpoint) as gate:
        aws.use(monkeypatch, gate.url, radosgw.ACCESS, radosgw.SECRET)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield gate
        aws.forget()


@pytest.fixture
def bucket(s3_endpoint: str, gate: Gate, home: Path) -> Any:
    """A bucket that is filled around the proxy."""
    return aws.bucket(s3_endpoint, home)


def ids() -> list[int]:
    return sorted(lake.scan("toy").collect()["id"].to_list())


def spooled() -> list[Path]:
    return [path for path in files.spool("toy").rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize(("path", "verb"), [(LIST, "list"), (GET, "give")])
def test_a_source_that_is_out_of_order_says_so_keeps_nothing_half_and_is_taken_in_once_afterwards(
    gate: Gate, bucket: Any, path: str, verb: str, kind: str
) -> None:
    for number in range(4):
        bucket.put_object(Key=f"in/{number}.csv", Body=csv(3, 10 * number))
    fault, said = FAULTS[kind]
    gate.set(replace(fault, path=path, method="GET", times=FOR_EVER))
    source = f"s3://{bucket.name}/in/"
    with pytest.raises(SourceUnavailable, match=said.format(verb)):
        survey("toy", source)
    assert gate.hits >= 1
    assert (ledger.history("toy"), spooled()) == ((), [])
    gate.set(None)
    take_in_from(source)
    take_in_from(source)
    assert ids() == [10 * number + row for number in range(4) for row in range(3)]
    assert len(ledger.history("toy")) == 4


@pytest.mark.parametrize("kind", ["500", "SlowDown", "no answer", "cut"])
def test_a_listing_that_fails_once_is_asked_for_again_at_once(gate: Gate, bucket: Any, kind: str) -> None:
    bucket.put_object(Key="in/a.csv", Body=csv(3))
    gate.set(replace(FAULTS[kind][0], path=LIST, method="GET"))
    assert len(survey("toy", f"s3://{bucket.name}/in/").recorded) == 1
    assert gate.hits == 1


@pytest.mark.parametrize("kind", ["500", "cut", "denied"])
def test_an_object_that_s3_does_not_give_delays_no_other_and_is_taken_in_once_it_is_given(gate: Gate, bucket: Any, kind: str) -> None:
    source = f"s3://{bucket.name}/in/"
    for number, name in enumerate(("a", "b", "c")):
        bucket.put_object(Key=f"in/{name}.csv", Body=csv(3, 10 * number))
    fault = Fault("answer", status=403, body=DENIED) if kind == "denied" else FAULTS[kind][0]
    gate.set(replace(fault, path=r"/in/a\.csv$", method="GET", times=FOR_EVER))
    found = survey("toy", source)
    assert [arrival.name for arrival in found.recorded] == ["b.csv", "c.csv"]
    assert [address for address, _ in found.unread] == [f"{source}a.csv"]
    assert found.ignored == (found.unread[0][1],)
    assert found.ignored[0].startswith("a.csv: ")
    take_in_from(source)
    assert ids() == [10, 11, 12, 20, 21, 22]
    gate.set(None)
    take_in_from(source)
    assert ids() == [0, 1, 2, 10, 11, 12, 20, 21, 22]


def test_what_was_read_before_s3_broke_down_is_recorded_and_not_read_again(gate: Gate, bucket: Any) -> None:
    source = f"s3://{bucket.name}/in/"
    for number in range(6):
        bucket.put_object(Key=f"in/{number}.csv", Body=csv(3, 10 * number))
    gate.set(Fault("answer", path=r"[2-5]\.csv$", method="GET", times=FOR_EVER))
    with pytest.raises(SourceUnavailable, match=r"in/4\.csv"):
        survey("toy", source)
    assert names() == ["0.csv", "1.csv"]
    gate.set(None)
    gate.requests.clear()
    assert len(survey("toy", source).recorded) == 4
    assert [path for _, path in gate.requests if path.endswith(("0.csv", "1.csv"))] == []


def test_credentials_that_are_wrong_are_named_and_nothing_is_lost(gate: Gate, bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put_object(Key="in/a.csv", Body=csv(3))
    source = f"s3://{bucket.name}/in/"
    for name, code in (("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"), ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId")):
        with monkeypatch.context() as wrong:
            wrong.setenv(name, "wrong")
            aws.forget()
            with pytest.raises(SourceUnavailable, match=rf"{code}\. Correct AWS_ACCESS_KEY_ID"):
                survey("toy", source)
    aws.forget()
    assert len(survey("toy", source).recorded) == 1


@pytest.mark.skipif(clock.absent(), reason="not installed: faketime; see .ci/packages")
def test_a_machine_whose_clock_is_wrong_is_told_that_it_is_the_clock(gate: Gate, bucket: Any, tmp_path: Path) -> None:
    clock.set_to(tmp_path / "clock", "-1d")
    code = "import sys; from tasks.stores import files\ntry: list(files.look(sys.argv[1]))\nexcept Exception as error: print(error)"
    assert "RequestTimeTooSkewed. Set this machine's clock" in clock.run(tmp_path / "clock", code, f"s3://{bucket.name}/in/")


@pytest.mark.parametrize("kind", ["SlowDown", "cut", "expired"])
@pytest.mark.parametrize("path", [LIST, GET])
def test_a_watcher_leaves_a_receipt_and_records_all_once_the_fault_is_over(
    gate: Gate, bucket: Any, servers: Stack, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    monkeypatch.setenv("RATCHET_SWEEP", "0.3")
    gate.set(replace(FAULTS[kind][0], path=path, method="GET", times=FOR_EVER))
    with prefect_at(servers.prefect_api_url), watching(toy(f"s3://{bucket.name}/in/")) as asked:
        for number, key in enumerate(("a.csv", "b.csv")):
            bucket.put_object(Key=f"in/{key}", Body=csv(3, 10 * number))
        until(lambda: any(receipt.rule == "source" for receipt in ledger.receipts("toy")), "the receipt")
        assert (names(), asked) == ([], [])
        gate.set(None)
        until(lambda: sorted(names()) == ["a.csv", "b.csv"], "the record")
        until(lambda: asked, "the question for a cycle")
    take_in_from(f"s3://{bucket.name}/in/")
    assert ids() == [0, 1, 2, 10, 11, 12]
