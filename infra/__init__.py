"""What Ratchet stands on: the embedded Prefect and MLflow servers."""
