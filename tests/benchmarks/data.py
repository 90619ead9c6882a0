"""What the benchmarks run on: the real Elec2 stream where it is to be had, and made-up files of any size."""

import gzip
import os
from pathlib import Path

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parents[2]
ELEC2 = Path(os.environ.get("RATCHET_BENCH_ELEC2", ROOT.parent / "shared" / "data" / "elec2.csv.gz"))


def elec2(directory: Path, parts: int = 24) -> bool:
    """Lay Elec2 into a directory as CSV files in order of time; tell whether its file is there."""
    if not ELEC2.exists():
        return False
    rows = pl.read_csv(gzip.decompress(ELEC2.read_bytes()), infer_schema=False)
    directory.mkdir(parents=True, exist_ok=True)
    size = -(-rows.height // parts)
    for number in range(parts):
        rows.slice(number * size, size).write_csv(directory / f"part-{number:03d}.csv")
    return True


def made_up(directory: Path, *, files: int, rows: int, ending: str) -> None:
    """Lay made-up files of the `big` pipeline into a directory: 12 columns, half an hour apart, one row in a thousand there twice."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        random = np.random.default_rng([7, number])
        x = random.normal(size=(rows, 9)).round(6)
        first = np.datetime64("2020-01-01T00:00:00") + np.timedelta64(number * rows, "s")
        frame = pl.DataFrame(
            {
                "at": (first + np.arange(rows).astype("timedelta64[s]")).astype("datetime64[us]"),
                **{f"x{place}": x[:, place] for place in range(9)},
                "kind": random.choice(["a", "b", "c"], rows),
                "label": (random.uniform(size=rows) < 1 / (1 + np.exp(-x[:, 0] - x[:, 1] * x[:, 2]))).astype(np.int64),
            }
        ).with_columns(pl.col("at").cast(pl.Datetime("us")))
        frame = pl.concat([frame, frame.head(rows // 1000)])
        path = directory / f"part-{number:03d}{ending}"
        frame.write_parquet(path) if ending == ".parquet" else frame.write_csv(path, datetime_format="%Y-%m-%dT%H:%M:%S")
