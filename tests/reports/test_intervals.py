import re

import pytest

from simile.reports import intervals


def figures(marks, figure):
    return [text.text for text in marks(figure, "row")][1::2]


def test_an_interval_is_drawn_and_said(parse, marks):
    figure = parse(intervals("t", [("set", 0.5, 0.25, 0.75), ("edge", 1.0, 1.0, 1.0)], spec="+.2f"))
    low, high = map(float, re.findall(r"([\d.]+) [\d.]+", marks(figure, "interval")[0].get("d")))
    dot, edge = (float(circle.get("cx")) for circle in marks(figure, "value"))
    assert dot == pytest.approx((low + high) / 2, abs=0.02)
    # A quarter of the axis per half of the interval.
    assert edge - dot == pytest.approx(high - low, abs=0.02)
    assert [text.text for text in marks(figure, "row")][::2] == ["set", "edge"]
    assert figures(marks, figure) == ["+0.50 [+0.25, +0.75]", "+1.00 [+1.00, +1.00]"]


def test_the_dot_is_hollow_where_the_interval_contains_zero(parse, marks):
    figure = parse(intervals("t", [("above", 0.2, 0.1, 0.3), ("around", 0.0, -0.1, 0.1), ("ends at", 0.1, 0.0, 0.2)]))
    assert len(marks(figure, "value")) == 1
    assert len(marks(figure, "hollow")) == 2
    assert all("fill: var(--ground)" in dot.get("style") for dot in marks(figure, "hollow"))
    assert figure.findtext("p") == "Hollow dot: the interval contains zero."


def test_zero_is_always_on_the_axis(parse, ticks):
    assert ticks(parse(intervals("t", [("a", 0.7, 0.65, 0.75)])))[0] == "0.0"


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_what_is_missing_is_not_drawn(parse, marks, missing):
    figure = parse(intervals("t", [("a", 0.5, missing, missing), ("b", missing, 0.1, 0.2), ("c", None, None, None)]))
    assert len(marks(figure, "value")) == 1
    assert len(marks(figure, "interval")) == 1
    assert figures(marks, figure)[2] == "\N{EN DASH}"


def test_the_label_of_the_chart_reads_out_each_row(parse):
    drawing = parse(intervals("Gain", [("one", 0.1, 0.0, 0.2), ("$two$", 1, None, None)])).find(".//svg")
    assert drawing.get("aria-label") == "Intervals: Gain. one: 0.100 [0.000, 0.200]; $two$: 1.000"


def test_no_rows_say_so(parse):
    assert parse(intervals("t", [])).findtext("p") == "None."
