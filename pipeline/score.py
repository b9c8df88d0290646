"""Scores of pairs, by a bundle here or by a server.

Shape suffix: P = pairs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simile.progress import Progress

# Each way needs an extra of its own: neither is imported for the other.
if TYPE_CHECKING:
    from simile.scoring import Device, Precision

Pairs = Sequence[tuple[str, str]]
Found = Mapping[str, NDArray[np.float32]]
"""By name: each pair's ``score``, and its ``probability`` where the bundle is calibrated; shape ``(P,)``."""

_PATIENCE_S = 120.0
"""With each request of a file: the scores so far are not to be lost to a server that restarts."""


def score_by_bundle(
    bundle: str | Path, pairs: Pairs, *, device: "Device", precision: "Precision", prior: float | None
) -> Found:
    """Return what the bundle finds of the pairs, with a progress bar where there are several.

    Raises:
        InputError: the bundle, the device, the precision or the prior will not do, or a score is not finite.
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
    return _found(scored.score_P, probability(calibration, scored.score_P, prior=prior) if calibration else None)


def score_by_server(url: str, pairs: Pairs) -> Found:
    """Return what the server finds of the pairs, with a progress bar where there are several.

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
    return _found(similarity.scores, similarity.probabilities)


def _found(score_P: NDArray[np.float32], probability_P: NDArray[np.float32] | None) -> Found:
    return {"score": score_P} | ({} if probability_P is None else {"probability": probability_P})
