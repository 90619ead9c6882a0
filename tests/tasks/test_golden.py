"""The golden set: read as strictly as it is trusted, compared without a pass where anything fails."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest

from tasks import frames, golden
from tasks.errors import BrokenPipeline
from tasks.evaluate import compare
from tasks.records import Champion, Fitted, Prepared, Snapshot
from tasks.spec import Pipeline
from tasks.stores import models
from tasks.stores.kept import Loaded
from tests.pipelines.toy import PIPELINE as TOY

ROW = {"id": 1, "at": "2026-01-01T00:00:00", "x": 1.0, "colour": "red", "after": 0.0, "label": "yes"}


def with_golden(path: Path | str | None, pipeline: Pipeline = TOY) -> Pipeline:
    return replace(pipeline, gate=replace(pipeline.gate, golden=None if path is None else str(path)))


def rows(count: int, seed: int = 0) -> pl.DataFrame:
    random = np.random.default_rng(seed)
    x = random.normal(size=count)
    label = np.where(x + random.normal(0, 1, count) > 0, "yes", "no")
    start = np.datetime64("2026-01-01T00:00:00", "us")
    times = start + np.arange(count) * np.timedelta64(3600, "s")
    return pl.DataFrame(
        {"id": np.arange(count), "at": times, "x": x, "colour": ["red", "green"] * (count // 2), "after": 0.0, "label": label}
    )


def test_a_golden_sets_digest_is_that_of_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("golden.csv").write_bytes(b"id\n1\n")
    assert golden.digest(with_golden("golden.csv")) == hashlib.sha256(b"id\n1\n").hexdigest()
    assert golden.digest(with_golden(None)) is None


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet", ".jsonl"])
def test_golden_rows_have_the_contracts_types_and_imputed_values(tmp_path: Path, ending: str) -> None:
    made, path = rows(6).with_columns(pl.Series("colour", ["red", None, "green"] * 2)), tmp_path / f"golden{ending}"
    {
        ".csv": lambda: made.write_csv(path),
        ".csv.gz": lambda: pd.DataFrame(made.to_dict(as_series=False)).to_csv(path, index=False),
        ".parquet": lambda: made.write_parquet(path),
        ".jsonl": lambda: made.write_ndjson(path),
    }[ending]()
    found = golden.read(with_golden(path, replace(TOY, impute={"colour": "green"})))
    assert found.schema == made.cast({"at": pl.Datetime("us")}).schema
    assert found["colour"].to_list() == ["red", "green", "green"] * 2
    assert found["x"].to_list() == pytest.approx(made["x"].to_list())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "id,at,x,colour,after,label\n1,2026-01-01T00:00:00,1.0,red,0,yes\n2,2026-01-01T00:00:00,99,red,0,yes\n",
            "row 2 has '99.0' in 'x'",
        ),
        ("id,at,x,colour,after,label\none,2026-01-01T00:00:00,1.0,red,0,yes\n", "row 1 has 'one' in 'id'"),
        ("id,at,x,colour,after,label\n", "no row"),
        ("id,at,x,colour,after\n1,2026-01-01T00:00:00,1.0,red,0\n", r"Columns \['label'\] are missing"),
        ("", "empty"),
    ],
)
def test_a_golden_set_that_breaks_the_contract_is_refused_with_the_row(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "golden.csv"
    path.write_text(content)
    with pytest.raises(BrokenPipeline, match=told):
        golden.read(with_golden(path))


def test_a_golden_set_that_is_missing_is_refused_with_its_path(tmp_path: Path) -> None:
    for ask in (golden.read, golden.digest):
        with pytest.raises(BrokenPipeline, match=r"gone\.csv.*No such file"):
            ask(with_golden(tmp_path / "gone.csv"))
    with pytest.raises(BrokenPipeline, match="ending"):
        (tmp_path / "golden.txt").write_text("1")
        golden.read(with_golden(tmp_path / "golden.txt"))


class Threshold:
    """A model of the toy pipeline that goes by x alone, turned round if `sign` is -1; one that refuses what is far out, if told to."""

    classes_ = np.array([0, 1])

    def __init__(self, sign: float, limit: float = 100.0) -> None:
        self.sign, self.limit = sign, limit

    def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
        if (features["x"].abs() > self.limit).any():
            raise ValueError("never met such an x")
        positive = 1 / (1 + np.exp(-self.sign * features["x"].to_numpy()))
        return np.column_stack([1 - positive, positive])


@pytest.fixture
def comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Compare two thresholds on 400 unseen rows, and on a golden set where one is given; the registry is left out."""

    def run(golden_file: Path | None, new: Threshold, old: Threshold | None, **changes: Any) -> Any:
        pipeline = with_golden(golden_file, replace(TOY, **changes))
        made = rows(600)
        features = frames.apply_features(TOY.features, frames.to_pandas(made.select(frames.known_in_time(TOY))), "toy")
        columns = {name: str(dtype) for name, dtype in features.dtypes.items()}
        pl.from_pandas(features).with_columns(frames.target_of(TOY, made).alias("_target")).write_ipc(
            tmp_path / "f", compression="uncompressed"
        )
        made.tail(400).write_ipc(tmp_path / "raw", compression="uncompressed")
        joblib.dump(new, tmp_path / "model")
        snapshot = Snapshot("", 1, 600, "a", "z", "")
        prepared = Prepared(snapshot, str(tmp_path / "f"), str(tmp_path / "raw"), columns, 200, 400, (0, 1), (0, 1), (0, 1), "m", "n")
        fitted = Fitted("linear", {}, str(tmp_path / "model"), 200, 0.0, 1)
        monkeypatch.setattr(models, "load", lambda _: Loaded(old, TOY, columns))
        champion = None if old is None else Champion("toy", 3, "", "", 1, "linear", {}, None, 1, "")
        return compare(pipeline, prepared, fitted, champion, tmp_path, 0.001)

    return run


def test_a_comparison_fills_every_difference_at_its_level(comparison: Callable[..., Any]) -> None:
    found = comparison(None, Threshold(1), Threshold(-1))
    assert found.difference == found.differences["log_loss"]
    assert found.difference.alpha == 0.001
    assert found.difference.proven_low > 0
    assert set(found.differences) == set(found.challenger.metrics)
    assert set(found.slice_differences) == {"colour=red", "colour=green", "positive_x"}
    assert found.changed == 1
    assert (found.golden, found.golden_error) == (None, None)
    assert found.difference.method.endswith("20 groups")


def test_blocks_say_what_is_one_draw(comparison: Callable[..., Any]) -> None:
    assert comparison(None, Threshold(1), Threshold(-1), blocks="rows").difference.method.endswith("400 independent rows")
    assert comparison(None, Threshold(1), Threshold(-1), blocks=("id",)).difference.method.endswith("400 groups")
    assert comparison(None, Threshold(1), Threshold(-1), blocks=("colour",)).difference.proven_low is None


def test_without_a_champion_nothing_is_compared_and_a_broken_golden_set_is_told_of(comparison: Callable[..., Any], tmp_path: Path) -> None:
    found = comparison(tmp_path / "gone.csv", Threshold(1), None)
    assert (found.difference, found.differences, found.slice_differences, found.changed, found.golden) == (None, {}, {}, None, None)
    assert "gone.csv" in found.golden_error


def test_the_golden_set_shows_a_challenger_that_is_worse_on_it(comparison: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "golden.parquet"
    rows(200, seed=9).with_columns(label=pl.when(pl.col("label") == "yes").then(pl.lit("no")).otherwise(pl.lit("yes"))).write_parquet(path)
    found = comparison(path, Threshold(1), Threshold(-1))
    assert found.difference.proven_low > 0
    assert found.golden.proven_high < 0
    assert found.golden.method.endswith("200 independent rows")
    assert found.golden.alpha == 0.001
    assert comparison(path, Threshold(1), Threshold(-1), blocks=("id",)).golden.method.endswith("200 groups")


@pytest.mark.parametrize("who", ["challenger", "champion"])
def test_a_model_that_cannot_predict_the_golden_set_is_no_pass(comparison: Callable[..., Any], tmp_path: Path, who: str) -> None:
    path = tmp_path / "golden.parquet"
    rows(200).with_columns(x=pl.lit(9.0)).write_parquet(path)
    picky, other = Threshold(1, limit=5), Threshold(-1)
    found = comparison(path, *((picky, other) if who == "challenger" else (other, picky)))
    assert found.golden is None
    assert "never met such an x" in found.golden_error
    assert found.difference is not None


def test_a_champion_that_cannot_predict_the_unseen_rows_is_reported(comparison: Callable[..., Any]) -> None:
    found = comparison(None, Threshold(1), Threshold(1, limit=0.001))
    assert found.champion is None and found.difference is None
    assert "never met such an x" in found.champion_error
