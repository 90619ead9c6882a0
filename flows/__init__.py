"""What runs: thin Prefect flows. Prefect and MLflow read this switch when they are imported, so it is set before either is."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")
