"""Scores of pairs, by a bundle here or by a server.

Shape suffix: P = pairs.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simile.progress import Progress

# Each way needs an extra of its own: neither is imported for the other.
if TYPE_CHECKING:
    from simile.scoring import Device, Precision

Pairs = Sequence[tuple[str, str]]

_PATIENCE_S = 120.0
"""With each request of a file: the scores so far are not to be lost to a server that restarts."""


def score_by_bundle(
    bundle: str | Path, pairs: Pairs, *, device: "Device", precision: "Precision"
) -> NDArray[np.float32]:
    """Return the score of each pair, shape ``(P,)``, with a progress bar where there are several.

    Raises:
        InputError: the bundle, the device or the precision will not do, or a score is not finite.
    """
    from simile.scoring import load, require_finite

    scorer = load(bundle, device=device, precision=precision)
    if len(pairs) == 1:
        scored = scorer.score_members(pairs)
    else:
        num_texts = len({text for pair in pairs for text in pair}) * len(scorer.members)
        with Progress("scoring", num_texts, "texts") as progress:
            scored = scorer.score_members(pairs, progress.advance)
    require_finite(scored.score_P, scorer.runtime)
    return scored.score_P


def score_by_server(url: str, pairs: Pairs) -> NDArray[np.float32]:
    """Return the score of each pair, shape ``(P,)``, with a progress bar where there are several.

    Raises:
        InputError, ServerError: as `simile.Client.similarity`.
    """
    from simile.client import Client

    if len(pairs) == 1:
        with Client(url) as client:
            return client.score(pairs)
    with (
        Client(url, timeout=_PATIENCE_S, retries=int(_PATIENCE_S)) as client,
        Progress("scoring", len(pairs), "pairs") as progress,
    ):
        return client.similarity(pairs, on_progress=progress.advance).scores
