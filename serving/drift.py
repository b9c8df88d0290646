"""Drift of the traffic: recent scores and text lengths, compared with the first ones that the same bundle received.

The measure is the population stability index: 0 is no change, above 0.25 is usually called a large one. Source: Siddiqi
2006, Credit Risk Scorecards, ch. 6 (the symmetrised Kullback-Leibler divergence of two histograms).
"""

import logging
import math
import time
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from simile.artifacts.json_file import read_model
from simile.artifacts.strict import StrictModel
from simile.errors import InputError
from simile.files import sweep, write_whole

_log = logging.getLogger(__name__)

EDGES: dict[str, tuple[float, ...]] = {
    "scores": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "tokens": (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384),
}
REFERENCE = 10_000
"""Values that the reference is learned from, and at least as many recent values are remembered."""
_MIN_RECENT = 1_000
"""Recent values that the index needs: fewer differ by chance."""
_RETRY_S = 60.0
"""Seconds after which a reference that could not be stored is stored again."""


class _Reference(StrictModel):
    """The content of a reference's file: bin edges and counts, by what is counted."""

    edges: dict[str, tuple[float, ...]]
    # The last call of the reference may bring more than was needed, but no more than fits into a request.
    counts: dict[str, tuple[Annotated[float, Field(ge=0, le=1e9)], ...]]


class Drift:
    """The reference and the recent traffic of the bundle with this digest. Not thread-safe.

    The folder stores the reference of each bundle; without a folder it is learned again after every start.
    """

    def __init__(self, folder: Path | None, digest: str) -> None:
        self._file = folder / f"{digest}.json" if folder else None
        self._reference, self._recent = ({of: [0.0] * (len(EDGES[of]) + 1) for of in EDGES} for _ in range(2))
        self._failure, self._retry_at = "", math.inf
        self._read()

    def observe(self, of: str, values: Sequence[float]) -> None:
        """Count values of ``scores`` or ``tokens``: for the reference until it is complete, then as recent values."""
        edges, reference = EDGES[of], self._reference[of]
        is_learning = sum(reference) < REFERENCE
        counts = reference if is_learning else self._recent[of]
        for value in values:
            counts[bisect_right(edges, value)] += 1
        if is_learning:
            if self.is_learned:
                self._write()
        elif (total := sum(counts)) > 2 * REFERENCE:
            # Older values fade: whenever there are twice as many, the weight of each is halved.
            counts[:] = [count * REFERENCE / total for count in counts]
        if time.monotonic() >= self._retry_at:
            self._write()

    @property
    def is_learned(self) -> bool:
        """Whether the reference is complete."""
        return all(sum(counts) >= REFERENCE for counts in self._reference.values())

    def index(self, of: str) -> float:
        """Return the population stability index; NaN until there are enough values to compare."""
        reference, recent = self._reference[of], self._recent[of]
        if sum(reference) < REFERENCE or sum(recent) < _MIN_RECENT:
            return math.nan
        # Half a value is added to each bin, so that an empty bin is improbable and not impossible.
        p = [(count + 0.5) / (sum(reference) + len(reference) / 2) for count in reference]
        q = [(count + 0.5) / (sum(recent) + len(recent) / 2) for count in recent]
        return sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))

    def _read(self) -> None:
        if not self._file:
            return
        try:
            sweep(self._file)
            stored = read_model(self._file, _Reference, "need a drift reference")
        except FileNotFoundError:
            return
        except (OSError, InputError) as error:
            _log.warning("the drift reference cannot be read, learning a new one: %s", error)
            return
        num_counts = {of: len(counts) for of, counts in stored.counts.items()}
        if stored.edges != EDGES or num_counts != {of: len(edges) + 1 for of, edges in EDGES.items()}:
            _log.warning("%s: the drift reference has other bins, learning a new one", self._file)
            return
        self._reference = {of: list(counts) for of, counts in stored.counts.items()}

    def _write(self) -> None:
        if not self._file:
            return
        counts = {of: tuple(values) for of, values in self._reference.items()}
        failure, self._retry_at = "", math.inf
        try:
            write_whole(self._file, _Reference(edges=EDGES, counts=counts).model_dump_json() + "\n")
        # Failing to monitor must not stop the scoring.
        except (OSError, InputError) as error:
            failure, self._retry_at = str(getattr(error, "strerror", error)), time.monotonic() + _RETRY_S
        if failure and failure != self._failure:
            _log.warning("%s: the drift reference cannot be written (%s)", self._file, failure)
        self._failure = failure
