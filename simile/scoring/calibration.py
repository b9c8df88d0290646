"""From scores to probabilities: a bundle's calibration, and its shift to another share of positives.

Shape suffix: P = pairs.
"""

from math import log, log1p

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Bundle, Calibration, IsotonicCalibration
from simile.errors import InputError


def probability(
    calibration: Calibration, score_P: NDArray[np.float32], *, prior: float | None = None
) -> NDArray[np.float32]:
    """Return the probability that each pair is positive, shape ``(P,)``, in [0, 1].

    Args:
        calibration: the bundle's.
        score_P: of the pairs.
        prior: share of positives to expect among such pairs; None for that of the pairs it was fitted on. It moves the
            log-odds of all pairs by as much, so that their order stays, and what is certain stays certain.

    Source: Saerens, Latinne & Decaestecker 2002, doi:10.1162/089976602753284446.
    """
    log_odds_P = _log_odds(calibration, score_P.astype(np.float64))
    if prior is not None:
        log_odds_P += _logit(prior) - _logit(calibration.positive_share)
    # Not 1 / (1 + exp(-log_odds)): the exponential overflows where a steep calibration is sure.
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds_P)), dtype=np.float32)


def require_prior(bundle: Bundle, prior: float | None) -> None:
    """Refuse a prior that the bundle's probabilities cannot be shifted to.

    Raises:
        InputError: it is no share of positives, or the bundle has no calibration.
    """
    if prior is None:
        return
    if not 0 < prior < 1:
        raise InputError(f"got a prior of {prior:g}, need a share of positives above 0 and below 1")
    if bundle.manifest.calibration is None:
        raise InputError(
            f"{bundle.path}: got a prior of {prior:g} for a bundle without calibration, "
            "need one made with labelled dev pairs"
        )


def _log_odds(calibration: Calibration, score_P: NDArray[np.float64]) -> NDArray[np.float64]:
    if not isinstance(calibration, IsotonicCalibration):
        return calibration.slope * score_P + calibration.intercept
    probability_P = np.interp(score_P, calibration.scores, calibration.probabilities)
    # Rounding may lead a line past its end.
    probability_P = np.clip(probability_P, 0, 1)
    with np.errstate(divide="ignore"):
        # Infinite where it is certain, which no prior moves.
        return np.asarray(np.log(probability_P) - np.log1p(-probability_P))


def _logit(share: float) -> float:
    return log(share) - log1p(-share)
