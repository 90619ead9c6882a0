"""A regression pipeline over days, several rows a day, with a search."""

from datetime import date

import pandas as pd
import pandera.polars as pa
from sklearn.linear_model import Ridge

from tasks.spec import Candidate, Gate, Holdout, Pipeline, Window


class Rows(pa.DataFrameModel):
    """One sale."""

    day: date
    weight: float
    urgent: bool
    amount: float


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the weight and whether it is urgent."""
    return rows[["weight", "urgent"]]


PIPELINE = Pipeline(
    name="amounts",
    kind="regression",
    contract=Rows,
    target="amount",
    time="day",
    features=features,
    candidates=[Candidate("ridge", Ridge(), search={"alpha": [0.1, 1000.0]}, trials=2)],
    window=Window(days=60),
    holdout=Holdout(days=10),
    gate=Gate(metric="mae", min_rows=50, min_train_rows=50),
)
