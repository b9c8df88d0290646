"""Strata of a score, and equal shares among them."""

import numpy as np
import pytest

from simile.artifacts.strata import STRATA, equal_shares, strata_of


def test_stratum_holds_its_lower_edge_and_names_it():
    score_P = np.array([-1, -0.001, 0, 0.049, 0.05, 0.5, 0.95, 1])
    names = [STRATA[stratum] for stratum in strata_of(score_P)]
    assert names[:2] == ["below 0.00"] * 2
    assert names[2:5] == ["0.00 to 0.05", "0.00 to 0.05", "0.05 to 0.10"]
    assert names[5:] == ["0.50 to 0.55", "0.95 to 1.00", "0.95 to 1.00"]


def test_single_precision_does_not_move_an_edge_into_the_stratum_below():
    edge_S = np.round(np.arange(20) * 0.05, 2)
    assert strata_of(edge_S.astype(np.float32)).tolist() == list(range(1, 21))
    assert strata_of(edge_S).tolist() == list(range(1, 21))


@pytest.mark.parametrize("seed", range(20))
def test_equal_shares_give_what_small_limits_leave_to_the_others(seed):
    random = np.random.default_rng(seed)
    limit_S = random.integers(0, 30, size=7)
    total = int(random.integers(0, 150))
    given = equal_shares(limit_S, total, whole=True)
    # Brute force: one unit in turn to each stratum that still takes one.
    expected = np.zeros(7)
    while expected.sum() < min(total, limit_S.sum()):
        room = np.flatnonzero(expected < limit_S)
        expected[room[np.argmin(expected[room])]] += 1
    assert given.sum() == expected.sum()
    assert sorted(given) == sorted(expected)
    assert (given <= limit_S).all()


def test_equal_shares_need_not_be_whole():
    assert equal_shares(np.array([0.5, 9.0, 9.0]), 2.0).tolist() == [0.5, 0.75, 0.75]
