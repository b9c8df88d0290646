"""Strata: bins of a score that pairs are sampled by, so that a sample has rare scores too.

Shape suffixes: P = pairs, S = strata.
"""

import numpy as np
from numpy.typing import NDArray

_WIDTH = 0.05
"""Width of a stratum. Some encoders give all their scores between 0.7 and 1, which are six strata."""
_EDGE_S = np.arange(round(1 / _WIDTH)) * _WIDTH
_LOWER_S = _EDGE_S - 1e-6
"""Lower ends of the strata: a score in single precision may lie a rounding error below the edge it stands for."""
STRATA = ("below 0.00", *(f"{edge:.2f} to {edge + _WIDTH:.2f}" for edge in _EDGE_S))
"""The names of the strata, in the order of their scores."""


def strata_of(score_P: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the index in `STRATA` of each score, shape ``(P,)``; a stratum holds its lower edge."""
    return np.asarray(_LOWER_S.searchsorted(score_P, side="right"), dtype=np.int64)


def equal_shares(limit_S: NDArray[np.floating], total: float, *, whole: bool = False) -> NDArray[np.float64]:
    """Return equal shares of the total, shape ``(S,)``; what a stratum cannot take up to its limit goes to the others.

    With ``whole``, limits, total and shares are whole numbers.
    """
    share_S, rest = np.zeros(len(limit_S)), total
    order = np.argsort(limit_S, kind="stable")
    for num_left, stratum in zip(range(len(order), 0, -1), order.tolist(), strict=True):
        equal = rest // num_left if whole else rest / num_left
        share_S[stratum] = min(float(limit_S[stratum]), equal)
        rest -= share_S[stratum]
    return share_S
