"""Score: the champion by its address, verified and ready to predict raw rows as it did when it was judged."""

import re
from dataclasses import dataclass

import pandas as pd
import polars as pl

from tasks import serving
from tasks.errors import UserError
from tasks.records import Champion
from tasks.spec import Pipeline
from tasks.stores import kept, ledger, models

_ADDRESS = re.compile(r"models:/(?P<name>\w+)(@champion|/(?P<version>\d+))")


@dataclass(frozen=True)
class Scorer:
    """A verified champion, ready to predict."""

    champion: Champion
    model: kept.Loaded

    @property
    def pipeline(self) -> Pipeline:
        """The definition that the champion was made with; a file that was edited since does not change what it is given."""
        return self.model.pipeline

    def predict(self, rows: pl.DataFrame | pd.DataFrame) -> pl.DataFrame:
        """Predict raw rows of the contract, with or without target and hindsight.

        Returns `predicted` (a binary target as 0 or 1) and, where the model has them, the probabilities `p_<class>`.

        Raises:
            UserError: if a column is missing or a value is not of the contract's type.
        """
        given = pl.from_pandas(rows) if isinstance(rows, pd.DataFrame) else rows
        return serving.predict(self.model, given)


def load(address: str, pipeline: Pipeline) -> Scorer:
    """Load `models:/<pipeline>@champion` or `models:/<pipeline>/<version>`, if the ledger knows it as a champion and its bytes are the same.

    The ledger says which version is the champion, whatever the registry's alias points to.

    Raises:
        UserError: if the address is none of these, or that version never was a champion.
        ModelRejected: if the bytes are not those the ledger recorded.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or found["name"] != pipeline.name:
        raise UserError(
            f"{address!r} is no model of {pipeline.name!r}; expected 'models:/{pipeline.name}@champion' or 'models:/{pipeline.name}/<version>'."
        )
    champion = ledger.champion(pipeline.name) if found["version"] is None else ledger.served(pipeline.name, int(found["version"]))
    if champion is None:
        raise UserError(f"{address!r} is no champion that the ledger knows. `ratchet decisions {pipeline.name}` lists what was promoted.")
    return Scorer(champion=champion, model=models.load(champion))
