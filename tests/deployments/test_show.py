"""What the command says of the ledger, in words that people use, without servers."""

import io
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from deployments import account, show
from tasks.errors import UserError
from tasks.records import Look
from tasks.stores import ledger
from tasks.stores.names import unfit

Printed = Callable[[], str]


@pytest.fixture
def printed(home: Path, monkeypatch: pytest.MonkeyPatch) -> Printed:
    output = io.StringIO()
    console = Console(file=output, width=400)
    for module in (show, account):
        monkeypatch.setattr(module, "console", console)
    return output.getvalue


def land(name: str, content: str = "one") -> None:
    ledger.observe("toy", [(Look(name, f"/{name}", 1, content), content, True)])


def test_the_cycle_that_runs_is_named_with_its_process_and_after_it_none(printed: Printed) -> None:
    lease = ledger.begin("toy", trigger="test", definition="d", flow_run=None)
    show.status(as_json=False)
    assert f"cycle {lease.cycle}, process {os.getpid()} " in printed()
    assert "pid:[" not in printed()
    ledger.end(lease)
    ledger.release(lease)
    assert show._running(show._state("toy")) == "-"


def test_a_process_of_another_machine_is_named_with_that(home: Path) -> None:
    row = {"running": "elsewhere:pid:[1]/42/7", "running_cycle": 3}
    assert show._running(row) == "cycle 3, process 42 on elsewhere"


def test_files_that_were_never_read_are_told_from_bad_ones(printed: Printed) -> None:
    for content in ("one", "two"):
        land("over.csv", content)
    land("gone.csv", "three")
    lease = ledger.begin("toy", trigger="test", definition="d", flow_run=None)
    ledger.sort_out(lease)
    ledger.give_up(lease, [(part, ledger.GONE) for part in ledger.outstanding("toy") if part.name == "gone.csv"])
    assert ledger.tally("toy") == {"pending": 1, "replaced before it was read": 1, "gone before it was read": 1}
    account.arrivals("toy", 10, as_json=False, unseen=False)
    assert "quarantined (replaced before it was read)" in printed()
    assert "quarantined (gone before it was read)" in printed()


def test_a_file_is_found_however_the_letters_of_its_name_are_written(printed: Printed) -> None:
    composed, apart = (unicodedata.normalize(form, "für.csv") for form in ("NFC", "NFD"))
    assert (unfit(composed), unfit(apart)) == (None, None)
    land(apart)
    account.why("toy", composed, as_json=False)
    assert f"{apart}  arrival 1" in printed()


def test_a_name_that_is_no_text_is_said_to_be_so_with_what_to_do(home: Path) -> None:
    (home / "inbox" / "toy").mkdir(parents=True)
    name = os.fsdecode(b"latin1-\xe9.csv")
    (home / "inbox" / "toy" / name).write_text("x")
    with pytest.raises(UserError, match=r"is no arrival of 'toy': ignored .*no text \(UTF-8\), or leads elsewhere; rename it"):
        account.why("toy", name, as_json=False)
