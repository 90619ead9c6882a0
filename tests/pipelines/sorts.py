"""A multi-class pipeline without time and key: rows are ordered as they arrive."""

import pandas as pd
import pandera.polars as pa
from sklearn.linear_model import LogisticRegression

from tasks.spec import Candidate, Gate, Holdout, Pipeline


class Rows(pa.DataFrameModel):
    """One thing of three sorts."""

    width: float
    height: float
    sort: str = pa.Field(isin=["small", "flat", "tall"])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return both lengths."""
    return rows[["width", "height"]]


PIPELINE = Pipeline(
    name="sorts",
    kind="multiclass",
    contract=Rows,
    target="sort",
    features=features,
    candidates=[Candidate("linear", LogisticRegression(max_iter=300))],
    holdout=Holdout(rows=100),
    gate=Gate(metric="accuracy", min_rows=50, min_train_rows=50),
)
