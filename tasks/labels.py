"""Labels that come later: what their files hold, and under which name their arrivals are known.

A label's file has the columns of the pipeline's key, or else its time, and the target, in the contract's types and under its rules. It is taken in
as rows to train on are, into tables of its own. Nothing is said of a key that has a label already: the one that came last counts (`tasks.quality`).
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from tasks import contract
from tasks.errors import UserError
from tasks.spec import Holdout, Pipeline, Serving, Source

TABLES: tuple[Literal["labels"], Literal["labels_quarantine"]] = ("labels", "labels_quarantine")


@dataclass(frozen=True)
class Part:
    """Some columns of a contract, each with its own rules; rules about several columns are left out."""

    schema: Any

    def to_schema(self) -> Any:
        """Give the schema, as a contract does."""
        return self.schema


def declared_by(pipeline: Pipeline) -> Source:
    """Give the source of labels that a pipeline declares.

    Raises:
        UserError: if it declares none.
    """
    if pipeline.labels is None:
        raise UserError(
            f"The pipeline {pipeline.name!r} declares no source of labels; give it labels=Source(...), or let the labels come with the rows "
            "to train on: `ratchet quality` finds them there."
        )
    return pipeline.labels


def columns_of(pipeline: Pipeline) -> tuple[str, ...]:
    """Name the columns that a label is found by.

    Raises:
        UserError: if there are none.
    """
    if pipeline.key or pipeline.time is not None:
        return pipeline.key or (str(pipeline.time),)
    raise UserError(
        f"The pipeline {pipeline.name!r} has neither key nor time, by which a label could be joined to a prediction. Give it a key."
    )


def reading(pipeline: Pipeline) -> Pipeline:
    """Give the definition by which files of labels are read, checked and taken in.

    Raises:
        UserError: if the pipeline declares no source of labels.
    """
    source = declared_by(pipeline)
    chosen = tuple(dict.fromkeys((*columns_of(pipeline), pipeline.target)))
    plain: dict[str, Any] = {"key": (), "time": None, "hindsight": (), "impute": {}, "slices": (), "blocks": "rows", "labels": None}
    return replace(
        pipeline,
        contract=Part(contract.for_requests(pipeline.contract, chosen)),
        source=source,
        serving=Serving(),
        holdout=Holdout(share=0.5),
        window=type(pipeline.window)(),
        **plain,
    )
