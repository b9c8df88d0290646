"""Confidence intervals for Spearman's correlation, resampling the units that pairs share.

Pairs share texts, so resampling pairs gives intervals that are too narrow. Groups are resampled where they are known,
texts otherwise. A pair's weight is the product of how often its two units were drawn, or that of its one unit.

Shape suffixes: P = pairs, U = units (groups or texts), R = resamples.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import PairSet

RESAMPLES = 1000
SEED = 0
MIN_UNITS = 4
"""The fewest units that an interval is computed from: with two groups, each resample that has both classes is the set
itself, and the interval has no width; with four, all gain by chance once in 16 times."""
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def unit_of(pairs: PairSet) -> Literal["group", "text"]:
    """Return the unit that is resampled for these pairs."""
    return "group" if pairs.have_groups else "text"


def num_units(pairs: PairSet) -> int:
    """Return the number of different groups or texts among the pairs."""
    return len({end for pair in pairs.ends for end in pair})


def difference(
    pairs: PairSet, score_P: NDArray[np.float32], baseline_P: NDArray[np.float32], *, resamples: int = RESAMPLES
) -> Interval:
    """Return the scores' Spearman minus the baseline's, both computed on the same resamples.

    The ends are NaN where the scores are constant, and where there are fewer than `MIN_UNITS` units.
    """
    bundle, baseline = (WeightedSpearman(scores, pairs.target_P) for scores in (score_P, baseline_P))

    def gain(weight_P: NDArray[np.float64]) -> float:
        return bundle(weight_P) - baseline(weight_P)

    resampler = _Resampler(pairs, SEED)
    num_resamples = resamples if num_units(pairs) >= MIN_UNITS else 0
    gain_R = np.array([gain(resampler.draw()) for _ in range(num_resamples)])
    gain_R = gain_R[np.isfinite(gain_R)]
    low, high = np.percentile(gain_R, _PERCENTILES) if len(gain_R) else (np.nan, np.nan)
    return Interval(float(gain(np.ones(len(score_P)))), float(low), float(high))


class WeightedSpearman:
    """Spearman's correlation of fixed scores and targets under changing whole-number weights of the pairs.

    A pair of weight w counts as w copies of it; ties share their mean rank. The values are sorted once.
    """

    def __init__(self, score_P: NDArray[np.floating], target_P: NDArray[np.floating]) -> None:
        self._ties = [_Ties(np.asarray(values, dtype=np.float64)) for values in (score_P, target_P)]

    def __call__(self, weight_P: NDArray[np.float64]) -> float:
        """Return the correlation, or NaN where the weighted values are constant."""
        total = weight_P.sum()
        if total == 0:
            return float("nan")
        a_P, b_P = (ties.mean_ranks(weight_P) for ties in self._ties)
        a_P, b_P = a_P - (weight_P @ a_P) / total, b_P - (weight_P @ b_P) / total
        spread = (weight_P @ (a_P * a_P)) * (weight_P @ (b_P * b_P))
        return float(weight_P @ (a_P * b_P) / np.sqrt(spread)) if spread > 0 else float("nan")


class _Ties:
    """Values grouped by ties; the groups are computed once."""

    def __init__(self, value_P: NDArray[np.float64]) -> None:
        _, self._tie_P = np.unique(value_P, return_inverse=True)

    def mean_ranks(self, weight_P: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weighted mean rank of each value."""
        weight_per_tie = np.bincount(self._tie_P, weights=weight_P)
        rank_per_tie: NDArray[np.float64] = np.cumsum(weight_per_tie) - (weight_per_tie - 1) / 2
        return rank_per_tie[self._tie_P]


class _Resampler:
    """Draws units with replacement and turns the draws into weights of the pairs."""

    def __init__(self, pairs: PairSet, seed: int) -> None:
        ends = pairs.ends
        units = {unit: i for i, unit in enumerate(dict.fromkeys(end for pair in ends for end in pair))}
        self._a_P = np.array([units[a] for a, _ in ends])
        self._b_P = np.array([units[b] for _, b in ends])
        self._num_units = len(units)
        self._rng = np.random.default_rng(seed)

    def draw(self) -> NDArray[np.float64]:
        """Return the weights of one resample, shape ``(P,)``."""
        drawn = self._rng.integers(0, self._num_units, self._num_units)
        count_U = np.bincount(drawn, minlength=self._num_units).astype(np.float64)
        weight_P = count_U[self._a_P] * np.where(self._a_P == self._b_P, 1.0, count_U[self._b_P])
        return np.asarray(weight_P)
