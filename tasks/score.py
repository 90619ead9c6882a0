"""Score: the champion by its address, verified and ready to predict raw rows as it did when it was judged."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import polars as pl

from tasks import contract, frames
from tasks.errors import UserError
from tasks.records import Champion
from tasks.spec import Pipeline
from tasks.stores import ledger, models

_ADDRESS = re.compile(r"models:/(?P<name>\w+)(@champion|/(?P<version>\d+))")


@dataclass(frozen=True)
class Scorer:
    """A verified champion with the pipeline whose rows it predicts."""

    pipeline: Pipeline
    champion: Champion
    model: models.Loaded

    def predict(self, rows: pl.DataFrame | pd.DataFrame) -> pl.DataFrame:
        """Predict raw rows of the contract, with or without target and hindsight.

        Returns `predicted` (a binary target as 0 or 1) and, where the model has them, the probabilities `p_<class>`.

        Raises:
            UserError: if a column is missing or a value is not of the contract's type.
        """
        columns = frames.known_in_time(self.pipeline)
        given = pl.from_pandas(rows) if isinstance(rows, pd.DataFrame) else rows
        raw = frames.to_pandas(_typed(given, self.pipeline, columns))
        features = frames.apply_features(self.model.features, raw, self.pipeline.name)
        frames.check_features(self.model.columns, features)
        return frames.predictions_of(self.pipeline, self.model.estimator, features)


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
    champion = ledger.champion(pipeline.name) if found["version"] is None else _earlier(pipeline.name, int(found["version"]))
    if champion is None:
        raise UserError(f"{address!r} is no champion that the ledger knows. `ratchet decisions {pipeline.name}` lists what was promoted.")
    return Scorer(pipeline=pipeline, champion=champion, model=models.load(champion))


def _earlier(name: str, version: int) -> Champion | None:
    return next((champion for champion in ledger.champions(name) if champion.version == version), None)


def _typed(rows: pl.DataFrame, pipeline: Pipeline, columns: Sequence[str]) -> pl.DataFrame:
    missing = [name for name in columns if name not in rows.columns]
    if missing:
        raise UserError(f"The rows lack {missing}; the model of {pipeline.name!r} needs {list(columns)}.")
    typed, failures = contract.parse(rows.with_row_index("_row"), pipeline.contract, columns)
    if failures.height:
        first = failures.row(0, named=True)
        raise UserError(f"Row {first['_row']} has {first['value']!r} in {first['column']!r}; the contract wants {first['rule']}.")
    fill = [pl.col(name).fill_null(value) for name, value in pipeline.impute.items() if name in columns]
    return typed.drop("_row").with_columns(*fill)
