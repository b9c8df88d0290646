"""From scores to decisions: calibration and thresholds, fitted on dev pairs.

Shape suffixes: P = pairs, U = units (groups or texts) that pairs share.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve

from simile.artifacts import (
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

_MIN_PAIRS = 50
_FOLDS = 10


def with_decisions(
    manifest: Manifest, scorer: Scorer, *choices: Sequence[PairSet], method: CalibrationMethod
) -> Manifest:
    """Return the manifest with the calibration and thresholds that fit the labelled pairs of the first choice.

    Where these are fewer than 50, those of the next one; without any where all are. Both are fitted on all of these
    pairs; the error that the calibration states is cross-fitted (`cross_fitted`).

    Args:
        manifest: of a bundle that has none yet.
        scorer: scores with that bundle.
        choices: sets of pairs that the bundle was not trained on, those most like what it is to score first.
        method: of the calibration.
    """
    of_labels = ([one for one in sets if not one.is_graded] for sets in choices)
    labelled = next((sets for sets in of_labels if sum(len(one.rows) for one in sets) >= _MIN_PAIRS), None)
    if labelled is None:
        return manifest
    score_P = scorer.score([pair for one in labelled for pair in one.texts])
    label_P = np.concatenate([one.target_P for one in labelled])
    held_out_P = cross_fitted(score_P, label_P, [pair for one in labelled for pair in one.ends], method)
    error = None if held_out_P is None else expected_calibration_error(held_out_P, label_P)
    calibration = calibrate(score_P, label_P, method).model_copy(update={"error": error})
    thresholds = find_thresholds(score_P, label_P)
    return manifest.model_copy(update={"calibration": calibration, "thresholds": thresholds})


def calibrate(score_P: NDArray[np.float32], label_P: NDArray[np.float64], method: CalibrationMethod) -> Calibration:
    """Return the curve from score to probability that fits these labelled pairs best: logistic, or any that rises."""
    positive_share = float(label_P.mean())
    if method == "isotonic":
        curve = IsotonicRegression(y_min=0, y_max=1).fit(score_P.astype(np.float64), label_P)
        return IsotonicCalibration(
            positive_share=positive_share,
            scores=curve.X_thresholds_.tolist(),
            probabilities=curve.y_thresholds_.tolist(),
        )
    # Unregularised but for a trace, which keeps the slope finite where the classes are perfectly apart.
    model = LogisticRegression(C=1e4, max_iter=1000).fit(score_P.reshape(-1, 1), label_P)
    return PlattCalibration(
        positive_share=positive_share, slope=float(model.coef_[0, 0]), intercept=float(model.intercept_[0])
    )


def cross_fitted(
    score_P: NDArray[np.float32],
    label_P: NDArray[np.float64],
    ends: Sequence[tuple[str, str]],
    method: CalibrationMethod,
) -> NDArray[np.float32] | None:
    """Return the probability of each pair by a curve that was fitted on pairs which share nothing with it, ``(P,)``.

    The groups (or texts) that pairs share are dealt into ten folds, as scikit-learn's `GroupKFold` deals groups. But a
    pair has two of them, and so touches one fold or two: its curve is fitted on the pairs that touch neither, and
    shifted to the share of positives of all pairs. Among those that are left it is another, for a positive pair lies
    within one group as a rule and a negative pair in two, which leaves it out about twice as often.

    None where the pairs that are left lack a class, as with very few groups.

    Args:
        score_P: of pairs that the bundle was not trained on.
        label_P: 0 or 1.
        ends: what each pair shares with others (`PairSet.ends`).
        method: of the calibration.

    Source: Park & Marcotte 2012, doi:10.1038/nmeth.2259, of pairs neither end of which is known.
    """
    units = {unit: i for i, unit in enumerate(dict.fromkeys(unit for pair in ends for unit in pair))}
    fold_U = np.random.default_rng(0).permutation(len(units)) % _FOLDS
    folds_P2 = np.sort(fold_U[np.array([(units[a], units[b]) for a, b in ends])], axis=1)
    probability_P = np.empty(len(score_P), dtype=np.float32)
    for folds in np.unique(folds_P2, axis=0):
        is_held_out_P = (folds_P2 == folds).all(axis=1)
        is_left_P = ~np.isin(folds_P2, folds).any(axis=1)
        if len(np.unique(label_P[is_left_P])) < 2:
            return None
        curve = calibrate(score_P[is_left_P], label_P[is_left_P], method)
        probability_P[is_held_out_P] = probability(curve, score_P[is_held_out_P], prior=float(label_P.mean()))
    return probability_P


def find_thresholds(score_P: NDArray[np.float32], label_P: NDArray[np.float64]) -> Thresholds:
    """Return the score of the best F1, and the lowest one from which on 95 % of the pairs are positive."""
    precision, recall, threshold = precision_recall_curve(label_P, score_P)
    precision, recall = precision[:-1], recall[:-1]
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    precise = np.flatnonzero(precision >= 0.95)
    return Thresholds(
        best_f1=float(threshold[f1.argmax()]),
        precision_95=float(threshold[precise[0]]) if len(precise) else None,
    )
