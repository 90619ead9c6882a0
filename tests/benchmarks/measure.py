"""Measuring: a command's CPU seconds and wall, a server's CPU seconds, and one line of the table for each figure."""

import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

console = Console(width=150)


@dataclass(frozen=True)
class Cost:
    """What something took: CPU seconds (user and system, children included), wall seconds, and peak memory in MB."""

    cpu: float
    wall: float
    peak: float = 0.0


def command(words: Sequence[str | Path], environment: Mapping[str, str]) -> Cost:
    """Run a command to its end and give what it took.

    Raises:
        RuntimeError: if it does not end with 0; its output is in the message.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in words], env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        output = process.stdout.read() if process.stdout else b""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{words} ended with {process.returncode}:\n{output.decode(errors='replace')[-3000:]}")
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024)


def block(function: Callable[[], object]) -> Cost:
    """Give what a call takes in this process."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    function()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.perf_counter() - started, after.ru_maxrss / 1024)


def process_cpu(pids: Sequence[int]) -> float:
    """Give the CPU seconds that processes and their children that still run have used so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(entry.name) in pids or int(fields[1]) in pids or int(fields[2]) in pids:
                total += int(fields[11]) + int(fields[12])
    return total / ticks


def median(costs: Sequence[Cost]) -> Cost:
    """Give the medians."""
    return Cost(*(statistics.median(values) for values in ([c.cpu for c in costs], [c.wall for c in costs], [c.peak for c in costs])))


def tell(figure: str, n: int, ours: float, floor: float, target: float, unit: str, *, at_least: bool = False, note: str = "") -> None:
    """Print a figure as a ratio to its floor, and whether the target is met."""
    ratio = ours / floor if floor else float("inf")
    met = ratio >= target if at_least else ratio <= target
    word = ">=" if at_least else "<="
    verdict = "[green]ok[/]" if met else "[bold red]MISSED[/]"
    console.print(
        f"{figure:62} n={n:<2} ours {ours:10,.3f}  floor {floor:10,.3f} {unit:10} ratio {ratio:7.3f}  target {word} {target:<6g} {verdict}  {note}",
        highlight=False,
    )


def spread(figure: str, seconds: Sequence[float], *, p50: float | None = None, worst: float | None = None, note: str = "") -> None:
    """Print the median and the largest of some waits, and whether the targets are met where there are any."""
    middle, largest = statistics.median(seconds), max(seconds)
    held = [(name, value, bound) for name, value, bound in (("p50", middle, p50), ("max", largest, worst)) if bound is not None]
    met = all(value <= bound for _, value, bound in held)
    verdict = ("[green]ok[/]" if met else "[bold red]MISSED[/]") if held else ""
    targets = ", ".join(f"{name} <= {bound:g}" for name, _, bound in held)
    console.print(
        f"{figure:62} n={len(seconds):<3} p50 {middle:8.3f}  max {largest:8.3f} s  {'target ' if held else ''}{targets} {verdict}  {note}",
        highlight=False,
    )


def peak(pid: int | str = "self") -> float:
    """Give the most memory that a running process has had resident, in MB.

    Not `ru_maxrss`: that of a new process starts with what its parent had.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
