"""The model of scores that a pilot of labelled pairs, or a baseline's figures alone, suggest.

The effects' covariances are estimated from the products of the residuals of every two pairs that share units, as the
method of moments estimates variance components (Searle, Casella and McCulloch 1992, "Variance Components", chapter 5),
and are shrunk towards what is assumed where there is no pilot.

Shape suffixes as in `labelling.score_model`.
"""

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import norm, rankdata

from labelling.score_model import Array, Covariances, ScoreModel, Structure, by_class, spearman_per_auc
from simile.artifacts import PairSet
from simile.scoring.metrics import auc

ASSUMED_CORRELATION = 0.85
"""Correlation within a class of the scores of baseline and bundle, where the pilot has no scores of a bundle."""
ASSUMED_UNIT_SHARE = 0.3
"""Share of the variance within a class that one of a pair's two units determines, where no pilot tells it."""
PRIOR_COUPLES = 30
"""How many couples of pairs that share a unit the assumed share weighs as much as."""
MIN_PER_CLASS = 10
"""The fewest pairs of each class that a pilot needs."""


def fit(pairs: PairSet, baseline_P: Array, bundle_P: Array | None = None) -> ScoreModel:
    """Return the model of a pilot of labelled pairs with these scores.

    Without scores of a bundle, it is assumed to have the baseline's variances, and `ASSUMED_CORRELATION` with it.

    Raises:
        ValueError: a class has fewer than `MIN_PER_CLASS` pairs, or scores are constant or never wrong.
    """
    class_P = pairs.target_P.astype(np.int64)
    if np.bincount(class_P, minlength=2).min() < MIN_PER_CLASS:
        raise ValueError(f"need {MIN_PER_CLASS} pairs of each class")
    models = [baseline_P, baseline_P if bundle_P is None else bundle_P]
    if any(len(np.unique(score_P)) < 2 for score_P in models):
        raise ValueError("got constant scores, need some that differ")
    baseline_auc = auc(baseline_P, pairs.target_P)
    if baseline_auc in (0, 1):
        raise ValueError(f"got a baseline with an AUC of {baseline_auc:g}, need pairs on which it is sometimes wrong")
    normal_PM = np.stack([norm.ppf((rankdata(one) - 0.5) / len(one)) for one in models], axis=1)
    residual_PM = normal_PM - np.array([normal_PM[class_P == c].mean(axis=0) for c in (0, 1)])[class_P]
    incidence_PU = _incidence(pairs)
    covariances = _covariances(residual_PM, class_P, incidence_PU)
    if bundle_P is None:
        covariances = _correlated(covariances)
    structure = _structure(pairs, class_P)
    return ScoreModel(float(class_P.mean()), baseline_auc, covariances, structure)


def assume(spearman: float, positive_share: float) -> ScoreModel:
    """Return the model of pairs of different texts, given only the baseline's Spearman and the share of positives."""
    total_CMM = np.ones((2, 2, 2))
    unit_EE = _assumed(total_CMM)
    pair_CMM = total_CMM - 2 * by_class(unit_EE)
    covariances = _correlated(Covariances(unit_EE, np.zeros((2, 2, 2)), pair_CMM))
    structure = Structure(np.zeros(2), np.zeros(2), np.ones(1, dtype=np.int64))
    return ScoreModel(positive_share, 0.5 + spearman / spearman_per_auc(positive_share), covariances, structure)


def _correlated(one: Covariances) -> Covariances:
    factor_MM = np.array([[1, ASSUMED_CORRELATION], [ASSUMED_CORRELATION, 1]])
    return Covariances(
        one.unit_EE * np.tile(factor_MM, (2, 2)), one.combination_CMM * factor_MM, one.pair_CMM * factor_MM
    )


def _structure(pairs: PairSet, class_P: NDArray[np.int64]) -> Structure:
    between_C2: list[Counter[tuple[str, ...]]] = [Counter(), Counter()]
    within_C, usage = [0, 0], Counter[str]()
    for ends, c in zip(pairs.ends, class_P, strict=True):
        key = tuple(sorted(set(ends)))
        if len(key) == 1:
            within_C[c] += 1
            usage[key[0]] += 1
        else:
            usage.update(() if key in between_C2[c] else key)
            between_C2[c][key] += 1
    same_C = [sum(num * (num - 1) for num in counts.values()) for counts in between_C2]
    num_C = [counts.total() for counts in between_C2]
    recurrence_C = np.array([same / max(1, num * (num - 1)) for same, num in zip(same_C, num_C, strict=True)])
    usage_U = np.array([*usage.values()], dtype=np.int64)
    return Structure(np.array(within_C) / np.bincount(class_P), recurrence_C, usage_U)


def _incidence(pairs: PairSet) -> csr_array:
    """Return which units each pair has, shape ``(P, U)``: 1 for each, also where both ends are one unit."""
    numbers: dict[str, int] = {}
    ends = [[numbers.setdefault(unit, len(numbers)) for unit in dict.fromkeys(pair)] for pair in pairs.ends]
    row_N = np.repeat(np.arange(len(ends)), [len(one) for one in ends])
    column_N = np.concatenate(ends)
    return csr_array((np.ones(len(row_N)), (row_N, column_N)), shape=(len(ends), len(numbers)))


def _covariances(residual_PM: Array, class_P: NDArray[np.int64], incidence_PU: csr_array) -> Covariances:
    """Return the covariances, all positive semidefinite."""
    total_CMM = np.array([np.cov(residual_PM[class_P == c].T) for c in (0, 1)])
    unit_EE, combination_CMM = _assumed(total_CMM), np.zeros((2, 2, 2))
    of_one, of_both = _Couples(incidence_PU, 1), _Couples(incidence_PU, 2)
    for c, d in ((0, 0), (0, 1), (1, 0), (1, 1)):
        block = slice(2 * c, 2 * c + 2), slice(2 * d, 2 * d + 2)
        product_MM, weight = of_one.products(residual_PM, class_P == c, class_P == d)
        unit_EE[block] = (1 - weight) * unit_EE[block] + weight * product_MM
    unit_EE = _nonnegative(unit_EE)
    for c, unit_MM in enumerate(by_class(unit_EE)):
        product_MM, weight = of_both.products(residual_PM, class_P == c, class_P == c)
        combination_CMM[c] = _nonnegative(weight * (product_MM - 2 * unit_MM))
    ends_P = np.asarray(incidence_PU.sum(axis=1)).ravel()
    ends_C = np.array([ends_P[class_P == c].mean() for c in (0, 1)])
    return _bounded(total_CMM, unit_EE, combination_CMM, ends_C)


class _Couples:
    """All couples of pairs that share this many units."""

    def __init__(self, incidence_PU: csr_array, num_shared: int) -> None:
        shared = (incidence_PU @ incidence_PU.T).tocoo()
        kept = (shared.data == num_shared) & (shared.row != shared.col)
        ones = np.ones(int(kept.sum()))
        self._couple_PP = csr_array((ones, (shared.row[kept], shared.col[kept])), shape=shared.shape)

    def products(
        self, residual_PM: Array, is_one_P: NDArray[np.bool_], is_other_P: NDArray[np.bool_]
    ) -> tuple[Array, float]:
        """Return the mean product of two pairs' residuals, one of each kind, and its weight beside the assumption."""
        couple_PP = self._couple_PP[is_one_P][:, is_other_P]
        num = float(couple_PP.sum())
        product_MM = residual_PM[is_one_P].T @ (couple_PP @ residual_PM[is_other_P])
        # Two pairs of one kind are a couple in both orders.
        couples = num / 2 if (is_one_P == is_other_P).all() else num
        return np.asarray(product_MM / max(num, 1)), couples / (couples + PRIOR_COUPLES)


def _assumed(total_CMM: Array) -> Array:
    unit_EE = np.zeros((4, 4))
    unit_EE[:2, :2], unit_EE[2:, 2:] = ASSUMED_UNIT_SHARE * total_CMM
    return unit_EE


def _nonnegative(covariance_EE: Array) -> Array:
    value_E, vector_EE = np.linalg.eigh((covariance_EE + covariance_EE.T) / 2)
    return np.asarray((vector_EE * np.maximum(value_E, 0)) @ vector_EE.T)


def _bounded(total_CMM: Array, unit_EE: Array, combination_CMM: Array, ends_C: Array) -> Covariances:
    """Return the covariances after reducing those of units so far that a pair's own remains nonnegative."""
    shared_CMM = ends_C[:, None, None] * by_class(unit_EE) + (ends_C - 1)[:, None, None] * combination_CMM
    factor = 1.0
    for total_MM, shared_MM in zip(total_CMM, shared_CMM, strict=True):
        root_MM = np.linalg.inv(np.linalg.cholesky(total_MM + 1e-9 * np.eye(2)))
        factor = min(factor, 1 / max(1e-9, np.linalg.eigvalsh(root_MM @ shared_MM @ root_MM.T)[-1]))
    return Covariances(factor * unit_EE, factor * combination_CMM, total_CMM - factor * shared_CMM)
