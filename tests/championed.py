"""A champion without servers: a model fitted on made-up rows, its verified copy in the home, and the ledger's word that it serves."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from tasks.records import Champion
from tasks.stores import ledger
from tasks.stores.ledger.champions import crown
from tests.landing import toy_rows
from tests.stored import store


def champion(into: Path, *, name: str = "toy", version: int = 1, rows: pl.DataFrame | None = None, definition: str = "") -> Champion:
    """Make a version and let it be the champion."""
    given = toy_rows(400, seed=version) if rows is None else rows
    made = replace(store(name, given, into / f"v{version}", definition=definition).candidate, version=version, since=ledger.now())
    with ledger.transaction() as connection:
        crown(connection, made)
    return made
