import re

import numpy as np
import pytest

from simile.reports import Counts, histogram, histogram_row


def counts(figure, name):
    """Return what the columns under the pointer say of a series: its count in each bin."""
    said = [rect.findtext("title") for rect in figure.iter("rect")]
    return [int(re.search(rf"^{name}: .*\(([\d,]+)\)$", text, re.M)[1].replace(",", "")) for text in said]


def remarks(figure):
    return ["".join(item.itertext()) for item in figure.iter("li")]


def test_counts_sum_to_the_values_and_match_numpy(parse):
    values = np.random.default_rng(0).normal(0.4, 0.2, 500)
    found = counts(parse(histogram("t", {"a": values}, bins=20)), "a")
    assert sum(found) == 500
    assert found == np.histogram(values, 20)[0].tolist()


def test_values_beyond_the_limits_count_in_the_end_bins(parse):
    found = counts(parse(histogram("t", {"a": [-5, 0.1, 0.9, 7, 8]}, bins=2, limits=(0, 1))), "a")
    assert found == [2, 3]


def test_values_that_are_not_finite_are_left_out_and_counted(parse):
    figure = parse(histogram("t", {"a": [0.5, 1.5, None, float("nan"), float("inf")]}, bins=2))
    assert sum(counts(figure, "a")) == 2
    assert remarks(figure) == ["a 2 values, mean 1.000, 3 not finite"]


def test_counts_are_drawn_as_the_values_they_count(parse):
    values = [0.1, 0.2, 0.2, 0.8]
    edges = np.linspace(0, 1, 5)
    given = parse(histogram("t", {"a": Counts(edges, np.histogram(values, edges)[0])}))
    binned = parse(histogram("t", {"a": values}, bins=4, limits=(0, 1)))
    assert [path.get("d") for path in given.iter("path")] == [path.get("d") for path in binned.iter("path")]


def test_values_share_the_edges_of_counts(parse):
    figure = parse(histogram("t", {"a": Counts([0, 1, 2], [5, 6]), "b": [0.5, 1.5, 9]}))
    assert (counts(figure, "a"), counts(figure, "b")) == ([5, 6], [1, 2])


def test_shares_do_not_depend_on_the_size_of_a_series(parse):
    figure = parse(histogram("t", {"a": [0.1, 0.9], "b": [0.1, 0.9] * 50}, bins=4))
    one, other = [path.get("d") for path in figure.iter("path")]
    assert one == other


def test_bins_that_hold_nothing_stay_bare(parse):
    figure = parse(histogram("t", {"a": [0.0, 1.0]}, bins=10))
    assert figure.find(".//path").get("d").count("M") == 2


def test_each_mean_is_marked_within_the_plot(parse):
    figure = parse(histogram("t", {"a": [0.5, 0.5], "b": [99.0]}, limits=(0, 1)))
    marks = [line.get("x1") for line in figure.iter("line") if "mean" in line.get("class")]
    assert marks == ["50.00%", "100.00%"]


def test_panels_of_a_row_share_bins_and_height(parse):
    row = parse(histogram_row({"one": {"a": [0.0, 0.1, 1.0]}, "two": {"a": [0.5] * 9 + [2.0]}}, bins=4))
    one, two = row
    assert [text.text for text in one.iter("text")] == [text.text for text in two.iter("text")]
    assert [rect.findtext("title").split("\n")[0] for rect in one.iter("rect")] == [
        rect.findtext("title").split("\n")[0] for rect in two.iter("rect")
    ]


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [None, float("nan")]}, {"a": Counts([0, 1], [0])}])
def test_a_histogram_of_nothing_says_so(parse, series):
    assert parse(histogram("t", series)).findtext("p") == "None."


def test_a_row_without_panels_is_empty(parse):
    assert len(parse(histogram_row({}))) == 0


def test_values_that_are_all_alike_are_drawn(parse):
    assert sum(counts(parse(histogram("t", {"a": [0.3] * 7})), "a")) == 7


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({"a": Counts([0, 1], [1]), "b": Counts([0, 2], [1])}, "over different edges"),
        ({"a": Counts([0, 1, 9], [1, 1])}, "unequal width"),
    ],
)
def test_counts_that_cannot_share_a_chart_are_an_error(series, message):
    with pytest.raises(ValueError, match=message):
        histogram("t", series)


@pytest.mark.parametrize(("edges", "found"), [([0, 1], [1, 2]), ([0], []), ([[0, 1]], [1])])
def test_counts_have_one_edge_more_than_bins(edges, found):
    with pytest.raises(ValueError, match="an edge more"):
        Counts(edges, found)


@pytest.mark.parametrize("options", [{"limits": (1, 0)}, {"limits": (0, float("nan"))}, {"bins": 0}])
def test_bins_that_cannot_be_are_an_error(options):
    with pytest.raises(ValueError, match="from low to high"):
        histogram("t", {"a": [0.5, 0.7]}, **options)
