import numpy as np
import pytest

from simile.reports.numerals import counted, is_number, shown


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (None, None, "\N{EN DASH}"),
        (float("nan"), "+.3f", "\N{EN DASH}"),
        (np.float32("nan"), None, "\N{EN DASH}"),
        (float("inf"), None, "∞"),
        (float("-inf"), ".3f", "\N{MINUS SIGN}∞"),
        (1234567, None, "1,234,567"),
        (np.int64(1234), None, "1,234"),
        (0.12345, None, "0.123"),
        (np.float32(0.5), ".1%", "50.0%"),
        (-0.01, "+.3f", "\N{MINUS SIGN}0.010"),
        (-0.0, ".3f", "0.000"),
        (-0.0001, ".3f", "\N{MINUS SIGN}0.000"),
        (True, None, "yes"),
        (np.False_, None, "no"),
        ("a-b", None, "a-b"),
    ],
)
def test_a_value_is_formatted_for_reading(value, spec, text):
    assert shown(value, spec) == text


def test_truth_values_are_no_numbers():
    assert [is_number(value) for value in (1, 0.5, np.float32(1), True, "1", None)] == [True, True, True, *[False] * 3]


def test_nouns_agree_with_their_number():
    assert [counted(number, "value") for number in (0, 1, 2000)] == ["0 values", "1 value", "2,000 values"]
