"""The pipeline of the big benchmark: one cheap candidate on many rows."""

from datetime import datetime

import pandas as pd
import pandera.polars as pa
from sklearn.ensemble import HistGradientBoostingClassifier

from tasks.spec import Candidate, Gate, Holdout, Pipeline

NUMBERS = [f"x{place}" for place in range(9)]


class Rows(pa.DataFrameModel):
    """Nine numbers and a word each second."""

    at: datetime
    x0: float = pa.Field(ge=-20, le=20)
    x1: float = pa.Field(ge=-20, le=20)
    x2: float = pa.Field(ge=-20, le=20)
    x3: float = pa.Field(ge=-20, le=20)
    x4: float = pa.Field(ge=-20, le=20)
    x5: float
    x6: float
    x7: float
    x8: float
    kind: str = pa.Field(isin=["a", "b", "c"])
    label: int = pa.Field(isin=[0, 1])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers and whether the word is "a"."""
    return rows[NUMBERS].assign(is_a=(rows["kind"] == "a").astype("float64"))


PIPELINE = Pipeline(
    name="big",
    kind="binary",
    contract=Rows,
    target="label",
    positive=1,
    time="at",
    features=features,
    candidates=[Candidate("boosting", HistGradientBoostingClassifier(max_iter=30, random_state=0))],
    holdout=Holdout(days=0.5),
    gate=Gate(metric="log_loss"),
)
