import pytest

from simile.reports import bars, intervals


def figures(figure):
    return [span.text for span in figure.iter("span") if span.get("class") == "strip-figure"]


def test_an_interval_is_drawn_and_said(parse):
    figure = parse(intervals("t", [("set", 0.5, 0.25, 0.75), ("edge", 1.0, 1.0, 1.0)], spec="+.2f"))
    line = next(line for line in figure.iter("line") if line.get("class") == "interval")
    assert (line.get("x1"), line.get("x2")) == ("25.00%", "75.00%")
    assert figure.find(".//circle").get("cx") == "50.00%"
    assert figures(figure) == ["+0.50 [+0.25, +0.75]", "+1.00 [+1.00, +1.00]"]


def test_the_dot_is_hollow_where_the_interval_holds_zero(parse):
    figure = parse(intervals("t", [("above", 0.2, 0.1, 0.3), ("around", 0.0, -0.1, 0.1), ("ends at", 0.1, 0.0, 0.2)]))
    assert ["hollow" in dot.get("class") for dot in figure.iter("circle")] == [False, True, True]
    assert "Hollow: the interval holds zero." in "".join(figure.itertext())


def test_without_a_zero_line_zero_is_neither_on_the_axis_nor_hollow(parse):
    figure = parse(intervals("t", [("a", 0.7, 0.65, 0.75)], zero_line=False))
    assert all(float(text.text) >= 0.6 for text in figure.iter("text"))
    assert not [line for line in figure.iter("line") if line.get("class") == "zero"]
    around = parse(intervals("t", [("a", 0.0, -0.1, 0.1)], zero_line=False))
    assert around.find(".//circle").get("class") == "value"


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_what_is_missing_is_not_drawn(parse, missing):
    figure = parse(intervals("t", [("a", 0.5, missing, missing), ("b", missing, 0.1, 0.2), ("c", None, None, None)]))
    assert len(list(figure.iter("circle"))) == 1
    assert len([line for line in figure.iter("line") if line.get("class") == "interval"]) == 1
    assert figures(figure)[2] == "\N{EN DASH}"


def test_bars_go_from_zero_to_their_value(parse):
    figure = parse(bars("t", [("up", 10), ("down", -10), ("none", None), ("nothing", 0)]))
    drawn = [(bar.get("x"), bar.get("width")) for bar in figure.iter("rect") if bar.get("class") == "bar"]
    assert drawn == [("50.00%", "50.00%"), ("0.00%", "50.00%"), ("50.00%", "0.00%")]
    assert figures(figure) == ["10", "\N{MINUS SIGN}10", "\N{EN DASH}", "0"]


def test_each_strip_says_its_row(parse):
    figure = parse(bars("t", [("rows", 1234)]))
    strip = figure.find(".//svg[@role='img']")
    assert strip.get("aria-label") == strip.findtext("title") == "rows: 1,234"


@pytest.mark.parametrize("chart", [intervals, bars])
def test_no_rows_say_so(parse, chart):
    assert parse(chart("t", [])).findtext("p") == "None."
