"""How one step is done: one verb a file. Prefect and MLflow read this switch when they are imported, so it is set before either is."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")
