"""How far several people agree on labels: Cohen's kappa, Krippendorff's alpha, and the pairs labelled differently.

Only *same* and *different* are labels: an answer of *unsure* or *skip* is missing data, as Krippendorff's alpha allows.
Intervals are percentiles of a bootstrap over pairs, because the answers to one pair depend on each other.

Shape suffixes: P = pairs, A = annotators, C = classes (different, same), R = resamples.
"""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from simile.artifacts.strict import StrictModel

RESAMPLES, SEED = 1000, 0
MISSING = -1
"""The label of a pair that an annotator gave none to."""
_Counts = NDArray[np.float64]


class Coefficient(StrictModel):
    """A coefficient of agreement with its 95 % interval; None where it is undefined, as with a single class."""

    value: float | None
    low: float | None
    high: float | None
    pairs: int
    """Number of pairs with labels of two or more people, from which it was computed."""


class PairOfAnnotators(StrictModel):
    """The agreement of two people, and what they disagree on."""

    first: str
    second: str
    kappa: Coefficient
    """Cohen's kappa."""
    agreed: int
    """Number of pairs with the same label by both."""
    first_same: int
    """Number of pairs that only the first called the same."""
    second_same: int
    """Number of pairs that only the second called the same."""


class Agreement(StrictModel):
    """The agreement of all people."""

    alpha: Coefficient
    """Krippendorff's alpha for nominal data."""
    annotators: tuple[PairOfAnnotators, ...]
    """Each two people who labelled pairs in common."""


def agreement(labels: Mapping[str, Mapping[str, int]]) -> Agreement:
    """Return the agreement of labels by annotator and then by pair."""
    pairs = sorted({pair for own in labels.values() for pair in own})
    label_PA = np.array([[own.get(pair, MISSING) for own in labels.values()] for pair in pairs], dtype=np.int64)
    label_PA = label_PA.reshape(len(pairs), len(labels))
    twos = itertools.combinations(enumerate(labels), 2)
    compared = [_of_two(label_PA[:, [a, b]], first, second) for (a, first), (b, second) in twos]
    return Agreement(alpha=krippendorff_alpha(label_PA), annotators=tuple(two for two in compared if two.kappa.pairs))


def krippendorff_alpha(label_PA: NDArray[np.int64]) -> Coefficient:
    """Return Krippendorff's alpha for nominal data: 1 is perfect, 0 is chance; `MISSING` labels are left out.

    Source: Krippendorff 2011, "Computing Krippendorff's alpha-reliability", https://repository.upenn.edu/asc_papers/43.
    """
    count_PC = np.stack([(label_PA == label).sum(axis=1) for label in (0, 1)], axis=1).astype(np.float64)
    count_PC = count_PC[count_PC.sum(axis=1) >= 2]
    num_P = count_PC.sum(axis=1)
    # The ordered pairs of unequal labels within a pair of texts, each divided by the number of its labels minus one.
    unequal_P = 2 * count_PC.prod(axis=1) / (num_P - 1)
    return _with_interval(np.column_stack([unequal_P, count_PC]), _alpha)


def cohen_kappa(label_PA: NDArray[np.int64]) -> Coefficient:
    """Return Cohen's kappa of two annotators, shape ``(P, 2)``: 1 is perfect, 0 is chance.

    Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    both_PA = label_PA[(label_PA != MISSING).all(axis=1)]
    return _with_interval(np.column_stack([both_PA[:, 0] == both_PA[:, 1], both_PA]).astype(np.float64), _kappa)


def _of_two(label_PA: NDArray[np.int64], first: str, second: str) -> PairOfAnnotators:
    a_P, b_P = label_PA[(label_PA != MISSING).all(axis=1)].T
    return PairOfAnnotators(
        first=first,
        second=second,
        kappa=cohen_kappa(label_PA),
        agreed=int((a_P == b_P).sum()),
        first_same=int((a_P > b_P).sum()),
        second_same=int((b_P > a_P).sum()),
    )


def _alpha(sum_R3: _Counts, _: int) -> _Counts:
    """Return alpha by sums over pairs: unequal labels, labels that are 0, labels that are 1."""
    unequal_R, zeros_R, ones_R = sum_R3.T
    num_R = zeros_R + ones_R
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 - (num_R - 1) * unequal_R / (2 * zeros_R * ones_R))


def _kappa(sum_R3: _Counts, num: int) -> _Counts:
    """Return kappa by sums over pairs: equal labels, ones of the first, ones of the second annotator."""
    observed_R, a_R, b_R = sum_R3.T / num
    chance_R = a_R * b_R + (1 - a_R) * (1 - b_R)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((observed_R - chance_R) / (1 - chance_R))


def _with_interval(part_P3: _Counts, coefficient: Callable[[_Counts, int], _Counts]) -> Coefficient:
    """Return a coefficient that depends on sums over pairs, with the percentiles of its resamples."""
    num = len(part_P3)
    if not num:
        return Coefficient(value=None, low=None, high=None, pairs=0)
    drawn_RP = np.random.default_rng(SEED).multinomial(num, np.full(num, 1 / num), size=RESAMPLES)
    value = float(coefficient(part_P3.sum(axis=0, keepdims=True), num)[0])
    value_R = coefficient(drawn_RP @ part_P3, num)
    value_R = value_R[np.isfinite(value_R)]
    if not np.isfinite(value) or not len(value_R):
        return Coefficient(value=None, low=None, high=None, pairs=num)
    low, high = np.percentile(value_R, [2.5, 97.5])
    return Coefficient(value=value, low=float(low), high=float(high), pairs=num)
