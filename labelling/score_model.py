"""A model of how a baseline and a bundle score pairs that share units, which simulated pairs are drawn from.

Within a class, the two scores of a pair are jointly normal (after a transformation that keeps the order). Their
variance is the sum of random effects of the pair's two units (groups or texts), of the combination of the two, and of
the single pair. The classes' distance sets the AUC of each model, and with it the gain.

`labelling.pilot` estimates the model from labelled pairs.

Shape suffixes: P = pairs, U = units, C = classes (negative, positive), M = models (baseline, bundle), E = effects of a
unit (one per class and model, in this order), K = gains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from simile.artifacts import Pair, PairSet

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Covariances:
    """The covariances of the random effects on the two models' scores."""

    unit_EE: Array
    """Covariance of a unit's effects, shape ``(4, 4)``."""
    combination_CMM: Array
    """Covariance of the effects of a combination of two units, by class, shape ``(2, 2, 2)``."""
    pair_CMM: Array
    """Covariance of a single pair's effects, by class, shape ``(2, 2, 2)``."""


@dataclass(frozen=True, eq=False, slots=True)
class Structure:
    """How pairs share units."""

    within_share_C: Array
    """Share of each class's pairs whose two ends are one unit, shape ``(2,)``."""
    recurrence_C: Array
    """Probability that two pairs of a class, each of two units, are of the same two, shape ``(2,)``."""
    usage_U: NDArray[np.int64]
    """For each unit of a pilot, the number of its pairs within it and of its combinations with others."""


@dataclass(frozen=True, eq=False, slots=True)
class Drawn:
    """Drawn pairs."""

    is_positive_P: Mask
    unit_P2: NDArray[np.int64]
    """The two units of each pair."""
    effect_PM: Array
    """Sum of the random effects on the score of each pair by each model."""

    def scores(self, model: int, shift: float) -> Array:
        """Return the scores by the baseline (0) or the bundle (1), whose classes lie this far apart."""
        return np.asarray(self.effect_PM[:, model] + shift * self.is_positive_P)

    def pairs(self) -> PairSet:
        """Return the pairs as a set whose texts are the units: texts are resampled as groups are."""
        rows = [Pair(f"{a}", f"{b}", label=int(y)) for (a, b), y in zip(self.unit_P2, self.is_positive_P, strict=True)]
        return PairSet("drawn", tuple(rows), "")


@dataclass(frozen=True, eq=False, slots=True)
class ScoreModel:
    """What the scores of drawn pairs depend on."""

    positive_share: float
    """Share of positive pairs, in (0, 1)."""
    baseline_auc: float
    """AUC of the baseline, in (0, 1)."""
    covariances: Covariances
    structure: Structure

    def shifts(self, gains: Sequence[float]) -> Array:
        """Return how far the classes lie apart for the baseline, and for a bundle of each gain, shape ``(1 + K,)``.

        The shift of a gain that no bundle can have is NaN.
        """
        unit_CMM = by_class(self.covariances.unit_EE)
        ends_C = 2 - self.structure.within_share_C
        total_CMM = ends_C[:, None, None] * unit_CMM + self.covariances.pair_CMM
        total_CMM += (ends_C - 1)[:, None, None] * self.covariances.combination_CMM
        # The AUC of two normal classes is the normal distribution at their distance, in deviations of a difference.
        spread_M = np.sqrt(total_CMM.sum(axis=0).diagonal())
        auc_K = self.baseline_auc + np.asarray(gains) / spearman_per_auc(self.positive_share)
        shift_K = norm.ppf(np.where(auc_K < 1, auc_K, np.nan)) * spread_M[1]
        return np.array([norm.ppf(self.baseline_auc) * spread_M[0], *shift_K])

    def draw(self, num_pairs: int, num_units: int, rng: np.random.Generator) -> Drawn:
        """Return that many pairs over at most that many units."""
        is_positive_P = rng.random(num_pairs) < self.positive_share
        # A set of one class has no Spearman.
        is_positive_P[:2] = True, False
        class_P = is_positive_P.astype(np.int64)
        is_within_P = rng.random(num_pairs) < self.structure.within_share_C[class_P]
        combination_P = np.full(num_pairs, -1)
        for c, recurrence in enumerate(self.structure.recurrence_C):
            of_class_P = ~is_within_P & (class_P == c)
            combination_P[of_class_P] = combination_P.max() + 1 + _recurring(int(of_class_P.sum()), recurrence, rng)
        unit_P2 = self._draw_units(is_within_P, combination_P, num_units, rng)
        unit_UCM = normal(self.covariances.unit_EE, num_units, rng).reshape(-1, 2, 2)
        effect_PM = unit_UCM[unit_P2[:, 0], class_P]
        effect_PM[~is_within_P] += unit_UCM[unit_P2[~is_within_P, 1], class_P[~is_within_P]]
        for c in (0, 1):
            of_class_P = class_P == c
            effect_PM[of_class_P] += normal(self.covariances.pair_CMM[c], int(of_class_P.sum()), rng)
            effect_QM = normal(self.covariances.combination_CMM[c], combination_P.max() + 1, rng)
            of_class_P &= ~is_within_P
            effect_PM[of_class_P] += effect_QM[combination_P[of_class_P]]
        return Drawn(is_positive_P, unit_P2, effect_PM)

    def _draw_units(
        self, is_within_P: Mask, combination_P: NDArray[np.int64], num_units: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Return the two units of each pair, shape ``(P, 2)``: each unit once, then as unevenly as in the pilot."""
        num_within, num_combinations = int(is_within_P.sum()), combination_P.max() + 1
        num_ends = num_within + 2 * num_combinations
        more_U = rng.choice(self.structure.usage_U - 1, num_units).astype(np.float64)
        share_U = more_U / more_U.sum() if more_U.any() else None
        again = rng.choice(num_units, max(0, num_ends - num_units), p=share_U)
        end_N = rng.permutation(np.concatenate([rng.permutation(num_units)[:num_ends], again]))
        unit_Q2 = end_N[num_within:].reshape(-1, 2)
        # A unit that met itself gets a neighbour.
        unit_Q2[:, 1] = (unit_Q2[:, 1] + (unit_Q2[:, 0] == unit_Q2[:, 1])) % num_units
        unit_P2 = np.empty((len(is_within_P), 2), dtype=np.int64)
        unit_P2[is_within_P] = end_N[:num_within, None]
        unit_P2[~is_within_P] = unit_Q2[combination_P[~is_within_P]]
        return unit_P2


def spearman_per_auc(positive_share: float) -> float:
    """Return Spearman of scores and 0/1 labels, divided by AUC - 0.5, where scores have no ties."""
    return float(np.sqrt(12 * positive_share * (1 - positive_share)))


def by_class(unit_EE: Array) -> Array:
    """Return the covariances of a unit's effects within each class, shape ``(2, 2, 2)``."""
    return np.array([unit_EE[:2, :2], unit_EE[2:, 2:]])


def normal(covariance_EE: Array, num: int, rng: np.random.Generator) -> Array:
    """Return normal vectors of this covariance, which may be singular, shape ``(num, E)``."""
    value_E, vector_EE = np.linalg.eigh(covariance_EE)
    root_EE = vector_EE * np.sqrt(np.maximum(value_E, 0))
    return np.asarray(rng.standard_normal((num, len(value_E))) @ root_EE.T)


def _recurring(num: int, recurrence: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the combination of each of some pairs, any two of which have the same one with this probability.

    A pair takes up a new combination, or else that of a random pair before it. The first has the probability a / (a +
    i) for the i-th pair from 0: a Chinese restaurant process (Aldous 1985), in which the recurrence is 1 / (1 + a).
    """
    number_P = np.arange(num)
    is_new_P = rng.random(num) * (recurrence * number_P + 1 - recurrence) < 1 - recurrence
    is_new_P[:1] = True
    source_P = np.where(is_new_P, number_P, (rng.random(num) * number_P).astype(np.int64))
    while (further_P := source_P[source_P]).tolist() != source_P.tolist():
        source_P = further_P
    return np.asarray((np.cumsum(is_new_P) - 1)[source_P])
