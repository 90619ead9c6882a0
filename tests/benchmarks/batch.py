"""Batch scoring of many rows, against a bare loop over the same file with the same model: read, predict, write, and nothing else."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from tests.benchmarks.cycle import PIPELINES, fresh_home
from tests.benchmarks.measure import Cost, median, peak, tell

COLUMNS = [f"x{place}" for place in range(12)]
LIMIT = 1_500  # MB
OURS = "import sys; from tests.benchmarks.batch import ours; ours(*sys.argv[1:])"
BARE = "import sys; from tests.benchmarks.batch import bare; bare(*sys.argv[1:])"


def made_up(path: Path, rows: int) -> None:
    """Write rows of the `numbers` pipeline without their labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.float64()) for name in COLUMNS])
    with pq.ParquetWriter(path, schema) as out:
        for number, first in enumerate(range(0, rows, 250_000)):
            part = np.random.default_rng([11, number]).uniform(size=(min(250_000, rows - first), len(COLUMNS)))
            out.write_table(pa.table(dict(zip(COLUMNS, part.T, strict=True)), schema=schema))


def labelled(count: int) -> pl.DataFrame:
    """Make rows to train on."""
    random = np.random.default_rng(3)
    x = random.uniform(size=(count, len(COLUMNS)))
    label = (random.uniform(size=count) < 1 / (1 + np.exp(-6 * (x[:, 0] - x[:, 1] * x[:, 2] - 0.25)))).astype(np.int64)
    return pl.DataFrame(dict(zip(COLUMNS, x.T, strict=True))).with_columns(label=label)


def bare(source: str, model: str, output: str) -> None:
    """Read batch by batch, predict, write."""
    import joblib
    import pyarrow as pa
    import pyarrow.parquet as pq

    estimator, writer = joblib.load(model), None
    began, used = time.perf_counter(), time.process_time()
    for batch in pq.ParquetFile(source).iter_batches(batch_size=250_000):
        rows = batch.to_pandas()
        rows["p_1"] = estimator.predict_proba(rows)[:, 1]
        made = pa.Table.from_pandas(rows, preserve_index=False)
        writer = writer or pq.ParquetWriter(output, made.schema)
        writer.write_table(made)
    if writer is not None:
        writer.close()
    _print(began, used)


def ours(source: str, output: str) -> None:
    """Score the file as `ratchet predict` does."""
    from flows import pipelines
    from tasks import batch

    asked = batch.order(pipelines.get("numbers"), output, "parquet", source)
    looks, _ = batch.inputs(source)
    began, used = time.perf_counter(), time.process_time()
    made = batch.score(asked, looks[0])
    assert made.outcome == "scored", made
    _print(began, used)


def _print(began: float, used: float) -> None:
    print(f"RESULT {time.process_time() - used} {time.perf_counter() - began} {peak()}")


def _child(code: str, *words: str | Path) -> Cost:
    """Run in a process of its own, and give what its loop took and the most memory that the process had."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], check=True, capture_output=True, text=True, env=dict(os.environ))
    return Cost(*(float(word) for word in done.stdout.split("RESULT ")[1].split()[:3]))


def batch(runs: int, sizes: tuple[int, ...]) -> None:
    """Rows per second of the largest size as a ratio to the bare loop, and peak memory of every size."""
    from tests.championed import champion

    os.environ["RATCHET_PIPELINES"] = str(PIPELINES)
    with tempfile.TemporaryDirectory() as given, fresh_home():
        place = Path(given)
        champion(place, name="numbers", rows=labelled(20_000))
        for rows in sizes:
            source = place / f"in-{rows}.parquet"
            made_up(source, rows)
            our, floor = [], []
            for number in range(runs):
                floor.append(_child(BARE, source, place / "v1" / "staged" / "model.joblib", place / "bare.parquet"))
                our.append(_child(OURS, source, place / f"out-{rows}-{number}"))
            a, b = median(our), median(floor)
            note = f"CPU {a.cpu:.1f} and {b.cpu:.1f} s; bare peak {b.peak:,.0f} MB"
            tell(
                f"batch scoring of {rows:,} rows x 12, rows per s",
                runs,
                rows / a.wall,
                rows / b.wall,
                0.8,
                "rows",
                at_least=True,
                note=note,
            )
            tell(f"  peak memory against {LIMIT:,} MB", runs, a.peak, LIMIT, 1.0, "MB")
            source.unlink()
