"""A source on S3, against a real S3 server: listed, read as listed, and clear about what keeps it from being read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import Changed, SourceUnavailable
from tasks.stores import files, lake, ledger
from tests.landing import arrival, take_in_from, toy_rows
from tests.servers import aws, radosgw

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(radosgw.absent()), reason=f"not installed: {', '.join(radosgw.absent())}; see .ci/packages"),
]


@pytest.fixture
def bucket(s3_endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    aws.use(monkeypatch, s3_endpoint, radosgw.ACCESS, radosgw.SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    made = aws.bucket(s3_endpoint, home)
    yield made
    aws.forget()


def csv(count: int, first: int = 0) -> bytes:
    return toy_rows(count, first=first).write_csv(datetime_format="%Y-%m-%dT%H:%M:%S").encode()


def test_objects_below_a_prefix_are_taken_in_with_odd_names_and_an_overwrite_replaces(bucket: Any) -> None:
    bucket.put_object(Key="in/2024/a b+ü.csv", Body=csv(20))
    bucket.put_object(Key="in/.hidden.csv", Body=b"x")
    bucket.put_object(Key="other/c.csv", Body=csv(5, 100))
    source = f"s3://{bucket.name}/in"
    assert take_in_from(source).accepted == 20
    assert arrival("2024/a b+ü.csv").uri == f"s3://{bucket.name}/in/2024/a b+ü.csv"
    bucket.put_object(Key="in/2024/a b+ü.csv", Body=csv(25))
    assert take_in_from(source).accepted == 25
    assert lake.scan("toy").collect().height == 25


def test_a_prefix_is_a_directory_and_an_object_of_exactly_that_key_a_source_by_itself(bucket: Any) -> None:
    for key in ("in/churn/a.csv", "in/churnother/x.csv", "in/churn.csv", "in/churn.csv.gz", "in/churn.csv/b.csv"):
        bucket.put_object(Key=key, Body=b"x")
    everything = [f"s3://{bucket.name}/{entry.key}" for entry in bucket.objects.all()]
    wanted = {"in/churn": ["a.csv"], "in/churn/": ["a.csv"], "in/churn.csv": ["churn.csv"], "in/churno": [], "in/absent.csv": []}
    for prefix, names in wanted.items():
        source = f"s3://{bucket.name}/{prefix}"
        assert [entry.name for entry in files.look(source) if not isinstance(entry, str)] == names
        assert [entry.name for entry in files.look_again(source, everything) if not isinstance(entry, str)] == names
    assert len(list(files.look(f"s3://{bucket.name}"))) == len(everything)


def test_the_lake_itself_may_be_on_s3(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATCHET_LAKE", f"s3://{bucket.name}/lake")
    bucket.put_object(Key="in/a.csv", Body=csv(20))
    assert take_in_from(f"s3://{bucket.name}/in").accepted == 20
    assert lake.scan("toy").collect().height == 20
    assert any(entry.key.startswith("lake/toy/rows/_delta_log/") for entry in bucket.objects.all())


def test_more_objects_than_a_page_are_all_listed(bucket: Any) -> None:
    for number in range(1005):
        bucket.put_object(Key=f"in/{number:04d}.csv", Body=b"")
    assert len(list(files.look(f"s3://{bucket.name}/in"))) == 1005


def test_an_object_that_was_replaced_or_removed_after_the_listing_is_not_read(bucket: Any, tmp_path: Path) -> None:
    bucket.put_object(Key="in/a.csv", Body=csv(5))
    (listed,) = list(files.look(f"s3://{bucket.name}/in"))
    bucket.put_object(Key="in/a.csv", Body=csv(6))
    with pytest.raises(Changed):
        files.fetch(listed, tmp_path)
    bucket.Object("in/a.csv").delete()
    with pytest.raises(Changed):
        files.fetch(listed, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_the_access_is_said(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceUnavailable, match="NoSuchBucket"):
        list(files.look("s3://no-such-bucket/in"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    aws.forget()
    with pytest.raises(SourceUnavailable, match="Correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        list(files.look(f"s3://{bucket.name}/in"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws.forget()
    with pytest.raises(SourceUnavailable, match="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        list(files.look(f"s3://{bucket.name}/in"))
    assert ledger.history("toy") == ()


def test_a_server_that_does_not_answer_is_named(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SourceUnavailable, match="AWS_ENDPOINT_URL"):
        list(files.look(f"s3://{bucket.name}/in"))
