"""Adversarial validation: can a classifier tell the mined pairs from the target pairs?

Shape suffixes: P = pairs, F = features, T = texts; P2 = of the two texts of each pair.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from mining.sampling.features import Flags, Floats, Indices
from simile.scoring.metrics import auc

_NUM_HALVINGS, _NUM_BINS = 3, 64
_MAX_ERROR = 0.05
"""The largest standard error of an AUC of 0.5, from one split of the texts, that is still reported."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Pairs as a classifier sees them."""

    feature_PF: Floats
    """NaN where unknown."""
    text_P2: Indices
    """Numbers of the two texts; equal texts have equal numbers within a sample."""


def adversarial_auc(mined: Sample, target: Sample, *, seed: int) -> float | None:
    """Return the AUC, in [0, 1], with which a classifier tells mined pairs from target pairs of unseen texts.

    0.5 means that it cannot; None means that there are too few pairs. The samples have the same features and share no
    text. A gradient-boosted classifier is trained on the pairs within a random half of the texts and tested on those
    within the other half. The result is the mean AUC over several such splits: pooling scores of several classifiers
    would bias the AUC down (Airola et al. 2011, doi:10.1016/j.csda.2010.11.018). Each AUC is weighted by its inverse
    variance at 0.5 (Hanley & McNeil 1982, doi:10.1148/radiology.143.1.7063747).
    """
    rng = np.random.default_rng(seed)
    bin_PF = _binned(np.concatenate([mined.feature_PF, target.feature_PF]))
    is_mined_P = np.arange(len(bin_PF)) < len(mined.feature_PF)
    aucs: list[float] = []
    weights: list[float] = []
    for _ in range(_NUM_HALVINGS):
        half_P2 = np.concatenate([_halves(sample.text_P2, rng) for sample in (mined, target)])
        within = [(half_P2 == half).all(axis=1) for half in (0, 1)]
        for is_train_P, is_test_P in (within, within[::-1]):
            weight = _precision(is_mined_P[is_test_P])
            if weight > 0 and _precision(is_mined_P[is_train_P]) > 0:
                score_P = _scores(bin_PF[is_train_P], is_mined_P[is_train_P], bin_PF[is_test_P], seed)
                aucs.append(auc(score_P, is_mined_P[is_test_P]))
                weights.append(weight)
    # The precision of one split counts, because all splits test much the same pairs.
    is_enough = sum(weights) / _NUM_HALVINGS >= _MAX_ERROR**-2
    return float(np.average(aucs, weights=weights)) if is_enough else None


def _binned(feature_PF: Floats) -> Indices:
    """Return each feature in quantile bins, numbered from 1; 0 where it is unknown.

    The classifier's own binning is far slower with weights, and fails on a feature that is unknown for all pairs.
    """
    is_known_PF = ~np.isnan(feature_PF)
    rank_PF = np.where(is_known_PF, rankdata(feature_PF, axis=0, nan_policy="omit"), 0)
    bin_PF = 1 + np.floor(rank_PF / (is_known_PF.sum(axis=0) + 1) * _NUM_BINS)
    return np.where(is_known_PF, bin_PF, 0).astype(np.int64)


def _halves(text_P2: Indices, rng: np.random.Generator) -> Indices:
    """Return the random half, 0 or 1, of each text of each pair, shape (P, 2)."""
    text_T, index = np.unique(text_P2, return_inverse=True)
    half_T = rng.permutation(len(text_T)) % 2
    return half_T[index].reshape(text_P2.shape)


def _precision(is_mined_P: Flags) -> float:
    """Return the inverse variance of the AUC of uninformative scores; 0 where there is no AUC."""
    num_mined, num_target = int(is_mined_P.sum()), int((~is_mined_P).sum())
    return 12 * num_mined * num_target / (num_mined + num_target + 1)


def _scores(train_PF: Indices, is_mined_P: Flags, test_PF: Indices, seed: int) -> Floats:
    """Return the log odds that each test pair is mined."""
    classifier = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=8, early_stopping=False, class_weight="balanced", random_state=seed
    )
    # A second thread gains nothing on a few thousand pairs, and costs seconds of waiting on shared cores.
    with threadpool_limits(limits=1, user_api="openmp"):
        score_P: Floats = classifier.fit(train_PF, is_mined_P).decision_function(test_PF)
    return score_P
