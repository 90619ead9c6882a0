"""The pipeline of the batch benchmark: twelve numbers of a fixed range, as the market's in `electricity`, and its boosting."""

import pandas as pd
import pandera.polars as pa
from sklearn.ensemble import HistGradientBoostingClassifier

from tasks.spec import Candidate, Gate, Holdout, Pipeline


class Rows(pa.DataFrameModel):
    """Twelve numbers in 0..1 and a label."""

    x0: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x1: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x2: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x3: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x4: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x5: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x6: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x7: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x8: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x9: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x10: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    x11: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    label: int = pa.Field(isin=[0, 1])


def features(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers as they are."""
    return rows


boosting = HistGradientBoostingClassifier(learning_rate=0.05, l2_regularization=10.0, max_leaf_nodes=15, max_iter=100, random_state=0)

PIPELINE = Pipeline(
    name="numbers",
    kind="binary",
    contract=Rows,
    target="label",
    positive=1,
    features=features,
    candidates=[Candidate("boosting", boosting)],
    holdout=Holdout(share=0.2),
    gate=Gate(metric="brier"),
)
