"""Drift of the traffic: recent scores and text lengths, compared with the first ones that the same bundle received.

The measure is the population stability index: 0 is no change, above 0.25 is usually called a large one. Source: Siddiqi
2006, Credit Risk Scorecards, ch. 6 (the symmetrised Kullback-Leibler divergence of two histograms).
"""

import json
import logging
import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from simile.files import write_whole

_log = logging.getLogger(__name__)

EDGES: dict[str, tuple[float, ...]] = {
    "scores": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "tokens": (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384),
}
REFERENCE = 10_000
"""Values that the reference is learned from, and at least as many recent values are remembered."""
_MIN_RECENT = 1_000
"""Recent values that the index needs: fewer differ by chance."""


class Drift:
    """The reference and the recent traffic of the bundle with this digest. Not thread-safe.

    The folder stores the reference of each bundle; without a folder it is learned again after every start.
    """

    def __init__(self, folder: Path | None, digest: str) -> None:
        self._file = folder / f"{digest}.json" if folder else None
        self._reference, self._recent = ({of: [0.0] * (len(EDGES[of]) + 1) for of in EDGES} for _ in range(2))
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
            stored = json.loads(self._file.read_bytes())
            counts = {of: [float(count) for count in stored["counts"][of]] for of in EDGES}
            are_other_bins = stored["edges"] != {of: list(edges) for of, edges in EDGES.items()}
            if are_other_bins or any(len(counts[of]) != len(EDGES[of]) + 1 or min(counts[of]) < 0 for of in EDGES):
                raise ValueError("its bins have other edges, or counts that do not fit them")
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("%s: the drift reference cannot be read (%s); learning a new one", self._file, error)
            return
        self._reference = counts

    def _write(self) -> None:
        if not self._file:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._file, json.dumps({"edges": EDGES, "counts": self._reference}) + "\n")
        # Failing to monitor must not stop the scoring.
        except OSError as error:
            _log.warning("%s: the drift reference cannot be written (%s)", self._file, error)
