"""Figures of the traffic from a stratified sample of it, each with a 95 % interval that is right for the design.

A pair that came into the sample with probability p stands for 1 / p pairs of the traffic. Every figure is a smooth
function of such weights. Its variance is that of the sum of its derivatives by the weights (linearization), within
strata and with the finite population correction; the size of a stratum is the sum of its weights. Intervals are
computed on the scale of the logit (Spearman: of Fisher's z), where the distribution is closer to the normal one, and
by Student's t with as many degrees of freedom as there are pairs minus strata.

Source: Deville 1999, "Variance estimation for complex statistics and estimators: linearization and residual
techniques", Survey Methodology 25, 193-203; Saerndal, Swensson & Wretman 1992, Model Assisted Survey Sampling, 5.5.

Shape suffixes: P = pairs, S = strata.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import t

from simile.artifacts.strict import StrictModel
from simile.scoring.weighted_spearman import WeightedSpearman

Array = NDArray[np.float64]
_LEVEL = 0.95


class _Scale(NamedTuple):
    """A function of figures whose values have about a normal distribution, its inverse, and its slope."""

    forward: Callable[[float], float]
    inverse: Callable[[float], float]
    slope: Callable[[float], float]


_LOGIT = _Scale(logit, expit, lambda value: 1 / (value * (1 - value)))
_FISHER = _Scale(np.arctanh, np.tanh, lambda value: 1 / (1 - value**2))


class Estimate(StrictModel):
    """A figure of the traffic, with the ends of its 95 % interval; None where the sample does not determine it."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """How labelled pairs came into the sample."""

    weight_P: Array
    """The number of pairs of the traffic that each pair stands for."""
    stratum_P: NDArray[np.int64]
    """The number of each pair's stratum, from 0."""


def sample_of(inclusion_P: Array, strata: Sequence[str | None]) -> Sample:
    """Return the sample of pairs with these inclusion probabilities.

    Where pairs have no stratum, those of equal probability are taken as one. A stratum of a single pair, whose variance
    is unknown, is joined with the one of the next higher mean probability.
    """
    names = [f"{p:.12g}" if name is None else f"={name}" for p, name in zip(inclusion_P, strata, strict=True)]
    _, stratum_P = np.unique(names, return_inverse=True)
    # Strata are numbered by their mean probability, so that a stratum is joined with the most similar one.
    mean_S = np.bincount(stratum_P, inclusion_P) / np.bincount(stratum_P)
    stratum_P = np.argsort(np.argsort(mean_S, kind="stable"))[stratum_P]
    num_S = np.bincount(stratum_P)
    new_S = np.zeros(len(num_S), dtype=np.int64)
    size = 0
    for i in range(1, len(num_S)):
        size += num_S[i - 1]
        is_full = size >= 2 and num_S[i:].sum() >= 2
        new_S[i], size = new_S[i - 1] + is_full, 0 if is_full else size
    return Sample(1 / inclusion_P, new_S[stratum_P])


def share_of_positives(sample: Sample, label_P: Array) -> Estimate:
    """Return the share of positives of the traffic, which ``--prior`` should be."""
    return ratio(sample, label_P, np.ones(len(label_P)))


def precision(sample: Sample, score_P: Array, label_P: Array, threshold: float) -> Estimate:
    """Return the share of positives among pairs that score at least the threshold."""
    is_above_P = (score_P >= threshold).astype(np.float64)
    return ratio(sample, label_P * is_above_P, is_above_P)


def recall(sample: Sample, score_P: Array, label_P: Array, threshold: float) -> Estimate:
    """Return the share of pairs that score at least the threshold among positives."""
    return ratio(sample, label_P * (score_P >= threshold), label_P)


def ratio(sample: Sample, part_P: Array, whole_P: Array) -> Estimate:
    """Return the share of a part in a whole, both 0 or 1 for each pair and the part nowhere without the whole.

    Where all or none of the whole is part, the normal distribution says nothing, and the far end is that of the exact
    binomial interval of as many pairs.
    """
    whole = float(sample.weight_P @ whole_P)
    if not whole:
        return Estimate(value=None, low=None, high=None)
    value = float(sample.weight_P @ part_P) / whole
    num = int(whole_P.sum())
    bound = ((1 - _LEVEL) / 2) ** (1 / num)
    if value in (0, 1):
        return Estimate(value=value, low=bound if value else 0, high=1 if value else 1 - bound)
    return _interval(sample, value, (part_P - value * whole_P) / whole, _LOGIT)


def auc(sample: Sample, score_P: Array, label_P: Array) -> Estimate:
    """Return the probability that a positive pair of the traffic outscores a negative one; a tie counts one half."""
    positive_P, negative_P = sample.weight_P * label_P, sample.weight_P * (1 - label_P)
    if not positive_P.any() or not negative_P.any():
        return Estimate(value=None, low=None, high=None)
    below_P, above_P = (
        _below(score_P, negative_P / negative_P.sum()),
        1 - _below(score_P, positive_P / positive_P.sum()),
    )
    value = float(positive_P @ below_P / positive_P.sum())
    derivative_P = label_P * (below_P - value) / positive_P.sum()
    derivative_P += (1 - label_P) * (above_P - value) / negative_P.sum()
    if not 0 < value < 1:
        return Estimate(value=value, low=None, high=None)
    return _interval(sample, value, derivative_P, _LOGIT)


def spearman(sample: Sample, score_P: Array, label_P: Array) -> Estimate:
    """Return Spearman's correlation of score and label over the traffic."""
    value = float(WeightedSpearman(score_P, label_P)(sample.weight_P))
    if not -1 < value < 1:
        return Estimate(value=value if np.isfinite(value) else None, low=None, high=None)
    return _interval(sample, value, spearman_derivative(sample.weight_P, score_P, label_P), _FISHER)


def spearman_derivative(weight_P: Array, score_P: Array, label_P: Array) -> Array:
    """Return the derivative of the weighted Spearman by the weight of each pair, shape ``(P,)``.

    A weight changes the sums of products that the correlation consists of, and the ranks of all pairs above.
    """
    total = weight_P.sum()
    a_P, b_P = (_below(value_P, weight_P) - total / 2 for value_P in (score_P, label_P))
    # The pairs above one: all pairs minus those below and half of the equal ones.
    above_ab, above_ba, above_aa, above_bb = (
        (weight_P @ rank_P) - _below(value_P, weight_P * rank_P)
        for value_P, rank_P in ((score_P, b_P), (label_P, a_P), (score_P, a_P), (label_P, b_P))
    )
    covariance, spread_a, spread_b = weight_P @ (a_P * b_P), weight_P @ a_P**2, weight_P @ b_P**2
    derivative_P = a_P * b_P + above_ab + above_ba
    relative_P = (a_P**2 + 2 * above_aa) / spread_a + (b_P**2 + 2 * above_bb) / spread_b
    return np.asarray((derivative_P - covariance * relative_P / 2) / np.sqrt(spread_a * spread_b))


def standard_error(sample: Sample, derivative_P: Array) -> float:
    """Return the standard error of a figure with these derivatives by the weights."""
    num_S = np.bincount(sample.stratum_P)
    fraction_S = num_S / np.bincount(sample.stratum_P, sample.weight_P)
    value_P = sample.weight_P * derivative_P
    mean_S = np.bincount(sample.stratum_P, value_P) / num_S
    square_S = np.bincount(sample.stratum_P, (value_P - mean_S[sample.stratum_P]) ** 2)
    return float(np.sqrt(np.sum((1 - fraction_S).clip(0) * num_S / np.maximum(num_S - 1, 1) * square_S)))


def _below(value_P: Array, weight_P: Array) -> Array:
    """Return the weight of the pairs with a lower value, and half of the weight of those with the same."""
    _, tie_P = np.unique(value_P, return_inverse=True)
    weight_T = np.bincount(tie_P, weight_P)
    return np.asarray((np.cumsum(weight_T) - weight_T / 2)[tie_P])


def _interval(sample: Sample, value: float, derivative_P: Array, scale: _Scale) -> Estimate:
    """Return the value with its interval, which is symmetric on the scale."""
    freedom = max(len(derivative_P) - int(sample.stratum_P.max()) - 1, 1)
    half = float(t.ppf((1 + _LEVEL) / 2, freedom)) * standard_error(sample, derivative_P) * scale.slope(value)
    low, high = (float(scale.inverse(scale.forward(value) + sign * half)) for sign in (-1, 1))
    return Estimate(value=value, low=low, high=high)
