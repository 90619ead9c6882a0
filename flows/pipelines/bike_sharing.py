"""How many bikes are rented in an hour, in Washington D.C.?

The rows are Capital Bikeshare's of 2011 and 2012 with the weather (H. Fanaee-T and J. Gama, "Event labeling combining ensemble detectors
and background knowledge", Progress in Artificial Intelligence, 2013; CC BY 4.0). Demand grows by two thirds from one year to the next, so
that a model which is never trained again predicts ever more too little.
"""

from datetime import date

import numpy as np
import pandas as pd
import pandera.polars as pa
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tasks.spec import Candidate, Gate, Holdout, Pipeline, Retrain

CALENDAR = ["season", "yr", "mnth", "hr", "holiday", "weekday", "workingday"]
WEATHER = ["weathersit", "temp", "atemp", "hum", "windspeed"]


class Hours(pa.DataFrameModel):
    """One hour of rentals; temperatures, humidity and wind are scaled to 0..1."""

    instant: int = pa.Field(ge=1)
    dteday: date
    season: int = pa.Field(ge=1, le=4)
    yr: int = pa.Field(ge=0)
    mnth: int = pa.Field(ge=1, le=12)
    hr: int = pa.Field(ge=0, le=23)
    holiday: int = pa.Field(isin=[0, 1])
    weekday: int = pa.Field(ge=0, le=6)
    workingday: int = pa.Field(isin=[0, 1])
    weathersit: int = pa.Field(ge=1, le=4)
    temp: float = pa.Field(ge=0, le=1)
    atemp: float = pa.Field(ge=0, le=1)
    hum: float = pa.Field(ge=0, le=1)
    windspeed: float = pa.Field(ge=0, le=1)
    casual: int = pa.Field(ge=0)
    registered: int = pa.Field(ge=0)
    cnt: int = pa.Field(ge=0)


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the hour's place in the day, the week and the year, and its weather.

    `instant` and `dteday` stay out: a tree cannot say anything of a number larger than all it has seen; the year tells the levels apart.
    `hour_of_kind` is the hour on a day off and the hour + 24 on a working day: the two have other peaks.
    """
    return rows[CALENDAR + WEATHER].assign(hour_of_kind=rows["hr"] + 24 * rows["workingday"])


# Counts vary as their mean does, and the Poisson loss fits that: trained anew each fortnight, its mean absolute error was 34.8, that of the
# squared loss 36.4, and that of the squared loss on the logarithm 36.9.
boosting = Candidate(
    "boosting",
    HistGradientBoostingRegressor(loss="poisson", l2_regularization=5.0, random_state=0),
    search={"max_leaf_nodes": [15, 31], "max_iter": [100, 200], "min_samples_leaf": [10, 20]},
    trials=4,
)
# The cheap, smooth one, on the logarithm: season, year and weather scale the day's profile rather than add to it.
linear_log = Candidate(
    "linear_log",
    TransformedTargetRegressor(
        make_pipeline(
            make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), ["hour_of_kind", "weekday", "season", "yr", "mnth", "weathersit"]),
                (StandardScaler(), ["temp", "atemp", "hum", "windspeed"]),
            ),
            Ridge(),
        ),
        func=np.log1p,
        inverse_func=np.expm1,
    ),
)

PIPELINE = Pipeline(
    name="bike_sharing",
    kind="regression",
    contract=Hours,
    target="cnt",
    time="dteday",
    key=("dteday", "hr"),
    hindsight=("casual", "registered"),  # they add up to the target
    features=features,
    candidates=[boosting, linear_log],
    slices=("workingday", "weathersit"),
    label_lag=168,  # the same hour a week earlier is a good guess, and the one to beat
    holdout=Holdout(days=14),  # two of each weekday
    # Bikes are moved by the van-load: an error costs in proportion to its size, so the mean absolute error it is. Demand grows through the two
    # years, so a model that saw the newest weeks is nearly always better, and proof comes with every arrival; a tenth a year may go wrong.
    gate=Gate(
        metric="mae",
        alpha=0.1,
        slice_tolerance=10.0,  # bikes an hour: a tenth of a busy hour's error
        bounds={"r2": 0.3},  # below that the profile of the day alone does as well
        max_quarantine_share=0.2,
        # A tenth of the spread is 18 bikes, less than the error itself. Where demand moves (spring, the new year), two more weeks of it move every
        # second hour that far, 0.61 of them at most on this stream, and for the better; a refit that went wrong moves nearly all.
        max_refit_change=0.75,
        max_latency_ms=250,  # vans are planned by the hour
        max_memory_mb=1000,
        min_rows=200,
        min_train_rows=2000,
    ),
    retrain=Retrain(schedule="0 4 * * 1", timezone="America/New_York", min_rows=168),
)
