"""Intervals for Spearman's correlation by resampling what pairs share.

Pairs share texts, so drawing pairs gives intervals that are too narrow. Groups are drawn where they are known, else
texts; a pair counts as often as the product of its two units' draws (once a draw where both ends are one unit).

Shape suffixes: P = pairs, U = units (groups or texts), R = resamples.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import PairSet

RESAMPLES = 1000
SEED = 0
FEWEST_UNITS = 4
"""Of two groups each resample that has both classes is the set itself: an interval of no width. Of four, all gain by
chance once in 16 times."""
_TAILS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference and its 95 % interval."""

    value: float
    low: float
    high: float


def unit_of(pairs: PairSet) -> Literal["group", "text"]:
    """Return what is drawn for these pairs."""
    return "group" if pairs.have_groups else "text"


def num_units(pairs: PairSet) -> int:
    """Return how many groups or texts there are to draw from."""
    return len({end for pair in pairs.ends for end in pair})


def difference(
    pairs: PairSet, score_P: NDArray[np.float32], baseline_P: NDArray[np.float32], *, resamples: int = RESAMPLES
) -> Interval:
    """Return how much higher the scores' Spearman is than the baseline's, both on the same draws.

    The interval's ends are NaN where scores order nothing, and where there are too few groups or texts to draw from.
    """
    weights = _Draws(pairs, SEED)
    bundle, baseline = (WeightedSpearman(scores, pairs.target_P) for scores in (score_P, baseline_P))
    found_R = []
    for _ in range(resamples if num_units(pairs) >= FEWEST_UNITS else 0):
        weight_P = weights.draw()
        found = bundle(weight_P) - baseline(weight_P)
        if np.isfinite(found):
            found_R.append(found)
    even_P = np.ones(len(score_P))
    value = bundle(even_P) - baseline(even_P)
    low, high = np.percentile(found_R, _TAILS) if found_R else (np.nan, np.nan)
    return Interval(float(value), float(low), float(high))


class WeightedSpearman:
    """Spearman's correlation of fixed scores and targets under changing whole-number weights of the pairs.

    A pair of weight w counts as w copies of it; ties share their mean rank. The order is found once.
    """

    def __init__(self, score_P: NDArray[np.floating], target_P: NDArray[np.floating]) -> None:
        self._sorted = [_Ties(np.asarray(values, dtype=np.float64)) for values in (score_P, target_P)]

    def __call__(self, weight_P: NDArray[np.float64]) -> float:
        """Return the correlation, or NaN where what is left is constant."""
        total = weight_P.sum()
        if total == 0:
            return float("nan")
        a_P, b_P = (ties.mean_ranks(weight_P) for ties in self._sorted)
        a_P, b_P = a_P - (weight_P @ a_P) / total, b_P - (weight_P @ b_P) / total
        spread = (weight_P @ (a_P * a_P)) * (weight_P @ (b_P * b_P))
        return float(weight_P @ (a_P * b_P) / np.sqrt(spread)) if spread > 0 else float("nan")


class _Ties:
    """Values by rank, with what is tied known once."""

    def __init__(self, value_P: NDArray[np.float64]) -> None:
        _, self._tie_P = np.unique(value_P, return_inverse=True)

    def mean_ranks(self, weight_P: NDArray[np.float64]) -> NDArray[np.float64]:
        weight_of_tie = np.bincount(self._tie_P, weights=weight_P)
        last = np.cumsum(weight_of_tie)
        rank_of_tie: NDArray[np.float64] = last - (weight_of_tie - 1) / 2
        return rank_of_tie[self._tie_P]


class _Draws:
    """Draws units with replacement and turns them into weights of pairs."""

    def __init__(self, pairs: PairSet, seed: int) -> None:
        ends = pairs.ends
        units = {unit: i for i, unit in enumerate(dict.fromkeys(end for pair in ends for end in pair))}
        self._a_P = np.array([units[a] for a, _ in ends])
        self._b_P = np.array([units[b] for _, b in ends])
        self._num_units = len(units)
        self._rng = np.random.default_rng(seed)

    def draw(self) -> NDArray[np.float64]:
        drawn = self._rng.integers(0, self._num_units, self._num_units)
        count_U = np.bincount(drawn, minlength=self._num_units).astype(np.float64)
        weight_P = count_U[self._a_P] * np.where(self._a_P == self._b_P, 1.0, count_U[self._b_P])
        return np.asarray(weight_P)
