"""How many labelled pairs a verdict needs: the width of the interval, and the chance that the gate sees a gain.

Pairs and scores are drawn from a `ScoreModel`, and judged by the gate's own resampling. The difference is computed on
many drawn sets. Its interval takes much longer and varies less, so that a few of these sets tell the low ends of all.

Shape suffixes: P = pairs, K = gains, S = drawn sets, I = drawn sets with an interval.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labelling.score_model import Array, ScoreModel
from simile.artifacts import PairSet
from simile.artifacts.strict import StrictModel

GAINS, SIZES = (0.02, 0.05, 0.1), (100, 200, 500, 1000, 2000)
"""Gains in Spearman, and numbers of pairs."""
SETS, INTERVALS, RESAMPLES = 1000, 30, 500
"""Numbers of drawn sets, of those with an interval, and of the resamples of each. The gate takes 1,000 resamples; the
ends of the interval from 500 lie nearer by less than 1 %."""


class _Interval(Protocol):
    """A difference and the ends of its 95 % interval, NaN where there is none."""

    @property
    def value(self) -> float:
        """The difference."""

    @property
    def low(self) -> float:
        """Its low end."""

    @property
    def high(self) -> float:
        """Its high end."""


class Difference(Protocol):
    """The gate's difference of the Spearman of two models, with its interval."""

    def __call__(
        self, pairs: PairSet, score_P: NDArray[np.float32], baseline_P: NDArray[np.float32], *, resamples: int
    ) -> _Interval:
        """Return the interval of the scores' Spearman minus the baseline's."""


class SizePower(StrictModel):
    """What the gate can see in a set of a size."""

    pairs: int
    units: int
    """Number of groups or texts."""
    width: float | None
    """Mean width of the difference's 95 % interval over the gains; None where the units are too few for one."""
    chances: dict[str, float | None] = Field(default_factory=dict)
    """Chance that the low end is above 0, by the true gain in Spearman; None for a gain that no bundle can have."""


def power_of(
    model: ScoreModel, size: tuple[int, int], *, difference: Difference, gains: Sequence[float] = GAINS, seed: int = 0
) -> SizePower:
    """Return what the gate sees in sets of this many pairs over this many units, or fewer if there are not enough ends.

    Args:
        model: what the scores depend on.
        size: number of pairs, and of units.
        difference: the gate's own, `evaluation.bootstrap.difference`.
        gains: true gains in Spearman.
        seed: seed of what is drawn.
    """
    shifts = model.shifts(gains)
    is_possible_K = np.isfinite(shifts[1:])
    possible = shifts[np.concatenate([[True], is_possible_K])]
    value_SK, (value_KI, low_KI, high_KI) = _simulated(model, size, possible, difference=difference, seed=seed)
    chance_K = iter(map(_chance, value_SK.T, value_KI, low_KI))
    chances = {
        f"{gain:g}": next(chance_K) if possible else None for gain, possible in zip(gains, is_possible_K, strict=True)
    }
    width_KI = high_KI - low_KI
    has_width = width_KI.size and np.isfinite(width_KI).all()
    return SizePower(pairs=size[0], units=size[1], width=float(width_KI.mean()) if has_width else None, chances=chances)


def _simulated(
    model: ScoreModel, size: tuple[int, int], shifts: Array, *, difference: Difference, seed: int
) -> tuple[Array, Array]:
    """Return the differences of Spearman in every drawn set, and the gate's intervals in the first ones.

    Shapes: ``(S, K)``, and ``(3, K, I)`` with the difference, the low and the high end of each interval.
    """
    rng = np.random.default_rng([seed, *size])
    value_SK, interval_IK = [], []
    for number in range(SETS):
        drawn = model.draw(*size, rng)
        baseline_P = drawn.scores(0, shifts[0])
        bundle_KP = np.reshape([drawn.scores(1, shift) for shift in shifts[1:]], (-1, size[0]))
        value_SK.append(_spearman(bundle_KP, drawn.is_positive_P) - _spearman(baseline_P, drawn.is_positive_P))
        if number < INTERVALS:
            pairs, as_served_P = drawn.pairs(), baseline_P.astype(np.float32)
            intervals = [
                difference(pairs, one.astype(np.float32), as_served_P, resamples=RESAMPLES) for one in bundle_KP
            ]
            interval_IK.append([(one.value, one.low, one.high) for one in intervals])
    return np.array(value_SK), np.reshape(interval_IK, (INTERVALS, -1, 3)).transpose(2, 1, 0)


def _chance(value_S: Array, value_I: Array, low_I: Array) -> float:
    """Return the share of drawn sets whose low end is above 0, given the low ends of a part of them.

    The low end grows with the difference, by less than it, because a set on which both models order less well gives a
    smaller difference and a wider interval. A line through the known ones tells the others, with the same errors.
    """
    covariance = np.cov(value_I, low_I)
    slope = covariance[0, 1] / covariance[0, 0]
    error_I = low_I - low_I.mean() - slope * (value_I - value_I.mean())
    low_S = low_I.mean() + slope * (value_S - value_I.mean())
    return float(np.mean(low_S[:, None] + error_I > 0))


def _spearman(score_KP: Array, is_positive_P: NDArray[np.bool_]) -> Array:
    """Return Spearman of each row of scores without ties with the classes, shape ``(K,)``; much faster than SciPy."""
    num = score_KP.shape[-1]
    rank_KP = np.argsort(np.argsort(score_KP, axis=-1), axis=-1)
    share = is_positive_P.mean()
    apart_K = rank_KP[..., is_positive_P].mean(axis=-1) - rank_KP[..., ~is_positive_P].mean(axis=-1)
    return np.asarray(apart_K * np.sqrt(share * (1 - share) * 12 / (num**2 - 1)))
