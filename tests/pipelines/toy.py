"""A small binary pipeline that tests let run whole: one number and one colour decide the label, with noise."""

from datetime import datetime

import pandas as pd
import pandera.polars as pa
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.tree import DecisionTreeClassifier

from tasks.spec import Candidate, Gate, Holdout, Pipeline, Slice


class Rows(pa.DataFrameModel):
    """One observation."""

    id: int
    at: datetime
    x: float = pa.Field(ge=-10, le=10)
    colour: str = pa.Field(isin=["red", "green"], nullable=True)
    after: float
    label: str = pa.Field(isin=["yes", "no"])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the number, its square and the colour."""
    return pd.DataFrame({"x": rows["x"], "square": rows["x"] ** 2, "colour": rows["colour"].fillna("none")})


def positive_x(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Tell where x is above zero."""
    return rows["x"] > 0


encode = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["colour"]), remainder="passthrough")

PIPELINE = Pipeline(
    name="toy",
    kind="binary",
    contract=Rows,
    target="label",
    positive="yes",
    time="at",
    key=("id",),
    hindsight=("after",),
    impute={"after": 0.0},
    features=features,
    candidates=[
        Candidate("linear", make_pipeline(encode, LogisticRegression(max_iter=200))),
        Candidate("tree", make_pipeline(encode, DecisionTreeClassifier()), search={"decisiontreeclassifier__max_depth": [2, 4]}, trials=2),
    ],
    slices=("colour", Slice("positive_x", positive_x)),
    holdout=Holdout(share=0.3),
    gate=Gate(metric="log_loss", min_rows=50, min_train_rows=50),
)
