"""Scores of pairs, by a bundle on this machine or by a server.

Shape suffix: P = pairs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simile.progress import Progress

# Bundles and servers need an extra each: neither is imported for the other.
if TYPE_CHECKING:
    from simile.scoring import Device, Precision

Pairs = Sequence[tuple[str, str]]
Scores = Mapping[str, NDArray[np.float32]]
"""Each pair's ``score`` and, where the bundle is calibrated, its ``probability``; shape ``(P,)``."""

_PATIENCE_S = 120.0
"""Seconds to retry each request of a file: a server that restarts must not cost the scores so far."""


def score_by_bundle(
    bundle: str | Path, pairs: Pairs, *, device: "Device", precision: "Precision", prior: float | None
) -> Scores:
    """Return the bundle's scores, and show progress where there are several pairs.

    Raises:
        InputError: the bundle, device, precision or prior cannot be used, or a score is not finite.
    """
    from simile.scoring import load, probability, require_finite, require_prior

    scorer = load(bundle, device=device, precision=precision)
    require_prior(scorer.bundle, prior)
    if len(pairs) == 1:
        scored = scorer.score_members(pairs)
    else:
        num_texts = len({text for pair in pairs for text in pair}) * len(scorer.members)
        with Progress("scoring", num_texts, "texts") as progress:
            scored = scorer.score_members(pairs, progress.advance)
    require_finite(scored.score_P, scorer.runtime)
    calibration = scorer.bundle.manifest.calibration
    return _named(scored.score_P, probability(calibration, scored.score_P, prior=prior) if calibration else None)


def score_by_server(url: str, pairs: Pairs) -> Scores:
    """Return the server's scores, and show progress where there are several pairs.

    Raises:
        InputError, ServerError: as `simile.Client.similarity`.
    """
    from simile.client import Client

    if len(pairs) == 1:
        with Client(url) as client:
            similarity = client.similarity(pairs)
    else:
        with (
            Client(url, timeout=_PATIENCE_S, retries=int(_PATIENCE_S)) as client,
            Progress("scoring", len(pairs), "pairs") as progress,
        ):
            similarity = client.similarity(pairs, on_progress=progress.advance)
    return _named(similarity.scores, similarity.probabilities)


def _named(score_P: NDArray[np.float32], probability_P: NDArray[np.float32] | None) -> Scores:
    return {"score": score_P} | ({} if probability_P is None else {"probability": probability_P})
