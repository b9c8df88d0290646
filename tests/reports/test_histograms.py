import re

import numpy as np
import pytest

from simile.reports import Counts, histogram_row


def histogram(title, series, **options):
    return histogram_row({title: series}, **options)


def bins(figure):
    """Return what the bins say under the pointer."""
    return [group.findtext("title") for group in figure.iterfind(".//g[@class='bins']/path")]


def counts(figure, name):
    """Return the count of a series in each bin."""
    said = bins(figure)
    return [int(re.search(rf"^{name}: .*\(([\d,]+)\)$", text, re.M)[1].replace(",", "")) for text in said]


def remarks(figure):
    return ["".join(item.itertext()) for item in figure.iter("li")]


def test_counts_sum_to_the_values_and_match_numpy(parse):
    values = np.random.default_rng(0).normal(0.4, 0.2, 500)
    counted = counts(parse(histogram("t", {"a": values}, bins=20)), "a")
    assert sum(counted) == 500
    assert counted == np.histogram(values, 20)[0].tolist()


def test_values_beyond_the_limits_count_in_the_end_bins(parse):
    figure = parse(histogram("t", {"a": [-5, 0.1, 0.9, 7, 8]}, bins=2, limits=(0, 1)))
    assert counts(figure, "a") == [2, 3]


def test_values_that_are_not_finite_are_left_out_and_counted(parse):
    figure = parse(histogram("t", {"a": [0.5, 1.5, None, float("nan"), float("inf")]}, bins=2))
    assert sum(counts(figure, "a")) == 2
    assert remarks(figure) == ["a 2 values, mean 1.000, 3 not finite"]


def test_counts_are_drawn_as_the_values_they_count(parse, marks):
    values = [0.1, 0.2, 0.2, 0.8]
    edges = np.linspace(0, 1, 5)
    given = parse(histogram("t", {"a": Counts(edges, np.histogram(values, edges)[0])}))
    binned = parse(histogram("t", {"a": values}, bins=4, limits=(0, 1)))
    assert [path.get("d") for path in marks(given, "area")] == [path.get("d") for path in marks(binned, "area")]


def test_values_share_the_edges_of_counts(parse):
    figure = parse(histogram("t", {"a": Counts([0, 1, 2], [5, 6]), "b": [0.5, 1.5, 9]}))
    assert (counts(figure, "a"), counts(figure, "b")) == ([5, 6], [1, 2])


def test_shares_do_not_depend_on_the_size_of_a_series(parse, marks):
    figure = parse(histogram("t", {"a": [0.1, 0.9], "b": [0.1, 0.9] * 50}, bins=4))
    one, other = (path.get("d") for path in marks(figure, "area"))
    assert one == other


def test_bins_without_values_stay_bare(parse, marks):
    (area,) = marks(parse(histogram("t", {"a": [0.0, 1.0]}, bins=10)), "area")
    assert area.get("d").count("M") == 2


def test_each_mean_is_marked_within_the_plot(parse, marks):
    figure = parse(histogram("t", {"a": [0.5, 0.5], "b": [99.0]}, limits=(0, 1)))
    middle, right = (float(path.get("d").split()[1]) for path in marks(figure, "mean"))
    left = float(figure.find(".//g[@class='bins']/path").get("d").split()[1])
    assert middle == pytest.approx((left + right) / 2, abs=0.02)


def test_means_that_coincide_are_both_seen(parse, marks):
    one, other = marks(parse(histogram("t", {"a": [0.2, 0.8], "b": [0.4, 0.6]})), "mean")
    assert one.get("d") == other.get("d")
    assert ["stroke-dashoffset: 0" in one.get("style"), "stroke-dashoffset: 0" in other.get("style")] == [True, False]


def test_panels_of_a_row_share_bins_and_height(parse, ticks):
    one, two = parse(histogram_row({"one": {"a": [0.0, 0.1, 1.0]}, "two": {"a": [0.5] * 9 + [2.0]}}, bins=4))
    assert ticks(one) == ticks(two)
    assert [text.split("\n")[0] for text in bins(one)] == [text.split("\n")[0] for text in bins(two)]


def test_the_height_is_in_percent(parse, ticks):
    assert ticks(parse(histogram("t", {"a": [0, 0.6, 1]}, bins=2)))[-5:] == ["0%", "20%", "40%", "60%", "80%"]


@pytest.mark.parametrize("series", [{}, {"a": []}, {"a": [None, float("nan")]}, {"a": Counts([0, 1], [0])}])
def test_a_histogram_of_nothing_says_so(parse, series):
    assert parse(histogram("t", series)).findtext("figure/p") == "None."


def test_a_row_without_panels_is_empty(parse):
    assert len(parse(histogram_row({}))) == 0


def test_values_that_are_all_alike_are_drawn(parse):
    assert sum(counts(parse(histogram("t", {"a": [0.3] * 7})), "a")) == 7


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({"a": Counts([0, 1], [1]), "b": Counts([0, 2], [1])}, "with different edges"),
        ({"a": Counts([0, 1, 9], [1, 1])}, "unequal width"),
    ],
)
def test_counts_that_cannot_share_a_chart_are_an_error(series, message):
    with pytest.raises(ValueError, match=message):
        histogram("t", series)


@pytest.mark.parametrize(("edges", "given"), [([0, 1], [1, 2]), ([0], []), ([[0, 1]], [1])])
def test_counts_have_one_edge_more_than_bins(edges, given):
    with pytest.raises(ValueError, match="an edge more"):
        Counts(edges, given)


@pytest.mark.parametrize("options", [{"limits": (1, 0)}, {"limits": (0, float("nan"))}, {"bins": 0}])
def test_impossible_bins_are_an_error(options):
    with pytest.raises(ValueError, match=r"must be (larger|positive)|not finite"):
        histogram("t", {"a": [0.5, 0.7]}, **options)
