"""The floor of serving: what one writes by hand in ten minutes, FastAPI, joblib and a DataFrame. `MODEL=... uvicorn tests.benchmarks.floor_api:app`."""

import os
from datetime import datetime

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

from flows.pipelines.electricity import features


class Row(BaseModel):
    """A half-hour of the market."""

    timestamp: datetime
    date: float
    day: int
    period: float
    nswdemand: float
    vicprice: float
    vicdemand: float
    transfer: float


class Rows(BaseModel):
    """A request."""

    rows: list[Row]


app = FastAPI()
model = joblib.load(os.environ["MODEL"]) if "MODEL" in os.environ else None


@app.post("/v1/predict")
def predict(request: Rows) -> dict[str, list[float]]:
    """Predict."""
    frame = pd.DataFrame([row.model_dump() for row in request.rows])
    return {"p_1": model.predict_proba(features(frame))[:, 1].tolist()}
