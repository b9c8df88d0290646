"""Confidence intervals for differences of Spearman's correlation, resampling the units that pairs share.

Pairs share texts, so resampling pairs gives intervals that are too narrow. Groups are resampled where they are known,
texts otherwise. A pair's weight is the product of how often its two units were drawn, or that of its one unit. Where
pairs came into the set with different probabilities, it is multiplied by the number of pairs that the pair stands for.

The percentile interval of few units is too narrow as well. Its ends are therefore moved away from the difference as
Student's t moves those of a mean: by the ratio of the quantiles of t, with one degree of freedom less than there are
units, and of the normal distribution, times the square root of U / (U - 1) (Hesterberg 2015,
doi:10.1080/00031305.2015.1089789).

Shape suffixes: P = pairs, U = units (groups or texts), R = resamples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from simile.artifacts import PairSet
from simile.scoring.weighted_spearman import WeightedSpearman

RESAMPLES, SEED = 1000, 0
ALPHA = 0.05
"""The share of intervals that may miss the true difference."""
MIN_UNITS = 4
"""The fewest units that an interval is computed from: with two groups, each resample that has both classes is the set
itself, and the interval has no width."""
_WEIGHTS_AT_ONCE = 1_000_000
"""Weights of pairs in memory at once, over all resamples that are computed together: 8 MB per array."""


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
    units = num_units(pairs)
    value = float(bundle(pairs.weight_P) - baseline(pairs.weight_P))
    weights = _resampled_weights(pairs, resamples if units >= MIN_UNITS else 0)
    gain_R = np.concatenate([bundle(weight_RP) - baseline(weight_RP) for weight_RP in weights] or [np.empty(0)])
    gain_R = gain_R[np.isfinite(gain_R)]
    if not len(gain_R):
        return Interval(value, float("nan"), float("nan"))
    low, high = value + (np.percentile(gain_R, [2.5, 97.5]) - value) * _small_sample_factor(units)
    return Interval(value, float(low), float(high))


def low_end(value: float, low: float, *, units: int, alpha: float) -> float:
    """Return the low end of the interval at the level ``alpha``, given that of the 95 % interval."""
    return low if alpha == ALPHA else value - (value - low) * _t_quantile(units, alpha) / _t_quantile(units, ALPHA)


def _small_sample_factor(units: int) -> float:
    """Return how much further from the difference the ends lie than the percentiles of the resamples do."""
    return float(_t_quantile(units, ALPHA) / norm.ppf(1 - ALPHA / 2) * np.sqrt(units / (units - 1)))


def _t_quantile(units: int, alpha: float) -> float:
    return float(t.ppf(1 - alpha / 2, units - 1))


def _resampled_weights(pairs: PairSet, num_resamples: int) -> Iterator[NDArray[np.float64]]:
    """Yield the pairs' weights in some resamples at a time, shape ``(R, P)``: units are drawn with replacement."""
    numbers: dict[str, int] = {}
    unit_P2 = np.array([[numbers.setdefault(unit, len(numbers)) for unit in pair] for pair in pairs.ends])
    num, other_P = len(numbers), np.flatnonzero(unit_P2[:, 0] != unit_P2[:, 1])
    rng = np.random.default_rng(SEED)
    at_once = max(1, _WEIGHTS_AT_ONCE // len(unit_P2))
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        drawn_RU = rng.integers(0, num, (rows, num)) + num * np.arange(rows)[:, None]
        count_RU = np.bincount(drawn_RU.ravel(), minlength=rows * num).reshape(rows, num).astype(np.float64)
        weight_RP = count_RU[:, unit_P2[:, 0]]
        weight_RP[:, other_P] *= count_RU[:, unit_P2[other_P, 1]]
        weight_RP *= pairs.weight_P
        yield weight_RP
