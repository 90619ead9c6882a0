"""What people decide about champions: approve, reject, roll back, and the history of it all."""

import getpass
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployments.plain import plain
from deployments.show import as_json_text, known
from flows.approval import answered
from flows.embedded import connected
from tasks.errors import UserError
from tasks.promote import settle_effects
from tasks.records import Champion
from tasks.stores import ledger, models

console = Console()


def answer(name: str, *, approve: bool, who: str | None, why: str) -> None:
    """Approve or reject the version that waits, and say what came of it.

    Raises:
        UserError: if nothing waits, or no reason is given.
        LedgerError: if the champion has changed since; the proposal lapses.
    """
    known(name)
    with connected():
        console.print(answered(name, approve=approve, who=who or getpass.getuser(), why=why), highlight=False, markup=False)


def roll_back(name: str, *, to: int | None, who: str | None, why: str) -> None:
    """Make an earlier champion the champion again, once its files were verified, and say so.

    Raises:
        UserError: if there is no such champion, or no reason is given.
        ModelRejected: if its files are not those that were promoted; the champion stays.
    """
    known(name)
    if not why.strip():
        raise UserError("A rollback needs a reason: --reason 'why'. It is kept with the champion. Nothing was changed.")
    with connected():
        models.load(ledger.earlier_champion(name, to))
        made = ledger.roll_back(name, who=who or getpass.getuser(), why=why, to=to)
        left = settle_effects(name)
    console.print(f"Version {made.version} ({made.candidate}) is the champion of {name} again since {made.since[:19]} UTC.", markup=False)
    console.print(
        f"Evidence against it are rows newer than {made.evidence_after}: the version before had its say on the others.", markup=False
    )
    for note in left:
        console.print(note, highlight=False, markup=False)


def champions(name: str, *, as_json: bool) -> None:
    """Show which version served when, how it came there, and why; the newest first."""
    known(name)
    found = ledger.champions(name)
    if as_json:
        as_json_text([asdict(champion) for champion in found])
        return
    table = Table("version", "from", "until", "how", "cycle", "candidate", "fitted on", "why")
    for part in found:
        table.add_row(*(Text(plain(cell)) for cell in _row(part)))
    console.print(table if found else f"{name} has had no champion yet.")


def _row(part: Champion) -> tuple[str, ...]:
    how = f"{part.how}{f' by {part.who}' if part.who else ''}"
    fitted = "all rows" if part.served == "refit" else "the tested rows"
    until = (part.until or "now")[:19]
    return (
        str(part.version),
        part.since[:19],
        until,
        how,
        str(part.cycle),
        part.candidate,
        f"{fitted} to {part.trained_until}",
        part.reason or "",
    )
