"""How well scores order pairs, and how far they set the classes apart.

Shape suffixes: P = pairs.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.floating]

_EDGES = np.linspace(-0.2, 1.0, 51)


def spearman(score_P: Array, target_P: Array) -> float:
    """Return Spearman's rank correlation of scores and targets (ties share their mean rank), in [-1, 1].

    NaN where either is constant. With 0/1 labels of equal share the most that can be reached is 0.866.
    """
    ranks = [rankdata(values) for values in (score_P, target_P)]
    if any(np.ptp(rank_P) == 0 for rank_P in ranks):
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def known(found: Mapping[str, float]) -> dict[str, float | None]:
    """Return the figures with None, which JSON has, for NaN, which it has not: constant scores order nothing."""
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def auc(score_P: Array, label_P: Array) -> float:
    """Return the probability that a positive pair outscores a negative one, a tie counting one half, in [0, 1].

    Source: Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    is_positive_P = np.asarray(label_P) == 1
    num_positive, num_negative = int(is_positive_P.sum()), int((~is_positive_P).sum())
    rank_sum = float(rankdata(score_P)[is_positive_P].sum())
    return (rank_sum - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)


def separability(score_P: Array, label_P: Array) -> float:
    """Return the mean score of the positive pairs minus that of the negative ones, in [-2, 2]."""
    is_positive_P = np.asarray(label_P) == 1
    return float(np.mean(score_P[is_positive_P], dtype=np.float64) - np.mean(score_P[~is_positive_P], dtype=np.float64))


def overlap(score_P: Array, label_P: Array) -> float:
    """Return the area that the score histograms of the two classes share, in [0, 1]: 50 bins on [-0.2, 1]."""
    is_positive_P = np.asarray(label_P) == 1
    share = [
        np.histogram(np.clip(score_P[of_class_P], _EDGES[0], _EDGES[-1]), _EDGES)[0] / of_class_P.sum()
        for of_class_P in (is_positive_P, ~is_positive_P)
    ]
    return float(np.minimum(*share).sum())


def figures(score_P: Array, target_P: Array, *, is_graded: bool) -> dict[str, float]:
    """Return all the figures a set of pairs has, by name; a graded set has its Spearman only."""
    found = {"spearman": spearman(score_P, target_P)}
    if not is_graded:
        found |= {
            "auc": auc(score_P, target_P),
            "separability": separability(score_P, target_P),
            "overlap": overlap(score_P, target_P),
        }
    return found
