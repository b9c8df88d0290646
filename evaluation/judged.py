"""What is judged or compared with: a bundle on this machine, or an endpoint.

Shape suffix: P = pairs.
"""

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Calibration, EvaluatedBundle, EvaluatedEndpoint
from simile.scoring import Pairs, Scorer, require_finite
from simile.scoring.scorer import Progress


@runtime_checkable
class Endpoint(Protocol):
    """A server that scores pairs; `simile.client.endpoint.Endpoint` is one, whose HTTP library is an extra."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def url(self) -> str:
        """The address that texts are sent to."""

    @property
    def api(self) -> Literal["simile", "tei", "openai"]:
        """The name of its API."""

    @property
    def model(self) -> str:
        """The model as the server names it."""

    def score(self, pairs: Pairs, on_progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the score of each pair, all of them finite; count distinct texts by ``on_progress``."""


Judged = Scorer | Endpoint


def score(judged: Judged, pairs: Pairs, on_progress: Progress) -> NDArray[np.float32]:
    """Return the score of each pair, all of them finite; each member counts all distinct texts by ``on_progress``."""
    if isinstance(judged, Endpoint):
        return judged.score(pairs, on_progress)
    score_P = judged.score_members(pairs, on_progress).score_P
    require_finite(score_P, judged.runtime)
    return score_P


def num_members(judged: Judged) -> int:
    """Return how many times each text is computed."""
    return 1 if isinstance(judged, Endpoint) else len(judged.members)


def calibration_of(judged: Judged) -> Calibration | None:
    """Return the calibration of a bundle; an endpoint has none."""
    return None if isinstance(judged, Endpoint) else judged.bundle.manifest.calibration


def unknown_shares(judged: Judged, pairs: Pairs) -> dict[str, float]:
    """Return the share of unknown tokens by encoder; an endpoint tells none."""
    return {} if isinstance(judged, Endpoint) else judged.unknown_shares(pairs)


def evaluated_endpoint(endpoint: Endpoint) -> EvaluatedEndpoint:
    """Return the endpoint as a report names it."""
    return EvaluatedEndpoint(name=endpoint.name, url=endpoint.url, api=endpoint.api, model=endpoint.model)


def evaluated(judged: Judged) -> EvaluatedBundle | EvaluatedEndpoint:
    """Return what was judged as a report names it."""
    if isinstance(judged, Endpoint):
        return evaluated_endpoint(judged)
    return EvaluatedBundle(
        name=judged.bundle.manifest.name,
        digest=judged.bundle.manifest.digest,
        provider=judged.runtime.provider,
        precision=judged.runtime.precision,
    )
