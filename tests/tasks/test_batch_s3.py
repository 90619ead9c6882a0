"""Batch scoring from and to a real S3 server."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows import pipelines
from tasks import batch, parts, score
from tasks.errors import SourceUnavailable, UserError
from tasks.scorings import Scored
from tasks.stores import ledger
from tests.championed import champion
from tests.landing import toy_rows
from tests.servers import aws, radosgw

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(radosgw.absent()), reason=f"not installed: {', '.join(radosgw.absent())}; see .ci/packages"),
]


@pytest.fixture
def bucket(s3_endpoint: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    aws.use(monkeypatch, s3_endpoint, radosgw.ACCESS, radosgw.SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    champion(tmp_path)
    yield aws.bucket(s3_endpoint, home)
    aws.forget()


def ask(source: str, output: str) -> tuple[Scored, ...]:
    asked = batch.order(pipelines.get("toy"), output, "parquet", source)
    return tuple(batch.score(asked, look) for look in batch.inputs(source)[0])


def put(bucket: Any, key: str, rows: pl.DataFrame) -> None:
    content = io.BytesIO()
    rows.write_parquet(content)
    bucket.put_object(Key=key, Body=content.getvalue())


def keys(bucket: Any) -> list[str]:
    return [entry.key for entry in bucket.objects.filter(Prefix="out")]


def test_objects_are_scored_once_into_a_prefix(bucket: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "rows_of_block", lambda columns: 500)
    monkeypatch.setattr(parts, "BLOCKS", 2)
    rows = toy_rows(2_300).with_columns(x=pl.when(pl.col("id") == 3).then(99.0).otherwise("x"))
    put(bucket, "in/2024/a b+ü.parquet", rows)
    bucket.put_object(Key="in/broken.csv", Body=b"")
    source, output = f"s3://{bucket.name}/in", f"s3://{bucket.name}/out/"
    made = ask(source, output)
    assert [(part.outcome, part.rows, part.rejected) for part in made] == [("scored", 2_300, 1), ("refused", 0, 0)]
    found = keys(bucket)
    assert [key.rpartition("/")[0] for key in found] == ["out/predictions"] * 3 + ["out/rejected"]
    assert sorted(made[0].outputs) == [f"s3://{bucket.name}/{key}" for key in found]
    parquets = [io.BytesIO(bucket.Object(key).get()["Body"].read()) for key in found[:3]]
    got = pl.concat([pl.read_parquet(content) for content in parquets])
    wanted = score.load("models:/toy@champion", pipelines.get("toy")).predict(rows.filter(pl.col("id") != 3))
    assert got["p_1"].to_list() == wanted["p_1"].to_list()
    assert got["_file"].unique().to_list() == [f"s3://{bucket.name}/in/2024/a b+ü.parquet"]
    before = {key: bucket.Object(key).last_modified for key in found}
    assert [part.outcome for part in ask(source, output)] == ["known", "refused"]
    assert {key: bucket.Object(key).last_modified for key in keys(bucket)} == before
    left = [path for name in ("rooms", "toy.scoring") for path in (home / "work" / name).rglob("*")]
    assert [path for path in left if path.is_file()] == []  # no copy of what was read or written stays


def test_an_object_of_somebody_elses_is_not_overwritten_and_one_of_ours_is_known_again(bucket: Any) -> None:
    put(bucket, "in/a.parquet", toy_rows(20))
    source, output = f"s3://{bucket.name}/in", f"s3://{bucket.name}/out"
    (made,) = ask(source, output)
    (key,) = keys(bucket)
    with ledger.transaction() as connection:  # put, and killed before the ledger knew
        connection.exec_driver_sql("UPDATE scorings SET state = 'running'")
    written = bucket.Object(key).last_modified
    assert [(part.outcome, part.outputs) for part in ask(source, output)] == [("scored", made.outputs)]
    assert bucket.Object(key).last_modified == written
    bucket.put_object(Key=key, Body=b"mine")
    with ledger.transaction() as connection:
        connection.exec_driver_sql("UPDATE scorings SET state = 'running'")
    with pytest.raises(UserError, match="is not overwritten"):
        ask(source, output)
    assert bucket.Object(key).get()["Body"].read() == b"mine"


def test_a_bucket_that_is_not_there_takes_nothing_and_says_so(bucket: Any) -> None:
    put(bucket, "in/a.parquet", toy_rows(20))
    with pytest.raises(SourceUnavailable, match="NoSuchBucket"):
        ask(f"s3://{bucket.name}/in", "s3://absent-bucket-of-nobody/out")
    assert [row.state for row in ledger.list_scorings("toy")] == ["running"]
