"""Figures of how well scores order pairs and how far they separate the classes, and the word overlap of pairs.

Where pairs have weights, a pair of weight w counts as w copies of it; without weights, every pair counts once.

Shape suffixes: P = pairs, N = texts, W = words.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import roc_auc_score

from simile.scoring.lexical import words
from simile.scoring.scorer import Pairs, distinct_texts
from simile.scoring.weighted_spearman import WeightedSpearman

Array = NDArray[np.floating]

EDGES = np.linspace(-0.2, 1.0, 51)
"""Histogram bin edges; scores outside are clipped into the end bins."""
_CALIBRATION_BINS = 15


def tfidf_cosines(pairs: Pairs) -> NDArray[np.float64]:
    """Return the cosine of each pair that word overlap alone gives, shape ``(P,)``, in [0, 1].

    The words of `words` are weighted by TF-IDF with sublinear term frequency, fitted on the distinct texts of these
    pairs. One text or more is needed.
    """
    texts, _, pair_P2 = distinct_texts(pairs)
    tfidf_NW = TfidfVectorizer(sublinear_tf=True, analyzer=words).fit_transform(texts)
    product_PW = tfidf_NW[pair_P2[:, 0]].multiply(tfidf_NW[pair_P2[:, 1]])
    return np.asarray(product_PW.sum(axis=1), dtype=np.float64).ravel()


def spearman(score_P: Array, target_P: Array, *, weight_P: Array | None = None) -> float:
    """Return Spearman's rank correlation of scores and targets, in [-1, 1]; ties share their mean rank.

    NaN where either is constant. The maximum with 0/1 labels in equal shares is 0.866.
    """
    # SciPy answers NaN as well, but with a warning.
    if any(len(np.unique(values)) < 2 for values in (score_P, target_P)):
        return float("nan")
    if weight_P is not None:
        return float(WeightedSpearman(score_P, target_P)(np.asarray(weight_P, dtype=np.float64)))
    return float(spearmanr(score_P, target_P).statistic)


def auc(score_P: Array, label_P: Array, *, weight_P: Array | None = None) -> float:
    """Return the probability that a positive pair outscores a negative one, in [0, 1]; a tie counts one half.

    NaN where a score is not finite. Pairs of both classes are needed.
    """
    # scikit-learn refuses such scores; a training run that diverges has a message of its own.
    if not np.isfinite(score_P).all():
        return float("nan")
    return float(roc_auc_score(np.asarray(label_P) == 1, score_P, sample_weight=weight_P))


def known(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Return the figures with NaN (constant scores order nothing) as None, because JSON has no NaN."""
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def separability(score_P: Array, label_P: Array, *, weight_P: Array | None = None) -> float:
    """Return the mean score of the positive pairs minus that of the negative ones, in [-2, 2]."""
    is_positive_P = np.asarray(label_P) == 1
    if weight_P is not None:
        means = (np.average(score_P[of_P], weights=weight_P[of_P]) for of_P in (is_positive_P, ~is_positive_P))
        return float(np.subtract(*means))
    return float(np.mean(score_P[is_positive_P], dtype=np.float64) - np.mean(score_P[~is_positive_P], dtype=np.float64))


def class_counts(
    score_P: Array, label_P: Array, *, weight_P: Array | None = None
) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
    """Return the number (with weights: their sum) of scores per bin, for the positive and the negative pairs."""
    is_positive_P = np.asarray(label_P) == 1
    clipped_P = np.clip(score_P, EDGES[0], EDGES[-1])
    classes = {"positive": is_positive_P, "negative": ~is_positive_P}
    return {
        name: np.histogram(clipped_P[of_P], EDGES, weights=None if weight_P is None else weight_P[of_P])[0]
        for name, of_P in classes.items()
    }


def overlap(score_P: Array, label_P: Array, *, weight_P: Array | None = None) -> float:
    """Return the area that the score histograms of the two classes share, in [0, 1]: 50 bins on [-0.2, 1]."""
    # Scores that are NaN fall into no bin.
    counts = class_counts(score_P, label_P, weight_P=weight_P).values()
    shares = [count / (count.sum() or 1) for count in counts]
    return float(np.minimum(*shares).sum())


def expected_calibration_error(probability_P: Array, label_P: Array, *, weight_P: Array | None = None) -> float:
    """Return the mean gap between probabilities and observed shares of positives, in [0, 1]; 0 is perfect.

    Pairs are binned by probability into 15 bins of equal width. Each bin's gap between its mean probability and its
    share of positives is weighted by its number of pairs. Chance alone causes about 0.02 with 4,000 pairs, 0.1 with
    150.

    Source: Naeini et al., AAAI 2015, pp. 2901-2907; 15 bins as Guo et al. 2017, arXiv:1706.04599.
    """
    exact_P = np.asarray(probability_P, dtype=np.float64)
    bin_P = np.minimum((exact_P * _CALIBRATION_BINS).astype(np.int64), _CALIBRATION_BINS - 1)
    # The sum of label minus probability over a bin is its gap times its number of pairs.
    gap_P = np.asarray(label_P, dtype=np.float64) - exact_P
    if weight_P is not None:
        return float(np.abs(np.bincount(bin_P, weights=gap_P * weight_P)).sum() / weight_P.sum())
    return float(np.abs(np.bincount(bin_P, weights=gap_P)).sum() / len(exact_P))


def figures(score_P: Array, target_P: Array, *, is_graded: bool, weight_P: Array | None = None) -> dict[str, float]:
    """Return the figures of a set of pairs by name; a graded set has only its Spearman."""
    computed = (spearman,) if is_graded else (spearman, auc, separability, overlap)
    return {figure.__name__: figure(score_P, target_P, weight_P=weight_P) for figure in computed}
