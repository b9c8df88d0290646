"""Probabilities of scores by a bundle's calibration, for any share of positives.

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

    The prior is the expected share of positives among such pairs; by default that of the pairs of the fit. It shifts
    the log-odds of all pairs by the same amount: their order stays, and certain pairs stay certain.

    Source: Saerens, Latinne & Decaestecker 2002, doi:10.1162/089976602753284446.
    """
    log_odds_P = _log_odds(calibration, score_P.astype(np.float64))
    if prior is not None:
        share = calibration.positive_share
        log_odds_P += (log(prior) - log1p(-prior)) - (log(share) - log1p(-share))
    # In 1 / (1 + exp(-log_odds)), the exponential would overflow for a steep calibration.
    return np.asarray(np.exp(-np.logaddexp(0, -log_odds_P)), dtype=np.float32)


def require_prior(bundle: Bundle, prior: float | None) -> None:
    """Refuse, by an `InputError`, a prior that is not between 0 and 1, or any for a bundle without calibration."""
    if prior is not None and not 0 < prior < 1:
        raise InputError(f"got a prior of {prior:g}, need a share of positives above 0 and below 1")
    if prior is not None and bundle.manifest.calibration is None:
        got = f"{bundle.path}: got a prior of {prior:g} for a bundle without calibration"
        raise InputError(f"{got}, need one made with labelled dev pairs")


def _log_odds(calibration: Calibration, score_P: NDArray[np.float64]) -> NDArray[np.float64]:
    if not isinstance(calibration, IsotonicCalibration):
        return calibration.slope * score_P + calibration.intercept
    # Interpolation may exceed the last point by rounding.
    probability_P = np.interp(score_P, calibration.scores, calibration.probabilities).clip(0, 1)
    with np.errstate(divide="ignore"):
        # The log-odds of certain pairs are infinite, and no prior shifts them.
        return np.asarray(np.log(probability_P) - np.log1p(-probability_P))
