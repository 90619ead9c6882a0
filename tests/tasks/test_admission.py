"""Admission: the quick way and the whole way through a contract agree on every value, and say what is wrong."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from tasks import frames
from tasks.admission import Admission, Refused, joined
from tasks.spec import Candidate, Gate, Holdout, Pipeline


class Everything(pa.DataFrameModel):
    """Every type that a contract may have, with rules and without."""

    share: float = pa.Field(in_range={"min_value": 0, "max_value": 1})
    open_share: float = pa.Field(in_range={"min_value": 0, "max_value": 1, "include_min": False}, nullable=True)
    size: int = pa.Field(gt=-5, le=1000)
    loose: float = pa.Field(nullable=True)
    filled: float = pa.Field(nullable=True)
    count: int = pa.Field(nullable=True)
    flag: bool = pa.Field(nullable=True)
    colour: str = pa.Field(isin=["red", "green"])
    note: str = pa.Field(nullable=True)
    moment: datetime = pa.Field(nullable=True)
    day: date = pa.Field(nullable=True)
    later: float = pa.Field(nullable=True)
    label: float

    class Config:
        """Rows are checked by name."""

        strict = False


PIPELINE = Pipeline(
    name="everything",
    kind="regression",
    contract=Everything,
    target="label",
    hindsight=("later",),
    impute={"filled": 7.5},
    features=lambda rows: rows[["share"]],
    candidates=[Candidate("line", LinearRegression())],
    holdout=Holdout(share=0.5),
    gate=Gate(metric="mae"),
)
ADMISSION = Admission(PIPELINE)
GOOD: dict[str, Any] = {
    "share": 0.5,
    "open_share": 1.0,
    "size": 3,
    "loose": 2,
    "filled": 1.25,
    "count": 4,
    "flag": True,
    "colour": "red",
    "note": "ok",
    "moment": "2026-01-02T03:04:05",
    "day": "2026-01-02",
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-6, 1001),
    st.floats(allow_nan=False),
    st.sampled_from([0, 1, 0.0, 1.0, -5, 1000, 1e308, 2**53, 2**53 + 1]),
    st.text(max_size=4),
    st.sampled_from(
        ["red", "0.5", "3", "true", "2026-02-30", "2026-01-02 03:04", "2026-01-02T03:04:05+02:00", "2026-13-01T00:00:00", "nan", "inf"]
    ),
    st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)).map(lambda moment: moment.isoformat()),
    st.dates(date(1700, 1, 1), date(2200, 1, 1)).map(str),
)


def columns(*rows: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def outcome(admit: Any) -> Any:
    try:
        return {name: values.tolist() for name, values in admit().items()}
    except Refused as refused:
        return [(fault.row, fault.column) for fault in refused.faults] or str(refused)


def same(one: Any, other: Any) -> bool:
    return str(one) == str(other)  # NaN is not equal to itself


@given(st.lists(st.dictionaries(st.sampled_from(sorted(GOOD)), ODD, max_size=3), min_size=1, max_size=4))
def test_what_is_read_quickly_is_what_the_whole_contract_reads(changes: list[dict[str, Any]]) -> None:
    asked = columns(*({**GOOD, **change} for change in changes))
    slow = Admission(PIPELINE)
    slow._readers = dict.fromkeys(slow._readers)
    assert same(outcome(lambda: ADMISSION.admit(asked)), outcome(lambda: slow.admit(asked)))


def test_good_rows_take_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ADMISSION, "examine", lambda rows: pytest.fail("the whole contract was asked"))
    assert ADMISSION.admit(columns(GOOD, {**GOOD, "loose": None, "note": None, "count": None, "flag": None, "moment": None}))[
        "size"
    ].tolist() == [3, 3]


class Stubborn(pa.DataFrameModel):
    """Rules that look like the usual ones and are others."""

    size: float = pa.Field(gt=0, nullable=True, ignore_na=False)
    even: int

    @pa.check("even", name="isin", element_wise=True)
    def is_even(cls, value: int) -> bool:  # noqa: N805
        """Tell whether a number is even."""
        return value % 2 == 0

    label: float


@pytest.mark.parametrize(("change", "column"), [({"size": None}, "size"), ({"even": 3}, "even"), ({"size": -1.0}, "size")])
def test_rules_that_only_look_like_the_usual_ones_are_left_to_pandera(change: dict[str, Any], column: str) -> None:
    stubborn = Admission(replace(PIPELINE, contract=Stubborn, hindsight=(), impute={}))
    good = {"size": 1.0, "even": 2}
    assert stubborn.admit(columns(good))["even"].tolist() == [2]
    for admit in (lambda rows: stubborn.admit(columns(*rows)), lambda rows: stubborn.examine(pl.DataFrame(columns(*rows)))):
        with pytest.raises(Refused, match=column):
            admit([good, {**good, **change}])


def test_the_frame_is_the_one_that_training_makes() -> None:
    asked = columns(GOOD, {**GOOD, "loose": None, "note": None, "moment": None, "flag": None, "day": None, "filled": None, "count": None})
    typed = {
        name: pl.Series(asked[name], dtype=dtype)
        if dtype not in (pl.Date, pl.Datetime("us"))
        else pl.Series(asked[name]).cast(pl.String).str.to_datetime().cast(dtype)
        for name, dtype in ADMISSION.types.items()
    }
    expected = frames.to_pandas(pl.DataFrame(typed).with_columns(frames.fills(PIPELINE, list(ADMISSION.types))))
    pd.testing.assert_frame_equal(frames.of(ADMISSION.admit(asked)), expected)
    assert frames.of(ADMISSION.admit(asked))["filled"].tolist() == [1.25, 7.5]


def test_every_fault_is_named_with_its_row_and_column() -> None:
    with pytest.raises(Refused) as refused:
        ADMISSION.admit(columns(GOOD, {**GOOD, "share": 1.5, "colour": "blue"}, {**GOOD, "size": None}))
    assert {(fault.row, fault.column) for fault in refused.value.faults} == {(1, "share"), (1, "colour"), (2, "size")}
    assert "2 of 3 rows break the contract" in str(refused.value)


@pytest.mark.parametrize("value", ["many", "2.5x", [1], {"a": 1}, 1e999])
def test_a_value_of_another_type_is_refused_in_a_number(value: Any) -> None:
    with pytest.raises(Refused, match="share"):
        ADMISSION.admit(columns({**GOOD, "share": value}))


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(Refused, match=r"lack \['size'\]"):
        ADMISSION.admit(columns({name: value for name, value in GOOD.items() if name != "size"}))


def test_columns_that_the_contract_does_not_have_and_those_known_later_are_left_out() -> None:
    assert list(ADMISSION.admit(columns({**GOOD, "label": 3.0, "later": None, "extra": [1]}))) == list(ADMISSION.types)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(Refused, match="different lengths"):
        ADMISSION.admit({**columns(GOOD), "size": [1, 2]})


def test_requests_put_together_are_their_rows_in_order() -> None:
    one, two = ADMISSION.admit(columns(GOOD)), ADMISSION.admit(columns({**GOOD, "size": 9, "colour": "green"}))
    assert joined([one, two])["size"].tolist() == [3, 9]
    assert frames.of(joined([one, two]))["colour"].tolist() == ["red", "green"]


def pipeline_of(contract: Any) -> Pipeline:
    return Pipeline(
        name="own",
        kind="regression",
        contract=contract,
        target="label",
        features=lambda rows: rows,
        candidates=PIPELINE.candidates,
        holdout=Holdout(share=0.5),
        gate=Gate(metric="mae"),
    )


def test_a_rule_about_many_rows_is_not_laid_to_a_request() -> None:
    class Many(pa.DataFrameModel):
        number: int = pa.Field(unique=True)
        label: float

        @pa.dataframe_check
        def known_label(cls, data: Any) -> Any:
            return data.lazyframe.select(pl.col("label") > pl.col("number"))

    assert Admission(pipeline_of(Many)).admit({"number": [1, 1]})["number"].tolist() == [1, 1]
    assert np.isfinite(Admission(pipeline_of(Many)).admit({"number": ["1", "2"]})["number"]).all()


def test_a_rule_of_the_users_own_is_laid_to_each_row() -> None:
    class Even(pa.DataFrameModel):
        number: int
        label: float

        @pa.check("number")
        def even(cls, data: Any) -> Any:
            return data.lazyframe.select(pl.col(data.key) % 2 == 0)

    assert Admission(pipeline_of(Even)).admit({"number": [2, 4]})["number"].tolist() == [2, 4]
    with pytest.raises(Refused) as refused:
        Admission(pipeline_of(Even)).admit({"number": [2, 3]})
    assert [(fault.row, fault.column, fault.rule) for fault in refused.value.faults] == [(1, "number", "even")]
