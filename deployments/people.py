"""What people decide about champions: approve, reject, roll back, and the history of it all."""

import getpass
from contextlib import suppress
from dataclasses import asdict

from deployments.plain import said
from deployments.show import as_json_text, console, known
from flows.embedded import connected
from tasks.errors import Unreachable, UserError
from tasks.promote import settle_effects
from tasks.records import Champion
from tasks.stores import ledger, models


def answer(name: str, *, approve: bool, who: str | None, why: str) -> None:
    """Approve or reject the version that waits, and say what came of it.

    Raises:
        UserError: if nothing waits, or no reason is given.
        LedgerError: if the champion has changed since; the proposal lapses.
    """
    from flows.approval import answered

    known(name)
    with connected():
        console.print(said(answered(name, approve=approve, who=who or getpass.getuser(), why=why)))


def roll_back(name: str, *, to: int | None, who: str | None, why: str) -> None:
    """Make an earlier champion the champion again, once its files were verified, and say so.

    Raises:
        UserError: if there is no such champion, its version was deleted from the registry, or no reason is given.
        ModelRejected: if its files are not those that were promoted; the champion stays.
    """
    known(name)
    if not why.strip():
        raise UserError("A rollback needs a reason: --reason 'why'. It is kept with the champion. Nothing was changed.")
    with connected():
        target = ledger.earlier_champion(name, to)
        models.fetch(target)
        _refuse_deleted(target)
        made = ledger.roll_back(name, who=who or getpass.getuser(), why=why, to=to)
        left = settle_effects(name)
    console.print(said(f"Version {made.version} ({made.candidate}) is the champion of {name} again since {made.since[:19]} UTC."))
    console.print(
        f"Evidence against it are rows newer than {made.evidence_after}: the version before had its say on the others.", markup=False
    )
    for note in left:
        console.print(said(note))


def _refuse_deleted(target: Champion) -> None:
    with suppress(Unreachable):  # the way back is open without the registry too: its alias is moved once it answers
        if not models.exists(target.pipeline, target.version):
            raise UserError(
                f"Version {target.version} of {target.pipeline!r} was deleted from the registry: its alias cannot point there, and whoever reads it "
                f"would go on with the version of today. Name another with --to; `ratchet champions {target.pipeline}` lists them. Nothing was changed."
            )


def champions(name: str, *, as_json: bool) -> None:
    """Show which version served when, how it came there, and why; the newest first."""
    known(name)
    found = ledger.champions(name)
    if as_json:
        as_json_text([asdict(champion) for champion in found])
        return
    for part in found:
        console.print(said(*_line(part)), highlight=False)
        console.print(said("    ", (part.reason or "", "dim")), highlight=False)
    if not found:
        console.print(f"{name} has had no champion yet.")


def _line(part: Champion) -> tuple[str | tuple[str, str], ...]:
    how = f"{part.how}{f' by {part.who}' if part.who else ''}"
    fitted = "all rows" if part.served == "refit" else "the rows before those it was tested on,"
    served = f"{part.since[:16].replace('T', ' ')} to {(part.until or 'now')[:16].replace('T', ' ')}"
    return (
        f"version {part.version:<4} {served}  ",
        (how, "bold"),
        f", cycle {part.cycle}: {part.candidate}, fitted on {fitted} to {part.trained_until}",
    )
