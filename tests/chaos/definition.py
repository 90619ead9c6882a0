"""The pipeline of the stories, as small as one can be: one number and one colour decide the label, with noise. Its name is the story's."""

from datetime import datetime

import pandas as pd
import pandera.polars as pa
from sklearn.linear_model import LogisticRegression

from tasks.spec import Candidate, Gate, Holdout, Pipeline, Window


class Rows(pa.DataFrameModel):
    """One observation."""

    id: int
    at: datetime
    x: float = pa.Field(ge=-10, le=10)
    colour: str = pa.Field(isin=["red", "green"])
    after: float
    label: str = pa.Field(isin=["yes", "no"])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the number and whether the colour is red."""
    return pd.DataFrame({"x": rows["x"], "red": (rows["colour"] == "red").astype(float)})


PIPELINE = Pipeline(
    name="NAME",
    kind="binary",
    contract=Rows,
    target="label",
    positive="yes",
    time="at",
    key=("id",),
    hindsight=("after",),
    features=features,
    candidates=[Candidate("linear", LogisticRegression())],
    window=Window(rows=1200),  # so that it follows the market, which turns over again and again
    holdout=Holdout(share=0.3),
    gate=Gate(metric="log_loss", min_rows=50, min_train_rows=50),
)
