"""Check: the public contract that every pipeline's file is held against, before it is trusted with data.

Each rule is a function of a `Trial` (the pipeline with a small sample, raw and as `features` gets it) that raises `Broken` with what
was found and what to change.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from sklearn.base import clone

from tasks import contract, frames, sample
from tasks.against import beyond_reach, misnamed
from tasks.errors import RatchetError
from tasks.metrics import METRICS
from tasks.spec import Pipeline


@dataclass(frozen=True)
class Finding:
    """What one rule found."""

    rule: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Trial:
    """A pipeline with a sample: raw rows, and the frame that `features` gets."""

    pipeline: Pipeline
    rows: pl.DataFrame
    raw: pd.DataFrame

    def features(self) -> pd.DataFrame:
        """Run the user's features on a copy of the sample."""
        return frames.apply_features(self.pipeline.features, self.raw.copy(), self.pipeline.name)


class Broken(Exception):
    """A rule is broken; the text says what was found and what to change."""


Rule = Callable[[Trial], str]


def check(pipeline: Pipeline, rows: pl.DataFrame | None = None) -> tuple[Finding, ...]:
    """Hold a pipeline against every rule, on `rows` (raw, of the contract's types) or on made-up ones, and say what to change."""
    sampled = sample.made_up(pipeline) if rows is None else rows
    filled = sampled.with_columns(pl.col(name).fill_null(value) for name, value in _fitting(pipeline).items())
    trial = Trial(pipeline, sampled, frames.to_pandas(filled.select(frames.known_in_time(pipeline))))
    return tuple(_laid(rule, trial) for rule in RULES)


def _fitting(pipeline: Pipeline) -> dict[str, Any]:
    """Give what is imputed, without values of another type than their column's, which a rule of their own finds."""
    types = contract.dtypes(pipeline.contract)
    made = {name: pl.Series([value], strict=False).cast(types[name], strict=False).item() for name, value in pipeline.impute.items()}
    return {name: value for name, value in made.items() if value is not None}


def _laid(rule: Rule, trial: Trial) -> Finding:
    name = rule.__name__
    try:
        return Finding(name, True, rule(trial))
    except (Broken, RatchetError) as error:
        return Finding(name, False, str(error))
    except Exception as error:  # what a user's function raises is what this rule is there to find
        return Finding(name, False, f"it raised {type(error).__name__}: {error}. Correct the pipeline's file; the rule is: {rule.__doc__}")


def sample_meets_contract(trial: Trial) -> str:
    """Rows that are made up from the contract meet it."""
    failures = contract.check(trial.rows.with_row_index("_row"), trial.pipeline.contract)
    if failures.height:
        first = failures.row(0, named=True)
        found = f"made-up rows break {first['rule']!r} on {first['column']!r}, a rule that they are not made for"
        raise Broken(f"{found}. Try it with rows of your own: check(pipeline, rows).")
    return f"{trial.rows.height} made-up rows meet the contract"


def time_and_key_are_never_missing(trial: Trial) -> str:
    """The columns that order and name the rows may not be missing."""
    columns = trial.pipeline.contract.to_schema().columns
    named = [name for name in (trial.pipeline.time, *trial.pipeline.key, trial.pipeline.target) if name]
    loose = [name for name in named if columns[name].nullable]
    if loose:
        raise Broken(f"the contract lets {loose} be missing, which order or name rows or are to be predicted; take nullable=True away")
    return f"{', '.join(named)} may not be missing"


def can_be_imported_by_name(trial: Trial) -> str:
    """What a saved model needs is found again by its module and name."""
    for thing in [trial.pipeline.features, *(part for candidate in trial.pipeline.candidates for part in _parts(candidate.estimator))]:
        module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
        if module is None or name is None:
            raise Broken(f"{thing!r} has no name to be found by; define it with def at the top of the file")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not thing:
            raise Broken(f"{name!r} is not found again in {module}; define it at the top of the file, as no lambda and in no function")
    return "features and estimators are importable"


def _parts(estimator: Any) -> list[Any]:
    """Give the classes of an estimator and of those inside it, and the functions that they are given."""
    values = [estimator, *estimator.get_params(deep=True).values()]
    classes = [type(value) for value in values if hasattr(value, "get_params")]
    return classes + [value for value in values if inspect.isfunction(value) or isinstance(value, functools.partial)]


def features_leave_their_input_alone(trial: Trial) -> str:
    """`features` does not change the frame that it is given."""
    given = trial.raw.copy()
    trial.pipeline.features(given)
    if not given.equals(trial.raw):
        changed = [name for name in trial.raw.columns if name not in given or not given[name].equals(trial.raw[name])]
        raise Broken(f"features() changed its input in {changed or 'its columns'}; work on rows.assign(...) or a copy")
    return "features() leaves its input alone"


def features_keep_the_rows(trial: Trial) -> str:
    """`features` gives numbers or text, for each row one, in the same order, and not the target."""
    made = trial.features()
    if trial.pipeline.target in made.columns:
        raise Broken(f"features() gives a column named like the target, {trial.pipeline.target!r}; leave it out")
    infinite = [name for name in made.columns if made[name].dtype == "float64" and bool(np.isinf(made[name]).any())]
    if infinite:
        raise Broken(f"features() gives infinite values in {infinite}; guard the division or the logarithm")
    return f"{made.shape[1]} features: {', '.join(map(str, made.columns[:12]))}"


def one_row_equals_batch(trial: Trial) -> str:
    """A row's features do not depend on the rows around it: it is served alone."""
    whole = trial.features()
    for place in (0, len(whole) // 2, len(whole) - 1):
        alone = frames.apply_features(trial.pipeline.features, trial.raw.iloc[[place]].copy(), trial.pipeline.name)
        _same(alone, whole.iloc[[place]], f"alone, row {place}")
    reversed_ = frames.apply_features(trial.pipeline.features, trial.raw.iloc[::-1].copy(), trial.pipeline.name)
    _same(reversed_, whole.iloc[::-1], "in reversed order, a row")
    return "a row alone gives the same features as in a batch"


def _same(made: pd.DataFrame, expected: pd.DataFrame, which: str) -> None:
    """Refuse columns or values that differ."""
    if list(made.columns) != list(expected.columns):
        columns = sorted(set(made.columns) ^ set(expected.columns)) or "another order"
        found = f"{which} has other columns than in the batch: {columns}"
        raise Broken(f"{found}; what depends on the values that occur (get_dummies) belongs into a candidate")
    differing = [name for name in made.columns if not made[name].equals(expected[name])]
    if differing:
        found = f"{which} has other values in {differing} than in the batch"
        raise Broken(f"{found}; what needs other rows (a mean, a lag) belongs into the data or a candidate")


def candidates_fit_and_predict(trial: Trial) -> str:
    """Every candidate can be cloned, fits the sample and predicts finite values, alone as in a batch."""
    features, target = trial.features(), pd.Series(frames.target_of(trial.pipeline, trial.rows).to_numpy())
    for candidate in trial.pipeline.candidates:
        try:
            model = clone(candidate.estimator).fit(features, target)
            whole = frames.predictions_of(trial.pipeline, model, features)
            alone = frames.predictions_of(trial.pipeline, model, features.iloc[[0]])
        except Exception as error:  # which of the user's candidates failed has to be said
            raise Broken(
                f"candidate {candidate.name!r} raised {type(error).__name__}: {error}. Does it encode text and stand missing values?"
            ) from error
        twice = sorted(set(whole.columns) & set(frames.known_in_time(trial.pipeline)))
        if twice:
            raise Broken(f"the contract has columns named {twice}, as the predictions of candidate {candidate.name!r} have; rename them")
        numbers = whole.select(pl.selectors.numeric())
        if not np.isfinite(numbers.to_numpy()).all():
            raise Broken(f"candidate {candidate.name!r} predicts values that are not finite")
        if not np.allclose(numbers.head(1).to_numpy(), alone.select(pl.selectors.numeric()).to_numpy(), atol=1e-9):
            raise Broken(f"candidate {candidate.name!r} predicts a row differently when it is alone; it must not normalise over the batch")
    return f"{len(trial.pipeline.candidates)} candidates fit and predict"


def gate_can_be_computed(trial: Trial) -> str:
    """The gate's metrics exist for this kind of target, its bounds can be met, and every candidate gives what the first one needs."""
    name = trial.pipeline.gate.metric
    wrong = misnamed(trial.pipeline.gate, trial.pipeline.kind) or beyond_reach(trial.pipeline.gate, trial.pipeline.kind)
    if wrong is not None:
        raise Broken(wrong)
    silent = [
        part.name for part in trial.pipeline.candidates if METRICS[name].needs == "p" and not hasattr(part.estimator, "predict_proba")
    ]
    if silent:
        raise Broken(f"gate.metric {name!r} needs probabilities, which {silent} do not give; choose another metric or estimator")
    return f"{name} can be computed"


def slices_are_masks(trial: Trial) -> str:
    """Every slice says of each row whether it belongs to it."""
    raw = frames.to_pandas(trial.rows)
    for part in trial.pipeline.slices:
        if isinstance(part, str):
            continue
        mask = np.asarray(part.where(raw))
        if mask.shape != (len(raw),) or mask.dtype != bool:
            raise Broken(f"slice {part.name!r} gives {mask.dtype} of shape {mask.shape}; expected one boolean a row")
    return f"{len(trial.pipeline.slices)} slices"


def imputed_values_fit(trial: Trial) -> str:
    """What stands for a missing value is itself allowed by the contract."""
    types = contract.dtypes(trial.pipeline.contract)
    if not trial.pipeline.impute:
        return "nothing is imputed"
    odd = [
        name
        for name, value in trial.pipeline.impute.items()
        if pl.Series([value], strict=False).cast(types[name], strict=False).null_count()
    ]
    if odd:
        raise Broken(f"impute gives {odd} a value that is not of the column's type {[str(types[name]) for name in odd]}")
    filled = trial.rows.with_columns(pl.lit(value).cast(types[name]).alias(name) for name, value in trial.pipeline.impute.items())
    broken = contract.check(filled.with_row_index("_row"), trial.pipeline.contract).filter(
        pl.col("column").is_in(list(trial.pipeline.impute))
    )
    if broken.height:
        raise Broken(f"impute gives {broken['column'][0]!r} a value that the contract refuses: {broken['rule'][0]}")
    return f"{', '.join(trial.pipeline.impute)} may be filled in"


RULES: tuple[Rule, ...] = (
    sample_meets_contract,
    time_and_key_are_never_missing,
    can_be_imported_by_name,
    features_leave_their_input_alone,
    features_keep_the_rows,
    one_row_equals_batch,
    gate_can_be_computed,
    candidates_fit_and_predict,
    slices_are_masks,
    imputed_values_fit,
)
