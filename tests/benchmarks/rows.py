"""Taking in many rows: read, check, drop repeats, commit, against plain readers and hand-written checks."""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl

from tests.benchmarks import data
from tests.benchmarks.cycle import fresh_home
from tests.benchmarks.measure import Cost, block, command, median, tell

TAKE_IN = "import sys; from tests.benchmarks.rows import take_in; take_in(sys.argv[1])"


def take_in(source: str) -> Cost:
    """Take in everything that is outstanding at the source, as a cycle does, and give what the steps took."""
    from flows import pipelines
    from tasks.clean import commit
    from tasks.ingest import batches, stage
    from tasks.observe import survey
    from tasks.stores import ledger

    spec = pipelines.get("big")
    survey(spec.name, source)
    lease = ledger.begin(spec.name, trigger="bench", definition="", flow_run=None)
    ledger.sort_out(lease)

    def steps() -> None:
        for batch in batches(ledger.outstanding(spec.name)):
            staged = stage(spec, batch, Path(os.environ["RATCHET_HOME"]) / "staged")
            commit(spec, lease, staged)
            for part in staged:
                Path(part.good or "").unlink(missing_ok=True)

    cost = block(steps)
    ledger.end(lease)
    ledger.release(lease)
    print(f"RESULT {cost.cpu} {cost.wall}")
    return cost


def _child(source: Path) -> Cost:
    """Take in within a process of its own: CPU of the steps, peak memory of the process."""
    import subprocess

    with fresh_home():
        whole = command([sys.executable, "-c", TAKE_IN, source], {})
    with fresh_home():
        words = [sys.executable, "-c", TAKE_IN, str(source)]
        output = subprocess.run(words, check=True, capture_output=True, text=True, env=dict(os.environ)).stdout
    cpu, wall = (float(word) for word in output.split("RESULT ")[1].split()[:2])
    return Cost(cpu, wall, whole.peak)


def ingest(runs: int, files: int, rows: int) -> None:
    """Rows per CPU second from file to lake, and what plain polars takes to read them."""
    total = files * rows
    for ending, target in ((".csv", 300_000), (".parquet", 1_000_000)):
        with tempfile.TemporaryDirectory() as place:
            source = Path(place) / "in"
            data.made_up(source, files=files, rows=rows, ending=ending)
            ours = median([_child(source) for _ in range(runs)])
            reader = pl.read_parquet if ending == ".parquet" else pl.read_csv
            plain = median([block(lambda reader=reader, source=source: [reader(path) for path in source.iterdir()]) for _ in range(runs)])  # type: ignore[misc]
            note = f"plain polars reads {total / plain.cpu:,.0f} rows per CPU s: ours takes {ours.cpu / plain.cpu:.1f} x as much"
            tell(
                f"ingest {total:,} rows of {ending[1:]}, rows per CPU s",
                runs,
                total / ours.cpu,
                float(target),
                1.0,
                "rows",
                at_least=True,
                note=note,
            )
            tell("  peak memory against 1,500 MB", runs, ours.peak, 1500.0, 1.0, "MB")


def one_arrival(runs: int, rows: int = 20_000) -> None:
    """The fiftieth arrival against all fifty, and the lake's content either way."""
    from flows import pipelines
    from tasks.feature import content_digest, ordered_rows
    from tasks.stores import lake

    lasts, alls, digests = [], [], set()
    with tempfile.TemporaryDirectory() as place:
        store, source = Path(place) / "store", Path(place) / "in"
        data.made_up(store, files=50, rows=rows, ending=".csv")
        for _ in range(runs):
            for way in ("at once", "one by one"):
                with fresh_home():
                    source.mkdir()
                    for path in sorted(store.iterdir()):
                        os.link(path, source / path.name)
                        if way == "one by one":
                            last = take_in(str(source))
                    whole = take_in(str(source)) if way == "at once" else None
                    version = lake.version("big") or 0
                    digests.add(content_digest(ordered_rows(pipelines.get("big"), version), ["at", "x0", "x8", "kind", "label"]))
                    for path in source.iterdir():
                        path.unlink()
                    source.rmdir()
                if whole is not None:
                    alls.append(whole)
                else:
                    lasts.append(last)
    note = "contents are equal bit for bit" if len(digests) == 1 else "THE CONTENTS DIFFER"
    tell(
        f"one arrival of 50 ({rows:,} rows each) against all 50, CPU", runs, median(lasts).cpu, median(alls).cpu, 1 / 20, "CPU s", note=note
    )


def checks(runs: int, rows: int) -> None:
    """The contract against checks by hand, and dropping repeats against pandas."""
    from flows import pipelines
    from tasks import contract
    from tasks.clean import marks

    spec = pipelines.get("big")
    with tempfile.TemporaryDirectory() as place:
        data.made_up(Path(place), files=1, rows=rows, ending=".parquet")
        frame = pl.read_parquet(Path(place) / "part-000.parquet")
        typed = frame.with_row_index("_row")
        staged = frame.with_columns(_arrival=pl.lit("a"), _seq=pl.lit(1), _row=pl.int_range(pl.len()))
        staged.write_ipc(Path(place) / "staged.arrow", compression="uncompressed")
        pandas = frame.to_pandas()
        ours = median([block(lambda: contract.check(typed, spec.contract)) for _ in range(runs)])
        hand = median([block(lambda: _by_hand(frame)) for _ in range(runs)])
        mine = median([block(lambda: marks(spec, pl.scan_ipc(Path(place) / "staged.arrow"), None)) for _ in range(runs)])
        theirs = median([block(pandas.drop_duplicates) for _ in range(runs)])
    tell(f"contract on {rows:,} rows against numpy by hand, CPU", runs, ours.cpu, hand.cpu, 3.0, "CPU s")
    tell(f"pandas' drop_duplicates on {rows:,} rows against ours, CPU", runs, theirs.cpu, mine.cpu, 3.0, "CPU s", at_least=True)


def _by_hand(frame: pl.DataFrame) -> bool:
    good = np.ones(frame.height, dtype=bool)
    for place in range(9):
        values = frame[f"x{place}"].to_numpy()
        good &= np.isfinite(values)
        if place < 5:
            good &= (values >= -20) & (values <= 20)
    good &= np.isin(frame["label"].to_numpy(), [0, 1]) & ~frame["at"].is_null().to_numpy()
    good &= pd.Series(frame["kind"].to_list()).isin(["a", "b", "c"]).to_numpy()
    return bool(good.all())
