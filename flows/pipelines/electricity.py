"""Will the price of electricity in New South Wales rise above its mean of the last 24 hours?

The rows are "Elec2" (M. Harries, "Splice-2 comparative evaluation: Electricity pricing", Univ. of New South Wales, 1999): one each
half-hour from May 1996 to December 1998. The market changes for good in May 1997, when Victoria joins it, and a little with every season.
"""

from datetime import datetime

import pandas as pd
import pandera.polars as pa
from sklearn.compose import make_column_transformer
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from tasks.spec import Candidate, Gate, Holdout, Pipeline, Retrain, Slice, Window

MARKET = ["nswdemand", "vicprice", "vicdemand", "transfer"]


class HalfHours(pa.DataFrameModel):
    """One half-hour of the market; prices, demands and the transfer are scaled to 0..1."""

    timestamp: datetime
    date: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    day: int = pa.Field(ge=1, le=7)
    period: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    nswprice: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    nswdemand: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    vicprice: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    vicdemand: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    transfer: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    class_: str = pa.Field(alias="class", isin=["UP", "DOWN"])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the market's state and its place in the day and the week, one row a half-hour.

    The day of the week is read from the timestamp: in May 1997 the file's own `day` falls a day behind.
    """
    return rows[["period", *MARKET]].assign(weekday=rows["timestamp"].dt.day_of_week.astype("float64"))


def weekend(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Tell which rows are on a Saturday or a Sunday."""
    return rows["timestamp"].dt.day_of_week >= 5


def evening_peak(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Tell which rows begin from 17:00 to 19:59, when demand is highest."""
    return rows["timestamp"].dt.hour.between(17, 19)


# Few leaves and large ones: the next month never quite resembles the last, and a finer fit pays for it in overconfidence.
boosting = Candidate(
    "boosting",
    HistGradientBoostingClassifier(learning_rate=0.05, l2_regularization=10.0, random_state=0),
    search={"max_leaf_nodes": [7, 15, 31], "min_samples_leaf": [50, 200], "max_iter": [60, 100]},
    trials=4,
)
forest = Candidate("forest", ExtraTreesClassifier(50, min_samples_leaf=50, max_features=None, random_state=0))
# The cheap, smooth one: a level for each weekday and half-hour, and the market's state up to its squares and products.
linear = Candidate(
    "linear",
    make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["weekday", "period"]),
            (make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler()), MARKET),
        ),
        LogisticRegression(C=0.1, max_iter=300),
    ),
)

PIPELINE = Pipeline(
    name="electricity",
    kind="binary",
    contract=HalfHours,
    target="class",
    positive="UP",
    time="timestamp",
    key=("timestamp",),
    hindsight=("nswprice",),  # the label is computed from it: UP is nswprice > mean of its last 48 values
    features=features,
    candidates=[boosting, forest, linear],
    slices=(Slice("weekend", weekend), Slice("evening_peak", evening_peak)),
    label_lag=48,  # a day's prices are published after the day: the same half-hour a day earlier is a baseline
    window=Window(),  # all history: with only the newest 365 days every candidate was worse, in accuracy and in log loss
    holdout=Holdout(days=28),  # four whole weeks, so that each weekday and half-hour is judged
    # The probability is what a trader acts on, so it is judged as one. The Brier score, not log loss: this market drifts, a champion that is out of
    # date is confidently wrong on a few half-hours, and log loss lets those few decide (on this stream its intervals are too wide to tell anything
    # in four weeks). A tenth a year may go wrong, since the next arrival puts a wrong promotion right within weeks.
    gate=Gate(
        metric="brier",
        alpha=0.1,
        slice_tolerance=0.02,  # a weekend is 384 half-hours: what is proven there below that is noise to a trader
        bounds={"roc_auc": 0.6},  # below that, the order of the half-hours is worth nothing
        label_rate=(0.2, 0.8),  # by its definition about half of the prices are above their mean; else the labels are broken
        max_quarantine_share=0.2,
        max_latency_ms=250,  # a price for the next half-hour can wait that long
        max_memory_mb=1000,
        min_rows=600,
        min_train_rows=2000,
    ),
    retrain=Retrain(schedule="0 3 * * *", timezone="Australia/Brisbane", min_rows=48),
)
