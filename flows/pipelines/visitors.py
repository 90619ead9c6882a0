"""Will this visitor of the advertiser's site convert?

The rows are the made-up stream of `ratchet demo`: a week of visitors an arrival. Copy this file to begin a pipeline of your own.
"""

from datetime import datetime

import pandas as pd
import pandera.polars as pa
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tasks.spec import Candidate, Gate, Holdout, Pipeline, Retrain, Window

NUMBERS = ["price", "discount", "pages", "minutes", "price_paid"]
WORDS = ["segment", "channel", "device"]


class Visitors(pa.DataFrameModel):
    """What is known of a visitor before the visit ends; prices in euros, times in UTC."""

    visitor: str
    at: datetime
    segment: str = pa.Field(isin=["new", "returning", "loyal"])
    channel: str = pa.Field(isin=["search", "mail", "social", "affiliate"])
    device: str = pa.Field(isin=["desktop", "phone", "tablet", "unknown"], nullable=True)
    price: float = pa.Field(gt=0)
    discount: float = pa.Field(ge=0, le=1)
    pages: int = pa.Field(ge=1)
    minutes: float = pa.Field(ge=0, nullable=True)
    converted: int = pa.Field(isin=[0, 1])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the visitor's numbers and words, with the price after the discount."""
    return rows[["price", "discount", "pages", "minutes", *WORDS]].assign(price_paid=rows["price"] * (1 - rows["discount"]))


# What is learned from the rows (medians, scales, categories) is fitted with the model, on training rows only, and travels with it.
linear = make_pipeline(
    make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
        (OneHotEncoder(handle_unknown="ignore"), WORDS),
    ),
    LogisticRegression(max_iter=500),
)
boosting = make_pipeline(
    make_column_transformer((OneHotEncoder(handle_unknown="ignore", sparse_output=False), WORDS), remainder="passthrough"),
    HistGradientBoostingClassifier(learning_rate=0.1, max_iter=60, min_samples_leaf=50),
)

PIPELINE = Pipeline(
    name="visitors",
    kind="binary",
    contract=Visitors,
    target="converted",
    positive=1,
    time="at",
    key=("visitor",),
    impute={"device": "unknown"},
    features=features,
    candidates=[
        Candidate("linear", linear),
        Candidate("boosting", boosting, search={"histgradientboostingclassifier__max_leaf_nodes": [5, 15]}, trials=2),
    ],
    slices=("segment", "channel"),
    window=Window(rows=12_000),  # three weeks: long enough to learn, short enough to forget a market that is gone
    holdout=Holdout(rows=2000),  # half a week: the other half of the newest arrival already trains the challenger
    gate=Gate(
        metric="log_loss",  # bids follow the probability; the made-up visitors are independent draws, so its tails are short
        slice_tolerance=0.02,
        max_quarantine_share=0.3,
        max_latency_ms=250,
        min_rows=1000,
        min_train_rows=1000,
    ),
    retrain=Retrain(schedule="0 4 * * 1"),
)
