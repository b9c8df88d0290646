"""From scores to decisions: calibration and thresholds, fitted on dev pairs.

Shape suffix: P = pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_curve

from simile.artifacts import Calibration, Manifest, PairSet, PlattCalibration, Thresholds
from simile.scoring import Scorer

_MIN_PAIRS = 50


def with_decisions(manifest: Manifest, scorer: Scorer, dev_sets: Sequence[PairSet]) -> Manifest:
    """Return the manifest with the calibration and thresholds that fit the labelled ones of the dev sets.

    Without any where these are fewer than 50 pairs.

    Args:
        manifest: of a bundle that has none yet.
        scorer: scores with that bundle.
        dev_sets: pairs that the bundle was not trained on.
    """
    labelled = [dev for dev in dev_sets if not dev.is_graded]
    if sum(len(dev.rows) for dev in labelled) < _MIN_PAIRS:
        return manifest
    score_P = scorer.score([pair for dev in labelled for pair in dev.texts])
    calibration, thresholds = decide(score_P, np.concatenate([dev.target_P for dev in labelled]))
    return manifest.model_copy(update={"calibration": calibration, "thresholds": thresholds})


def decide(score_P: NDArray[np.float32], label_P: NDArray[np.float64]) -> tuple[Calibration, Thresholds]:
    """Return the calibration and the thresholds that fit these labelled pairs."""
    return calibrate(score_P, label_P), find_thresholds(score_P, label_P)


def calibrate(score_P: NDArray[np.float32], label_P: NDArray[np.float64]) -> Calibration:
    """Return the logistic curve from score to probability (Platt 1999)."""
    # Unregularised but for a trace, which keeps the slope finite where the classes are perfectly apart.
    model = LogisticRegression(C=1e4, max_iter=1000).fit(score_P.reshape(-1, 1), label_P)
    return PlattCalibration(
        slope=float(model.coef_[0, 0]), intercept=float(model.intercept_[0]), positive_share=float(label_P.mean())
    )


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
