"""Confidence intervals for Spearman's correlation, resampling the units that pairs share.

Pairs share texts, so resampling pairs gives intervals that are too narrow. Groups are resampled where they are known,
texts otherwise. A pair's weight is the product of how often its two units were drawn, or that of its one unit.

Shape suffixes: P = pairs, U = units (groups or texts), R = resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import PairSet

RESAMPLES, SEED = 1000, 0
MIN_UNITS = 4
"""The fewest units that an interval is computed from: with two groups, each resample that has both classes is the set
itself, and the interval has no width; with four, all gain by chance once in 16 times."""


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
    weights = _resampled_weights(pairs, resamples if num_units(pairs) >= MIN_UNITS else 0)
    gain_R = np.array([bundle(weight_P) - baseline(weight_P) for weight_P in weights])
    gain_R = gain_R[np.isfinite(gain_R)]
    low, high = np.percentile(gain_R, [2.5, 97.5]) if len(gain_R) else (np.nan, np.nan)
    even_P = np.ones(len(score_P))
    return Interval(bundle(even_P) - baseline(even_P), float(low), float(high))


class WeightedSpearman:
    """Spearman's correlation of fixed scores and targets under changing whole-number weights of the pairs.

    A pair of weight w counts as w copies of it; ties share their mean rank. The values are sorted once.
    """

    def __init__(self, score_P: NDArray[np.floating], target_P: NDArray[np.floating]) -> None:
        self._ties = [np.unique(values, return_inverse=True)[1] for values in (score_P, target_P)]
        """The number of each value, equal for tied values and ascending, of the scores and of the targets."""

    def __call__(self, weight_P: NDArray[np.float64]) -> float:
        """Return the correlation, or NaN where the weighted values are constant."""
        total = weight_P.sum()
        if total == 0:
            return float("nan")
        a_P, b_P = (_mean_ranks(tie_P, weight_P) for tie_P in self._ties)
        a_P, b_P = a_P - (weight_P @ a_P) / total, b_P - (weight_P @ b_P) / total
        spread = (weight_P @ (a_P * a_P)) * (weight_P @ (b_P * b_P))
        return float(weight_P @ (a_P * b_P) / np.sqrt(spread)) if spread > 0 else float("nan")


def _mean_ranks(tie_P: NDArray[np.int64], weight_P: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted mean rank of each value, given the ascending numbers of the values."""
    weight_per_tie = np.bincount(tie_P, weights=weight_P)
    rank_per_tie: NDArray[np.float64] = np.cumsum(weight_per_tie) - (weight_per_tie - 1) / 2
    return rank_per_tie[tie_P]


def _resampled_weights(pairs: PairSet, num_resamples: int) -> Iterator[NDArray[np.float64]]:
    """Yield the pairs' weights in each resample, shape ``(P,)``: units are drawn with replacement."""
    numbers: dict[str, int] = {}
    unit_P2 = np.array([[numbers.setdefault(unit, len(numbers)) for unit in pair] for pair in pairs.ends])
    is_one_unit_P = unit_P2[:, 0] == unit_P2[:, 1]
    rng = np.random.default_rng(SEED)
    for _ in range(num_resamples):
        drawn = rng.integers(0, len(numbers), len(numbers))
        count_P2 = np.bincount(drawn, minlength=len(numbers)).astype(np.float64)[unit_P2]
        yield count_P2[:, 0] * np.where(is_one_unit_P, 1.0, count_P2[:, 1])
