import pytest

from simile.reports import lines


def paths(figure):
    return [path.get("d") for path in figure.iter("path")]


def test_a_curve_goes_through_its_points(parse):
    figure = parse(lines("t", {"a": [(0, 0.0), (5, 1.0), (10, 0.5)]}))
    assert paths(figure) == ["M0.00,100.00L50.00,0.00L100.00,50.00"]


@pytest.mark.parametrize("gap", [None, float("nan"), float("inf")])
def test_what_is_missing_leaves_a_gap(parse, gap):
    figure = parse(lines("t", {"a": [(0, 0.0), (1, 1.0), (2, gap), (3, 1.0), (4, 0.0)]}))
    assert paths(figure)[0].count("M") == 2
    assert len(list(figure.iter("circle"))) == 4


def test_a_dot_says_its_series_and_its_values(parse):
    figure = parse(lines("t", {"loss": [(1000, 0.25), (2000, 0.125)]}))
    assert [dot.findtext("title") for dot in figure.iter("circle")] == ["loss\n1000: 0.25", "loss\n2000: 0.125"]


def test_a_long_curve_has_dots_only_where_a_point_stands_alone(parse):
    points = [(x, x % 7) for x in range(100)] + [(100, None), (101, 3)]
    assert len(list(parse(lines("t", {"a": points})).iter("circle"))) == 1


def test_the_legend_names_each_series_and_its_last_value(parse):
    figure = parse(lines("t", {"a": [(0, 1.0), (1, 0.5), (2, None)], "b": []}))
    assert ["".join(item.itertext()) for item in figure.iter("li")] == ["a last 0.5", "b no values"]


def test_series_past_the_last_colour_are_dashed(parse):
    figure = parse(lines("t", {str(index): [(0, index), (1, index)] for index in range(7)}))
    classes = [path.get("class") for path in figure.iter("path")]
    assert len(set(classes)) == 7
    assert ["dashed" in name for name in classes] == [False] * 5 + [True] * 2


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [(0, None)]}])
def test_curves_of_nothing_say_so(parse, series):
    assert parse(lines("t", series)).findtext("p") == "None."


def test_a_single_point_is_drawn(parse):
    assert len(list(parse(lines("t", {"a": [(3, 0.5)]})).iter("circle"))) == 1
