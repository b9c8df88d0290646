"""How well scores order pairs, and how far they set the classes apart.

Shape suffixes: P = pairs.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.floating]

EDGES = np.linspace(-0.2, 1.0, 51)
"""Of the bins that scores are counted in; what lies beyond counts as the first or the last."""
_CALIBRATION_BINS = 15


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


def class_counts(score_P: Array, label_P: Array) -> dict[str, NDArray[np.int64]]:
    """Return how many scores of the positive and of the negative pairs lie in each bin."""
    is_positive_P = np.asarray(label_P) == 1
    clipped_P = np.clip(score_P, EDGES[0], EDGES[-1])
    classes = {"positive": is_positive_P, "negative": ~is_positive_P}
    return {name: np.histogram(clipped_P[of_class_P], EDGES)[0] for name, of_class_P in classes.items()}


def overlap(score_P: Array, label_P: Array) -> float:
    """Return the area that the score histograms of the two classes share, in [0, 1]: 50 bins on [-0.2, 1]."""
    # Scores that are no numbers lie in no bin.
    shares = [counts / max(counts.sum(), 1) for counts in class_counts(score_P, label_P).values()]
    return float(np.minimum(*shares).sum())


def expected_calibration_error(probability_P: Array, label_P: Array) -> float:
    """Return how far probabilities are from the shares of positives, in [0, 1]; 0 is perfect.

    Pairs are binned by probability, 15 bins of one width; each bin's gap between its mean probability and its share of
    positives counts by its pairs. Chance alone makes some: about 0.02 with 4,000 pairs, 0.1 with 150.

    Source: Naeini et al., AAAI 2015, pp. 2901-2907; 15 bins as Guo et al. 2017, arXiv:1706.04599.
    """
    exact_P = np.asarray(probability_P, dtype=np.float64)
    bin_P = np.minimum((exact_P * _CALIBRATION_BINS).astype(np.int64), _CALIBRATION_BINS - 1)
    # A bin's gap times its pairs: the sum of what the labels are beyond the probabilities.
    gaps = np.bincount(bin_P, weights=np.asarray(label_P, dtype=np.float64) - exact_P)
    return float(np.abs(gaps).sum() / len(exact_P))


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
