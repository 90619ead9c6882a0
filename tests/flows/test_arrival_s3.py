"""A watched source on S3 that has no queue, against a real S3 server: the sweeps alone see all that lands, once."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.parts import Stack
from tasks.stores import files, lake, ledger
from tests.landing import arrival, take_in_from
from tests.servers import aws, radosgw
from tests.servers.client import prefect_at
from tests.servers.radosgw import Gateway
from tests.servers.watched import csv, names, toy, watching
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(radosgw.absent()), reason=f"not installed: {', '.join(radosgw.absent())}; see .ci/packages"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with radosgw.serving(tmp_path_factory.mktemp("rgw")) as found:
        yield found


@pytest.fixture
def bucket(gateway: Gateway, home: Path, servers: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    aws.use(monkeypatch, gateway.url, radosgw.ACCESS, radosgw.SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("RATCHET_SWEEP", "0.3")
    made = aws.bucket(gateway.url, home)
    list(files.look(f"s3://{made.name}/"))  # what the first look takes longer would put off the next sweep
    with prefect_at(servers.prefect_api_url):
        yield made
    aws.forget()


def swept(bucket: Any, marker: str) -> None:
    """Wait until a listing that began after this moment has been gone through; the marker is its last object."""
    bucket.put_object(Key=f"in/{marker}", Body=marker.encode())
    until(lambda: marker in names())


def ids() -> list[int]:
    return sorted(lake.scan("toy").collect()["id"].to_list())


KEYS = ["2024/a b+ü.csv", "100%25.csv", "a&b=c?d#e.csv", "日本 語.csv", "a//b.csv", "plain.csv"]


def test_objects_of_any_name_are_recorded_once_and_a_cycle_is_asked_for(bucket: Any) -> None:
    with watching(toy(f"s3://{bucket.name}/in/")) as asked:
        for number, key in enumerate(KEYS):
            bucket.put_object(Key=f"in/{key}", Body=csv(3, 3 * number))
        bucket.put_object(Key="in/.hidden.csv", Body=b"x")
        bucket.put_object(Key="in/notes.txt", Body=b"x")
        bucket.put_object(Key="elsewhere/b.csv", Body=b"x")
        until(lambda: len(names()) == len(KEYS))
        until(lambda: asked)
        swept(bucket, "zzz.csv")
    assert sorted(names()) == sorted([*KEYS, "zzz.csv"])
    take_in_from(f"s3://{bucket.name}/in/")
    assert ids() == list(range(3 * len(KEYS)))


def test_what_lay_there_before_the_watcher_began_is_recorded_too(bucket: Any) -> None:
    bucket.put_object(Key="in/a.csv", Body=csv(3))
    with watching(toy(f"s3://{bucket.name}/in")):
        until(lambda: names() == ["a.csv"])


def test_an_overwrite_is_a_new_version_whose_rows_take_the_place_of_the_old_ones(bucket: Any) -> None:
    source = f"s3://{bucket.name}/in"
    with watching(toy(source)):
        bucket.put_object(Key="in/a.csv", Body=csv(3))
        until(lambda: names() == ["a.csv"])
        take_in_from(source)
        bucket.put_object(Key="in/a.csv", Body=csv(3, 10))
        until(lambda: names() == ["a.csv", "a.csv"])
    take_in_from(source)
    assert ids() == [10, 11, 12]
    assert [(part.state, part.superseded) for part in ledger.history("toy")] == [("ingested", False), ("ingested", True)]


def test_an_overwrite_with_the_same_bytes_is_nothing_new(bucket: Any) -> None:
    with watching(toy(f"s3://{bucket.name}/in")):
        bucket.put_object(Key="in/a.csv", Body=csv(3))
        until(lambda: names() == ["a.csv"])
        stamp = ledger.recorded("toy", [f"s3://{bucket.name}/in/a.csv"])
        swept(bucket, "y.csv")  # S3 tells times by the second or better: some pass
        bucket.put_object(Key="in/a.csv", Body=csv(3))
        until(lambda: ledger.recorded("toy", [f"s3://{bucket.name}/in/a.csv"]) != stamp)
    assert names() == ["a.csv", "y.csv"]


def test_the_same_bytes_under_another_key_are_a_duplicate_that_is_not_taken_in(bucket: Any) -> None:
    source = f"s3://{bucket.name}/in"
    with watching(toy(source)):
        bucket.put_object(Key="in/a.csv", Body=csv(3))
        until(lambda: names() == ["a.csv"])
        bucket.put_object(Key="in/b.csv", Body=csv(3))
        until(lambda: names() == ["a.csv", "b.csv"])
    take_in_from(source)
    assert ids() == [0, 1, 2]
    assert (arrival("a.csv").state, arrival("b.csv").state) == ("ingested", "duplicate")


def test_a_deletion_loses_no_rows_neither_of_what_was_taken_in_nor_of_what_was_only_recorded(bucket: Any) -> None:
    source = f"s3://{bucket.name}/in"
    with watching(toy(source)):
        bucket.put_object(Key="in/a.csv", Body=csv(3))
        until(lambda: names() == ["a.csv"])
        take_in_from(source)
        bucket.put_object(Key="in/b.csv", Body=csv(3, 10))
        until(lambda: names() == ["a.csv", "b.csv"])
        for key in ("in/a.csv", "in/b.csv"):
            bucket.Object(key).delete()
        bucket.put_object(Key="in/c.csv", Body=csv(3, 20))
        until(lambda: names() == ["a.csv", "b.csv", "c.csv"])
    take_in_from(source)
    assert ids() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert ledger.outstanding("toy") == ()


def test_an_object_that_is_uploaded_in_parts_is_recorded_only_once_it_is_whole(bucket: Any) -> None:
    with watching(toy(f"s3://{bucket.name}/in")):
        upload = bucket.Object("in/a.csv").initiate_multipart_upload()
        half, rest = csv(3)[:60], csv(3)[60:]
        parts = [upload.Part(1).upload(Body=half.ljust(5 << 20, b"\n")), upload.Part(2).upload(Body=rest)]
        swept(bucket, "z.csv")
        assert names() == ["z.csv"]
        whole = [{"PartNumber": number, "ETag": part["ETag"]} for number, part in enumerate(parts, start=1)]
        upload.complete(MultipartUpload={"Parts": whole})
        until(lambda: names() == ["z.csv", "a.csv"])


def test_while_s3_is_away_that_is_on_record_and_what_landed_around_it_is_recorded_once_it_is_back(bucket: Any, gateway: Gateway) -> None:
    with watching(toy(f"s3://{bucket.name}/in")):
        bucket.put_object(Key="in/a.csv", Body=csv(3))
        until(lambda: names() == ["a.csv"])
        bucket.put_object(Key="in/b.csv", Body=csv(3, 10))
        gateway.stop()
        try:
            until(lambda: any(receipt.rule == "source" for receipt in ledger.receipts("toy")))
        finally:
            gateway.start()
        bucket.put_object(Key="in/c.csv", Body=csv(3, 20))
        until(lambda: sorted(names()) == ["a.csv", "b.csv", "c.csv"])
    (told,) = {receipt.why for receipt in ledger.receipts("toy") if receipt.rule == "source"}
    assert "S3 does not answer" in told


def test_a_source_that_cannot_be_listed_is_asked_for_again_as_often_as_sweeps_are_and_no_oftener(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RATCHET_SWEEP", "3600")
    with watching(toy("s3://there-is-no-such-bucket/in")):
        until(lambda: ledger.receipts("toy"))
        time.sleep(1)  # in which nothing is to be asked for
        assert [receipt.rule for receipt in ledger.receipts("toy")] == ["source"]
        assert sum(receipt.times for receipt in ledger.receipts("toy")) <= 2
