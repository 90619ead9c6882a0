"""`make simulate`: how often equal models are promoted, and how soon better ones are, by the functions that the gate itself uses."""

from rich.console import Console
from rich.table import Table

from tests.simulation import streams
from tests.simulation.streams import CYCLES, LEVEL, Share

SEED = 4


def main() -> None:
    """Print the three tables; the seed is fixed."""
    console = Console(width=150)
    console.print(f"seed {SEED}, {CYCLES} decisions a stream, error budget {LEVEL} a stream: {LEVEL / CYCLES:.5f} a decision")
    console.print(_wrong("Equal models, accuracy, 2,000 streams: any wrong promotion", streams.equal_accuracy(2_000, SEED)))
    console.print(_wrong("Equal models, a mean loss in 20 blocks of time: any wrong promotion", streams.equal_losses(2_000, SEED)))
    table = Table(
        title=f"Better models, {streams.DISAGREEING:.0%} of rows disagree: cycles until promotion (median), and share promoted within {CYCLES}"
    )
    for heading in ("better by", "rows a cycle", "median cycle", f"promoted within {CYCLES}", "within 1"):
        table.add_column(heading, justify="right")
    for gain, rows, waits in streams.better_accuracy(2_000, SEED):
        middle = streams.median_wait(waits)
        within = [f"{float((waits <= bound).mean()):.1%}" for bound in (CYCLES, 1)]
        table.add_row(f"{gain:.1%}", f"{rows:,}", f"{middle:g}" if middle <= CYCLES else f"> {CYCLES}", *within)
    console.print(table)


def _wrong(title: str, found: dict[str, Share]) -> Table:
    table = Table(title=title)
    for heading in ("rule", "streams with any", "share", "95 % interval", f"budget {LEVEL:g}"):
        table.add_column(heading, justify="left" if heading == "rule" else "right")
    for name, share in found.items():
        low, high = share.interval(0.95)
        verdict = "kept" if high <= LEVEL else "not contradicted" if low <= LEVEL else "BROKEN"
        table.add_row(name, f"{share.hits:,} of {share.trials:,}", f"{share.hits / share.trials:.2%}", f"{low:.2%} to {high:.2%}", verdict)
    return table


if __name__ == "__main__":
    main()
