"""Calibration, residuals and confusion in figures, and how they and the rows of charts are drawn."""

import math
import re

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tasks import charts
from tasks.curves import BINS, OTHERS, by_model, confusion, curves, residuals
from tasks.document import Chart, Line, Mark, Paragraph, Plot, Table

finite = st.floats(-1e12, 1e12)


def test_calibration_is_the_observed_share_of_each_tenth() -> None:
    staged = pl.DataFrame(
        {
            "truth": [0, 1, 1, 1],
            "predicted": [0, 0, 1, 1],
            "p_1": [0.12, 0.18, 0.99, 1.0],
            "champion_predicted": [0] * 4,
            "champion_p_1": [0.5] * 4,
        }
    )
    (plot,) = curves("binary", staged)
    assert isinstance(plot, Plot)
    points = {line.name: line.points for line in plot.lines}
    np.testing.assert_allclose(points["challenger"], [(0.15, 0.5), (0.995, 1.0)])
    assert points["champion"] == ((0.5, 0.75),)
    assert plot.table.rows[0] == ("challenger", "0.15", "0.5", "2")


def test_a_model_without_probabilities_and_predictions_that_are_not_finite_do_no_harm() -> None:
    staged = pl.DataFrame({"truth": [0, 1], "predicted": [0, 1], "p_1": [math.nan, 0.7], "champion_predicted": [1, 1]})
    (plot,) = curves("binary", staged)
    assert isinstance(plot, Plot)
    assert [line.name for line in plot.lines] == ["as it should be", "challenger"]
    assert plot.lines[1].points == ((0.7, 1.0),)
    none = residuals({"challenger": pl.DataFrame({"truth": [1.0], "predicted": [math.nan]})})
    assert none.table.rows == (("challenger", *["undefined"] * 6),)
    assert "nan" not in charts.plot(none)


def test_residuals_count_every_row_but_the_outermost() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=1000)
    models = {"challenger": pl.DataFrame({"truth": truth, "predicted": truth + random.normal(0, 1, 1000)})}
    models["champion"] = pl.DataFrame({"truth": truth, "predicted": truth + 2})
    plot = residuals(models)
    counts = {line.name: sum(count for _, count in line.points) for line in plot.lines}
    assert 970 <= counts["challenger"] <= 1000
    assert counts["champion"] == 1000
    assert all(len(line.points) == BINS for line in plot.lines[1:])
    assert plot.table.rows[1] == ("champion", *["2"] * 6)


def test_confusion_counts_by_label_and_merges_the_rare_ones() -> None:
    table = confusion(pl.DataFrame({"truth": ["a", "a", "b"], "predicted": ["a", "c", "b"]}))
    assert table.header == ("true", "a", "b", "c")
    assert table.rows == (("a", "1", "0", "1"), ("b", "0", "1", "0"), ("c", "0", "0", "0"))
    many = [f"label{place:02}" for place in range(30) for _ in range(31 - place)]
    merged = confusion(pl.DataFrame({"truth": many, "predicted": many}))
    assert merged.header == ("true", *(f"label{place:02}" for place in range(12)), OTHERS)
    assert sum(int(cell.replace(",", "")) for row in merged.rows for cell in row[1:] if isinstance(cell, str)) == len(many)


def test_labels_that_look_like_the_champions_columns_stay_apart() -> None:
    staged = pl.DataFrame({"truth": ["x"], "predicted": ["x"], "p_champion_x": [1.0], "champion_predicted": ["y"], "champion_p_y": [1.0]})
    models = by_model(staged)
    assert models["challenger"].columns == ["truth", "predicted", "p_champion_x"]
    assert models["champion"].columns == ["truth", "predicted", "p_y"]
    told, table, *_ = curves("multiclass", staged)
    assert isinstance(told, Paragraph)
    assert isinstance(table, Table)
    assert "1 of 1 row right" in told.text


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=20))
def test_a_plot_of_any_figures_stays_inside_its_frame(points: list[tuple[float, float]]) -> None:
    drawing = charts.plot(Plot("t", "x", "y", (Line("challenger", tuple(points), "challenger"),), Table(("a",), ())))
    path = re.search(r' d="M([^"]*)"', drawing)
    assert path
    places = [tuple(map(float, pair.split())) for pair in path[1].split("L")]
    assert all(45 <= x <= 311 and 9 <= y <= 197 for x, y in places)


@given(st.lists(st.tuples(st.none() | finite, st.none() | finite, st.none() | finite), max_size=8), st.sampled_from(["bars", "intervals"]))
def test_marks_of_any_figures_stay_inside_their_rows(values: list[tuple[float | None, float | None, float | None]], kind: str) -> None:
    marks = tuple(Mark("m", value, "f", low, high) for value, low, high in values)
    for scale in ("own", "shared"):
        made = charts.drawn(Chart("t", kind, ("a", "b"), marks, scale))  # type: ignore[arg-type]
        assert len(made) == len(marks)
        across = [float(x) for drawing in made for x in re.findall(r'(?:x1|x2|cx|x)="([-\d.]+)"', drawing)]
        assert all(-0.1 <= x <= 300.1 for x in across)
        assert not re.search(r"nan|inf", "".join(made).replace('aria-label="m: f"', ""))


def test_what_is_proven_is_told_by_shape() -> None:
    better, worse, open_ = (charts.interval(Mark("m", value, "f", value - 1, value + 1), 3) for value in (2, -2, 0.5))
    assert ("better" in better, "worse" in worse, "open" in open_) == (True, True, True)
    assert "<circle" in better
    assert "<path" in worse
    assert "<line" in charts.interval(Mark("m", None, "undefined"), 1)
