import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mining.sampling.features import codes, rows_by_group


@given(st.lists(st.integers(0, 5), max_size=30))
def test_rows_of_each_group_are_those_of_brute_force(groups):
    rows = [rows.tolist() for rows in rows_by_group(np.array(groups, dtype=np.int64)) if len(rows)]
    assert rows == [[i for i, other in enumerate(groups) if other == group] for group in sorted(set(groups))]


def test_codes_are_equal_for_equal_names_and_minus_one_for_none():
    assert codes(["b", None, "a", "b", None, "c"]).tolist() == [0, -1, 1, 0, -1, 2]
    assert codes([]).tolist() == []
