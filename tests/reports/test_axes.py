import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simile.reports.axes import axis, nice_step, nice_ticks, tick_labels

numbers = st.floats(-1e12, 1e12, allow_subnormal=False)


@given(st.lists(numbers, min_size=1))
def test_an_axis_holds_its_values_and_its_ticks(values):
    found = axis(values)
    slack = 1e-6 * (found.high - found.low)
    assert found.low - slack <= min(values) <= max(values) <= found.high + slack
    assert all(found.low - slack <= tick <= found.high + slack for tick in found.ticks)


@given(st.lists(st.floats(-1e3, 1e3, allow_subnormal=False), min_size=2))
def test_an_axis_ends_at_ticks(values):
    found = axis(values)
    assert 2 <= len(found.ticks) <= 7
    assert [found.ticks[0], found.ticks[-1]] == pytest.approx([found.low, found.high], rel=1e-6, abs=1e-9)


def test_whole_numbers_have_whole_ticks():
    assert axis([0, 1, 2, 3], snaps=False).ticks == (0, 1, 2, 3)
    assert axis([0, 1]).ticks == (0, 1)
    assert axis([0, 0.5, 1]).ticks == (0, 0.2, 0.4, 0.6, 0.8, 1)


@given(numbers, st.floats(1e-9, 1e12))
def test_ticks_are_few_evenly_spaced_and_multiples_of_a_nice_step(low, length):
    high = low + length
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        return
    ticks, step = nice_ticks(low, high), nice_step(high - low)
    assert 2 <= len(ticks) <= 7
    assert f"{step:.6e}"[:8] in ("1.000000", "2.000000", "5.000000")
    np.testing.assert_allclose(np.diff(ticks), step, rtol=1e-3)
    np.testing.assert_allclose(np.round(np.array(ticks) / step) * step, ticks, rtol=1e-9)


@given(st.lists(numbers, min_size=2, max_size=2))
def test_labels_tell_ticks_apart(values):
    labels = axis(values).labels()
    assert len(set(labels)) == len(labels)


def test_ticks_are_where_a_person_would_put_them():
    assert nice_ticks(-0.2, 1.0) == (-0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    assert nice_ticks(0, 2990) == (0, 500, 1000, 1500, 2000, 2500)


def test_labels_have_the_decimals_that_their_step_needs():
    assert tick_labels([-0.05, 0.0, 0.05]) == ["\N{MINUS SIGN}0.05", "0.00", "0.05"]
    assert tick_labels([0, 500, 1000]) == ["0", "500", "1,000"]
    assert tick_labels([0, 100_000, 200_000]) == ["0k", "100k", "200k"]
    assert tick_labels([1e6, 1.5e6]) == ["1.0M", "1.5M"]
    assert tick_labels([0, 2e-6, 4e-6]) == ["0", "2e\N{MINUS SIGN}06", "4e\N{MINUS SIGN}06"]
    assert tick_labels([0, 2, 4], "%") == ["0%", "2%", "4%"]


def test_values_that_are_no_numbers_do_not_move_an_axis():
    assert axis([None, float("nan"), float("inf"), 0.0, 1.0]) == axis([0.0, 1.0])


@pytest.mark.parametrize("values", [[], [None], [5.0], [0.0], [-3.0, -3.0], [1e-12, 1e-12]])
def test_an_axis_always_has_a_length_and_ticks(values):
    found = axis(values)
    assert found.low < found.high
    assert len(found.ticks) >= 2


def test_places_run_from_0_to_100():
    found = axis([0.0, 10.0])
    assert [found.place(value) for value in (0, 5, 10)] == [0, 50, 100]
