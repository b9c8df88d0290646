"""Calibration and thresholds, fitted on dev pairs; pairs of a sample are weighted by their inclusion probabilities.

Shape suffixes: P = pairs, U = units (groups or texts) that pairs share.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve

from simile.artifacts import (
    MIN_CALIBRATION_PAIRS,
    Calibration,
    CalibrationMethod,
    IsotonicCalibration,
    Manifest,
    PairSet,
    PlattCalibration,
    Thresholds,
)
from simile.scoring import Scorer, probability
from simile.scoring.metrics import expected_calibration_error

_FOLDS = 10
_Weights = NDArray[np.float64] | None


def with_decisions(
    manifest: Manifest, scorer: Scorer, *choices: Sequence[PairSet], method: CalibrationMethod
) -> Manifest:
    """Return the manifest with calibration and thresholds, fitted on the first choice with at least 50 labelled pairs.

    The choices are sets of pairs that the bundle was not trained on; those most like the pairs to be scored come first.
    The manifest is returned unchanged where no choice has enough pairs. The calibration's error is cross-fitted.
    """
    by_choice = ([one for one in sets if not one.is_graded] for sets in choices)
    labelled = next((sets for sets in by_choice if sum(len(one.rows) for one in sets) >= MIN_CALIBRATION_PAIRS), None)
    if labelled is None:
        return manifest
    score_P = scorer.score([pair for one in labelled for pair in one.texts])
    label_P = np.concatenate([one.target_P for one in labelled])
    is_weighted = any(one.is_weighted for one in labelled)
    weight_P = np.concatenate([one.weight_P for one in labelled]) if is_weighted else None
    ends = [pair for one in labelled for pair in one.ends]
    held_out_P = cross_fitted(score_P, label_P, ends, method, weight_P=weight_P)
    error = None if held_out_P is None else expected_calibration_error(held_out_P, label_P, weight_P=weight_P)
    calibration = calibrate(score_P, label_P, method, weight_P=weight_P).model_copy(update={"error": error})
    thresholds = find_thresholds(score_P, label_P, weight_P=weight_P)
    return manifest.model_copy(update={"calibration": calibration, "thresholds": thresholds})


def calibrate(
    score_P: NDArray[np.float32], label_P: NDArray[np.float64], method: CalibrationMethod, *, weight_P: _Weights = None
) -> Calibration:
    """Return the curve from score to probability that fits the labelled pairs best: logistic, or any monotonic one."""
    positive_share = _share(label_P, weight_P)
    if method == "isotonic":
        curve = IsotonicRegression(y_min=0, y_max=1).fit(score_P.astype(np.float64), label_P, weight_P)
        scores, probabilities = curve.X_thresholds_.tolist(), curve.y_thresholds_.tolist()
        return IsotonicCalibration(positive_share=positive_share, scores=scores, probabilities=probabilities)
    # A trace of regularisation keeps the slope finite where the classes are perfectly separated.
    model = LogisticRegression(C=1e4, max_iter=1000).fit(score_P.reshape(-1, 1), label_P, weight_P)
    slope, intercept = float(model.coef_[0, 0]), float(model.intercept_[0])
    return PlattCalibration(positive_share=positive_share, slope=slope, intercept=intercept)


def cross_fitted(
    score_P: NDArray[np.float32],
    label_P: NDArray[np.float64],
    ends: Sequence[tuple[str, str]],
    method: CalibrationMethod,
    *,
    weight_P: _Weights = None,
) -> NDArray[np.float32] | None:
    """Return the probability of each pair by a curve fitted on pairs that share no group or text (`ends`) with it.

    Groups (or texts) are dealt into ten folds, as by scikit-learn's `GroupKFold`. A pair has two groups and so touches
    one or two folds. Its curve is fitted on the pairs that touch neither fold, and shifted to the share of positives of
    all pairs: the remaining pairs have another share, because a negative pair usually lies in two groups and a positive
    pair in one, so that negative pairs are left out about twice as often. Where the remaining pairs lack a class, as
    with very few groups, the result is None.

    Source: Park & Marcotte 2012, doi:10.1038/nmeth.2259, the case in which neither end of a pair is known.
    """
    units = {unit: i for i, unit in enumerate(dict.fromkeys(unit for pair in ends for unit in pair))}
    fold_U = np.random.default_rng(0).permutation(len(units)) % _FOLDS
    folds_P2 = np.sort(fold_U[np.array([(units[a], units[b]) for a, b in ends])], axis=1)
    probability_P, share = np.empty(len(score_P), dtype=np.float32), _share(label_P, weight_P)
    for folds in np.unique(folds_P2, axis=0):
        is_held_out_P, is_left_P = (folds_P2 == folds).all(axis=1), ~np.isin(folds_P2, folds).any(axis=1)
        if len(np.unique(label_P[is_left_P])) < 2:
            return None
        left_P = None if weight_P is None else weight_P[is_left_P]
        curve = calibrate(score_P[is_left_P], label_P[is_left_P], method, weight_P=left_P)
        probability_P[is_held_out_P] = probability(curve, score_P[is_held_out_P], prior=share)
    return probability_P


def find_thresholds(
    score_P: NDArray[np.float32], label_P: NDArray[np.float64], *, weight_P: _Weights = None
) -> Thresholds:
    """Return the threshold with the best F1, and the lowest one at which precision is at least 95 %."""
    precision, recall, threshold = precision_recall_curve(label_P, score_P, sample_weight=weight_P)
    precision, recall = precision[:-1], recall[:-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    precise = np.flatnonzero(precision >= 0.95)
    precision_95 = float(threshold[precise[0]]) if len(precise) else None
    return Thresholds(best_f1=float(threshold[f1.argmax()]), precision_95=precision_95)


def _share(label_P: NDArray[np.float64], weight_P: _Weights) -> float:
    return float(label_P.mean() if weight_P is None else np.average(label_P, weights=weight_P))
