import re

import numpy as np
import pytest

from simile.reports import lines
from simile.reports.drawing import draw_curves


def points(path):
    """Return the points of a path as numbers."""
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d"))]


def colour(path):
    return re.search(r"stroke: (var\(--\w+\))", path.get("style"))[1]


def test_a_curve_goes_through_its_points(parse, marks):
    (curve,) = marks(parse(lines("t", {"a": [(0, 0.0), (5, 1.0), (10, 0.5)]})), "curve")
    (left, low), (middle, high), (right, half) = points(curve)
    assert middle == pytest.approx((left + right) / 2, abs=0.02)
    assert half == pytest.approx((low + high) / 2, abs=0.02)
    assert high < half < low


@pytest.mark.parametrize("gap", [None, float("nan"), float("inf")])
def test_what_is_missing_leaves_a_gap(parse, marks, gap):
    figure = parse(lines("t", {"a": [(0, 0.0), (1, 1.0), (2, gap), (3, 1.0), (4, 0.0)]}))
    assert marks(figure, "curve")[0].get("d").count("M") == 2
    assert len(marks(figure, "dots")) == 4


def test_a_dot_names_its_series_and_its_values(parse, marks):
    figure = parse(lines("t", {"loss": [(1000, 0.25), (2000, 0.125)], "$x^2$ 你": [(1000, 1)]}))
    assert [dot.findtext("title") for dot in marks(figure, "dots")] == [
        "loss\n1000: 0.25",
        "loss\n2000: 0.125",
        "$x^2$ 你\n1000: 1",
    ]


def test_a_long_curve_has_dots_only_where_a_point_stands_alone(parse, marks):
    points = [(x, x % 7) for x in range(100)] + [(100, None), (101, 3)]
    assert len(marks(parse(lines("t", {"a": points})), "dots")) == 1


def test_a_long_curve_keeps_all_its_points(parse, marks):
    (curve,) = marks(parse(lines("t", {"a": [(x, 0.5 * x) for x in range(500)]})), "curve")
    assert len(points(curve)) == 500


def test_the_legend_names_each_series_and_its_last_value(parse):
    figure = parse(lines("t", {"a": [(0, 1.0), (1, 0.5), (2, None)], "b": []}))
    assert ["".join(item.itertext()) for item in figure.iter("li")] == ["a last 0.5", "b no values"]


def test_series_past_the_last_colour_are_dashed(parse, marks):
    figure = parse(lines("t", {str(index): [(0, index), (1, index)] for index in range(7)}))
    curves = marks(figure, "curve")
    assert [colour(curve) for curve in curves] == [f"var(--c{index % 5})" for index in range(7)]
    assert ["dasharray" in curve.get("style") for curve in curves] == [False] * 5 + [True] * 2
    swatches = [span for span in figure.iter("span") if "swatch" in span.get("class")]
    assert ["dashed" in swatch.get("class") for swatch in swatches] == [False] * 5 + [True] * 2


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(0, None)]}])
def test_curves_of_nothing_say_so(parse, series):
    assert parse(lines("t", series)).findtext("p") == "None."


@pytest.mark.parametrize("value", [0.5, 0, -3, 1e-12, 1e12])
def test_a_single_point_is_drawn_between_ticks(parse, marks, ticks, value):
    figure = parse(lines("t", {"a": [(3, value)]}))
    assert len(marks(figure, "dots")) == 1
    assert len(ticks(figure)) >= 4


def test_whole_numbers_have_whole_ticks(parse, ticks):
    assert ticks(parse(lines("t", {"a": [(0, 0.25), (3, 0.75)]})))[:4] == ["0", "1", "2", "3"]


def test_labels_of_ticks_are_short_and_have_the_decimals_that_their_step_needs(parse, ticks):
    labels = ticks(parse(lines("t", {"a": [(0, -0.05), (20_000, 0.05)]})))
    assert labels == [
        "0",
        "5k",
        "10k",
        "15k",
        "20k",
        *(f"{tick}".replace("-", "\N{MINUS SIGN}") for tick in labels[5:]),
    ]
    assert {"\N{MINUS SIGN}0.04", "0.00", "0.04"} <= set(labels)


def test_a_logarithmic_axis_spaces_by_ratio_and_has_a_tick_per_point(parse, marks):
    curve = np.array([(3.0, 0.5), (6.0, 0.6), (12.0, 0.7)])
    chart = parse(draw_curves({"a": curve}, "t", log_x=True))
    (left, _), (middle, _), (right, _) = points(marks(chart, "curve")[0])
    assert middle == pytest.approx((left + right) / 2, abs=0.02)
    assert [text.text for text in chart.iter("text")][:3] == ["3", "6", "12"]
