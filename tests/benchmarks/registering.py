"""Logging, registering and pointing to a model, against MLflow's own call with explicit requirements."""

import importlib.metadata
import warnings

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier

from tests.benchmarks.cycle import fresh_home
from tests.benchmarks.measure import block, median, tell


def register(runs: int) -> None:
    """Both ways in turn, in one warm process, on one server."""
    import mlflow
    import mlflow.sklearn
    import skops.io
    from mlflow.models import infer_signature

    from flows import pipelines
    from tasks.stores import models, tracking

    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(20_000, 8)), columns=[f"x{place}" for place in range(8)])
    model = HistGradientBoostingClassifier(max_iter=100).fit(frame, (frame["x0"] > 0).astype(int))
    requirements = [f"{name}=={importlib.metadata.version(name)}" for name in models.REQUIREMENTS]
    trusted = skops.io.get_untrusted_types(data=skops.io.dumps(model))

    def theirs() -> None:
        with mlflow.start_run():
            head = frame.head(1000)
            logged = mlflow.sklearn.log_model(
                model,
                name="theirs",
                signature=infer_signature(head, model.predict(head)),
                pip_requirements=requirements,
                skops_trusted_types=trusted,
            )
        version = mlflow.register_model(logged.model_uri, "theirs", await_registration_for=0)
        mlflow.MlflowClient().set_registered_model_alias("theirs", "champion", version.version)

    def ours() -> None:
        run = tracking.start("ours", "bench")
        with tracking.finished(run):
            made = models.register("ours", model, pipelines.path("big"), frame, run=run, tags={})
        models.point("ours", made.version)

    with fresh_home(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_experiment("theirs")
        theirs(), ours()
        pairs = [(block(theirs), block(ours)) for _ in range(runs)]
    mine, other = median([pair[1] for pair in pairs]), median([pair[0] for pair in pairs])
    tell(
        "log + register + alias against MLflow's own, wall",
        runs,
        mine.wall,
        other.wall,
        1.5,
        "s",
        note="ours reads back and verifies what was stored",
    )
    tell("  the same, CPU", runs, mine.cpu, other.cpu, 1.5, "CPU s")
