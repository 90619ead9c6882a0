"""A whole cycle against the floor: cold from the command line, warm in one process, and with nothing new."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import stack
from tasks import settings
from tests.benchmarks import data
from tests.benchmarks.measure import block, command, console, median, process_cpu, tell

PIPELINES = Path(__file__).parent / "pipelines"
FLOOR = [sys.executable, "-m", "tests.benchmarks.floor"]
RATCHET = Path(sys.executable).parent / "ratchet"


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """Run the embedded servers in a home of their own, and give the environment that names them."""
    with tempfile.TemporaryDirectory() as home:
        place = settings.read({"RATCHET_HOME": home})
        found = stack.up(place)
        os.environ.update(
            {"PREFECT_API_URL": found.prefect_api_url, "MLFLOW_TRACKING_URI": found.mlflow_url, "RATCHET_PIPELINES": str(PIPELINES)}
        )
        os.environ.update({"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING", "PIDS": ",".join(str(part.pid) for part in found.parts)})
        try:
            yield {}
        finally:
            from prefect.events.worker import EventsWorker
            from prefect.logging.handlers import APILogWorker

            APILogWorker.drain_all()
            EventsWorker.drain_all()
            stack.down(place)


def server_cpu() -> float:
    """Give what both servers have used so far."""
    return process_cpu([int(pid) for pid in os.environ["PIDS"].split(",")])


@contextmanager
def fresh_home() -> Iterator[Path]:
    """Give a home that has seen nothing."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["RATCHET_HOME"] = home
        yield Path(home)


def electricity(runs: int) -> None:
    """Cold and warm cycles on the whole of Elec2."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "in"
        if not data.elec2(source):
            console.print(f"Elec2 is not at {data.ELEC2}: set RATCHET_BENCH_ELEC2 to its file. The figures on it are left out.")
            return
        floors, ours, used = [], [], []
        for _ in range(runs):
            floors.append(command([*FLOOR, "flows.pipelines.electricity", source, Path(place) / "model"], {}))
            before = server_cpu()
            with fresh_home():
                ours.append(command([RATCHET, "run", "electricity", "--source", source], {}))
            used.append(server_cpu() - before)
        floor, our = median(floors), median(ours)
        note = f"the servers used {sorted(used)[len(used) // 2]:.2f} CPU s besides"
        tell("cold `ratchet run electricity`, whole Elec2, CPU", runs, our.cpu, floor.cpu, 2.0, "CPU s", note=note)
        tell(
            "  the same, wall beyond the floor's, against 6 s",
            runs,
            our.wall - floor.wall,
            6.0,
            1.0,
            "s",
            note=f"ours {our.wall:.2f} s, floor {floor.wall:.2f} s",
        )
        _warm(source, runs, floor.cpu, floor.wall)


def _warm(source: Path, runs: int, floor_cpu: float, floor_wall: float) -> None:
    from flows.training import continuous_training

    imports = median(
        [command([sys.executable, "-c", "import tests.benchmarks.floor, flows.pipelines.electricity"], {}) for _ in range(runs)]
    )
    warm, idle = [], []
    with fresh_home():
        continuous_training("electricity", source=str(source))
    for _ in range(runs):
        with fresh_home():
            warm.append(block(lambda: continuous_training("electricity", source=str(source))))
            idle += [block(lambda: continuous_training("electricity", source=str(source))) for _ in range(2)]
    work, full = floor_cpu - imports.cpu, median(warm)
    note = f"floor's own work {work:.2f} CPU s; wall {full.wall:.2f} s, floor {floor_wall - imports.wall:.2f} s"
    tell("warm cycle, CPU beyond the floor's own work, against 2 s", runs, full.cpu - work, 2.0, 1.0, "CPU s", note=note)
    tell(
        "nothing new, share of a full cycle, CPU",
        len(idle),
        median(idle).cpu,
        full.cpu,
        0.05,
        "CPU s",
        note=f"wall {median(idle).wall:.2f} s",
    )


def big(runs: int, files: int, rows: int) -> None:
    """A whole cycle on many rows."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "in"
        data.made_up(source, files=files, rows=rows, ending=".csv")
        floors, ours = [], []
        for _ in range(runs):
            floors.append(command([*FLOOR, "flows.pipelines.big", source, Path(place) / "model"], {}))
            with fresh_home():
                ours.append(command([RATCHET, "run", "big", "--source", source], {}))
        floor, our = median(floors), median(ours)
        name = f"whole cycle, {files} files of {rows:,} rows x 12, CPU"
        tell(name, runs, our.cpu, floor.cpu, 1.15, "CPU s", note=f"wall {our.wall:.1f} and {floor.wall:.1f} s")
        console.print(f"  peak memory: ours {our.peak:,.0f} MB, floor {floor.peak:,.0f} MB")
