"""Spearman's correlation where pairs have weights.

Shape suffixes: P = pairs, R = rows of weights, T = different values (ties counted once).
"""

import numpy as np
from numpy.typing import NDArray


class WeightedSpearman:
    """Spearman's correlation of fixed scores and targets under changing weights of the pairs.

    A pair of weight w counts as w copies of it, also where w is no whole number; ties share their mean rank. Only the
    ratios of the weights matter. The values are sorted once.
    """

    def __init__(self, score_P: NDArray[np.floating], target_P: NDArray[np.floating]) -> None:
        self._scores, self._targets = _Ranks(score_P), _Ranks(target_P)

    def __call__(self, weight_RP: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the correlation of each row of weights, NaN where the weighted values are constant.

        Weights of the shape ``(P,)`` give one correlation, an array without dimensions.
        """
        total_R = weight_RP.sum(axis=-1)
        a_RP, b_RP = self._scores.deviations(weight_RP, total_R), self._targets.deviations(weight_RP, total_R)
        weighted_RP = weight_RP * a_RP
        covariance_R = np.einsum("...p,...p->...", weighted_RP, b_RP)
        weighted_RP *= a_RP
        spread_R = weighted_RP.sum(axis=-1) * np.einsum("...p,...p,...p->...", weight_RP, b_RP, b_RP)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(spread_R > 0, covariance_R / np.sqrt(spread_R), np.nan)


class _Ranks:
    """Mean ranks of fixed values under changing weights."""

    def __init__(self, value_P: NDArray[np.floating]) -> None:
        _, self._tie_P = np.unique(value_P, return_inverse=True)
        self._order_P = np.argsort(self._tie_P, kind="stable")
        self._start_T = np.searchsorted(self._tie_P[self._order_P], np.arange(self._tie_P.max() + 1))

    def deviations(self, weight_RP: NDArray[np.float64], total_R: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weighted mean rank of each value minus the mean of all ranks, which is half of the total + 1."""
        weight_RT = np.add.reduceat(weight_RP[..., self._order_P], self._start_T, axis=-1)
        deviation_RT = np.cumsum(weight_RT, axis=-1)
        weight_RT += np.asarray(total_R)[..., None]
        weight_RT *= 0.5
        deviation_RT -= weight_RT
        deviation_RP: NDArray[np.float64] = deviation_RT[..., self._tie_P]
        return deviation_RP
