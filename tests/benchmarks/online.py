"""Online serving: ours against a hand-written server and MLflow's, versions that change under load, and the start of a server."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.benchmarks import data
from tests.benchmarks.cycle import fresh_home
from tests.benchmarks.measure import console, spread, tell

# seconds of a round, which are short and in turn, so that the moods of a machine meet all servers alike; requests a second of a steady load
SECONDS, STEADY = 1.0, 50.0
APART = 2.5  # seconds between two changes of versions
AROUND = 0.25  # seconds before and after a change of versions that count as of it
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}


@dataclass(frozen=True)
class Asked:
    """What one round found: seconds of each request, requests a second."""

    seconds: list[float]
    rate: float

    def ms(self, quantile: float) -> float:
        """Give a quantile in milliseconds."""
        return float(np.quantile(self.seconds, quantile)) * 1e3


def online(rounds: int) -> None:
    """Ask three servers of one model in turn, with one row and with a hundred, over one connection and over eight."""
    with _stored() as (place, candidates, rows), ExitStack() as stack:
        from tests.servers.online import enthrone

        enthrone(candidates[1], 1)
        ours = stack.enter_context(_served(place, [sys.executable, "-m", "deployments.online", "electricity"], "/readyz"))
        words = [sys.executable, "-m", "uvicorn", "tests.benchmarks.floor_api:app", "--no-access-log", "--log-level", "warning"]
        floor = stack.enter_context(_served(place, words, "/docs", {"MODEL": str(place / "1" / "staged" / "model.joblib")}))
        mlflow = stack.enter_context(_mlflow(place, candidates[1]))
        for count in (1, 100):
            bodies = _bodies(place, rows, count)
            for connections in (1, 8):
                found: dict[str, list[Asked]] = {"ours": [], "floor": [], "mlflow": []}
                for _ in range(rounds):
                    for name, url, body in (("ours", ours, bodies[0]), ("floor", floor, bodies[0]), ("mlflow", mlflow, bodies[1])):
                        path = "/invocations" if name == "mlflow" else "/v1/predict"
                        found[name].append(_ask(f"{url}{path}", body, connections, SECONDS))
                _told(count, connections, found)


def _told(count: int, connections: int, found: Mapping[str, list[Asked]]) -> None:
    what = f"{count} row{'s' if count > 1 else ''}, {connections} connection{'s' if connections > 1 else ''}"
    rate = {name: float(np.median([one.rate for one in rounds])) for name, rounds in found.items()}
    p50, p99 = ({name: float(np.median([one.ms(part) for one in rounds])) for name, rounds in found.items()} for part in (0.5, 0.99))
    n = len(found["ours"])
    tell(f"online, {what}: requests a second against the floor", n, rate["ours"], rate["floor"], 1.0, "1/s", at_least=True)
    tell("  p50", n, p50["ours"], p50["floor"], 0.6, "ms", note=f"p99 {p99['ours']:.1f} ms, floor {p99['floor']:.1f} ms")
    target, note = (3.0 if connections == 8 else 1.0), f"p50 {p50['mlflow']:.1f} ms, p99 {p99['mlflow']:.1f} ms"
    tell("  requests a second against MLflow's server", n, rate["ours"], rate["mlflow"], target, "1/s", at_least=True, note=note)


def swaps(count: int) -> None:
    """Change the champion again and again under a steady load."""
    with _stored() as (place, candidates, rows):
        from tests.servers.online import enthrone

        enthrone(candidates[0], 1)
        body = _bodies(place, rows, 1)[0]
        with _served(place, [sys.executable, "-m", "deployments.online", "electricity"], "/readyz") as url:
            client = _client(f"{url}/v1/predict", body, 4, 3600, STEADY)
            time.sleep(5)
            changed = []
            for version in range(2, count + 2):
                changed.append(time.time())
                enthrone(candidates[version % 2], version)
                time.sleep(APART)
            client.terminate()
            found = json.loads(client.communicate()[0])
    _told_swaps(found, changed)


def _told_swaps(found: Mapping[str, Any], changed: list[float]) -> None:
    replies = found["replies"]
    first = {version: min(at for at, _, header, _ in replies if header == version) for version in range(2, len(changed) + 2)}
    waits = [first[version] - changed[version - 2] for version in first]
    windows = [(at - AROUND, first[version] + AROUND) for version, at in enumerate(changed, start=2)]
    inside = np.array([any(start <= at <= stop for start, stop in windows) for at, *_ in replies])
    took = np.array([seconds for _, seconds, *_ in replies])
    mixed = sum(header != body for *_, header, body in replies)
    console.print(f"versions changed under {STEADY:.0f} requests a second: {len(changed)} times, {len(replies)} answers", highlight=False)
    verdict = "[green]ok[/]" if not found["failures"] and not mixed else "[bold red]MISSED[/]"
    console.print(f"  failed {found['failures']}, of two versions at once {mixed}  target 0 and 0 {verdict}", highlight=False)
    during, steady = float(np.quantile(took[inside], 0.99)), float(np.quantile(took[~inside], 0.99))
    tell("  p99 while versions change, against the rest", len(changed), during * 1e3, steady * 1e3, 2.0, "ms")
    spread("  from the promotion to the first answer by the new version", waits, p50=2.0)


def starting(runs: int) -> None:
    """Start a server, from the command to the first time that it says it is ready."""
    with _stored() as (place, candidates, _):
        from tests.servers.online import enthrone

        enthrone(candidates[0], 1)
        waits = []
        for _ in range(runs):
            began = time.perf_counter()
            with _served(place, [str(Path(sys.executable).parent / "ratchet"), "serve", "electricity"], "/readyz"):
                waits.append(time.perf_counter() - began)
    spread("`ratchet serve` until it is ready", waits, p50=4.0, note=f"load {os.getloadavg()[0]:.1f}")


@contextmanager
def _stored() -> Iterator[tuple[Path, list[Any], pl.DataFrame]]:
    """Give a home with two models of Elec2, and raw rows of it."""
    from flows import pipelines
    from tasks import contract
    from tests.stored import store

    if not data.ELEC2.exists():
        console.print(f"Elec2 is not at {data.ELEC2}: set RATCHET_BENCH_ELEC2 to its file. The figures on it are left out.")
        return
    raw = pl.read_csv(data.ELEC2, infer_schema=False).tail(12_000).with_row_index("_row")
    rows = contract.parse(raw, pipelines.get("electricity").contract)[0].drop("_row")
    with fresh_home(), tempfile.TemporaryDirectory() as place:
        parts = [rows.head(10_000), rows]
        made = [store("electricity", part, Path(place) / str(number), unseen=1344).candidate for number, part in enumerate(parts)]
        yield Path(place), [replace(one, version=number) for number, one in enumerate(made)], rows.tail(1000)


@contextmanager
def _served(place: Path, words: list[str], health: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    from tests.servers.online import free_port

    url = f"http://127.0.0.1:{(port := free_port())}"
    with (place / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*words, "--port", str(port)], env={**os.environ, **THREADS, **(environment or {})}, stdout=log, stderr=log
        )
    try:
        while not _answers(f"{url}{health}"):
            if process.poll() is not None:
                raise RuntimeError(f"{words} ended:\n{(place / 'server.log').read_text()[-2000:]}")
            time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def _mlflow(place: Path, candidate: Any) -> Iterator[str]:
    from tasks.stores import kept

    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        str(kept.place(candidate.sha256)),
        "--env-manager",
        "local",
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it starts uvicorn by that name
    with _served(
        place, [*command, "--workers", "1"], "/ping", {"PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db"}
    ) as url:
        yield url


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310
        return json.load(reply)


def _bodies(place: Path, rows: pl.DataFrame, count: int) -> tuple[Path, Path]:
    """Write a request for ours and the floor, which take raw rows, and one for MLflow's server, which takes the features."""
    from flows import pipelines
    from tasks import frames

    spec = pipelines.get("electricity")
    raw = rows.head(count).select(frames.known_in_time(spec))
    features = spec.features(frames.to_pandas(raw))
    ours, theirs = place / f"{count}.json", place / f"{count}-features.json"
    ours.write_text(json.dumps({"rows": raw.to_dicts()}, default=lambda moment: moment.isoformat()))
    theirs.write_text(json.dumps({"dataframe_split": json.loads(features.to_json(orient="split", index=False))}))
    return ours, theirs


def _client(url: str, body: Path, connections: int, seconds: float, rate: float | None) -> "subprocess.Popen[str]":
    words = [sys.executable, "-m", "tests.benchmarks.asking", url, str(body), str(connections), str(seconds)]
    return subprocess.Popen([*words, *(["--rate", str(rate)] if rate else [])], stdout=subprocess.PIPE, text=True)


def _ask(url: str, body: Path, connections: int, seconds: float) -> Asked:
    found = json.loads(_client(url, body, connections, seconds, None).communicate()[0])
    if found["failures"]:
        raise RuntimeError(f"{url} failed {found['failures']} requests, as: {found['failed'][0]}")
    taken = [seconds for _, seconds, *_ in found["replies"]]
    return Asked(taken, len(taken) / found["took"])
