"""Whole cycles whose ledger is on PostgreSQL: what they decide is there, and nothing of it in the home."""

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from flows.training import continuous_training
from tasks.stores import ledger, models
from tests.landing import arrival, toy_rows

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("new_ledger", ["postgresql"], indirect=True)
def test_whole_cycles_crown_a_first_model_and_keep_it_with_all_on_record(cycle_home: Path, new_ledger: Callable[[], str]) -> None:
    inbox = cycle_home / "inbox" / "toy"
    inbox.mkdir(parents=True)
    toy_rows(400).write_csv(inbox / "a.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    (inbox / "bad.csv").write_text("no such columns\n1\n")
    first = continuous_training("toy")
    assert (first.verdict, first.previous) == ("promote", None)
    assert first.as_dict() == ledger.decision("toy", 1)
    assert [(champion.version, champion.until) for champion in ledger.champions("toy")] == [(first.champion, None)]
    assert (arrival("a.csv").state, arrival("bad.csv").state) == ("ingested", "quarantined")
    toy_rows(400, first=400).write_csv(inbox / "b.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    second = continuous_training("toy")
    assert (second.verdict, second.champion, second.arrivals) == ("keep", first.champion, ("b.csv",))
    assert models.pointed("toy") == first.champion
    assert ledger.unfinished("toy") == ()
    assert ledger.lease_holder("toy") is None
    assert [cycle.state for cycle in ledger.list_cycles("toy")] == ["done", "done"]
    assert not list(cycle_home.rglob("ledger*.db"))
    with ledger.transaction() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM decisions")).scalar() == 2
        assert connection.dialect.name == "postgresql"
