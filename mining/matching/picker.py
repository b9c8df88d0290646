"""What is taken of the candidates: each at most once, no text too often.

Shape suffixes: N = documents, C = candidates.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mining.sampling.features import Candidates

_GROUP_WEAR = 2.0
"""Weight of how often a group was used, a document, against how often a text was."""


class Uses:
    """How many pairs of a class each document is in, and each group for each of its documents.

    Negative and positive pairs are counted side by side: those of document ``n`` at ``2 n`` and ``2 n + 1``.
    """

    def __init__(self, group_N: NDArray[np.int64]) -> None:
        self.group_N = group_N
        self.of_text = [0] * (2 * len(group_N))
        self.of_group: list[float] = [0.0] * (2 * (int(group_N.max(initial=-1)) + 1))
        self.weight_N: list[float] = (_GROUP_WEAR / np.bincount(group_N)[group_N]).tolist()


class Picker:
    """Takes candidates, each at most once, no text in more pairs of a class than allowed."""

    def __init__(self, candidates: Candidates, max_uses: int, uses: Uses) -> None:
        self._uses = uses
        self._max_uses = max_uses
        self._taken: set[int] = set()
        ends = list(zip(candidates.a_C.tolist(), candidates.b_C.tolist(), strict=True))
        self._is_positive = label = candidates.is_positive_C.tolist()
        group_N = uses.group_N.tolist()
        self._ends = ends
        self._texts = [(2 * a + of, 2 * b + of) for (a, b), of in zip(ends, label, strict=True)]
        self._groups = [(2 * group_N[a] + of, 2 * group_N[b] + of) for (a, b), of in zip(ends, label, strict=True)]

    def is_free(self, index: int) -> bool:
        """Return whether the candidate may be taken."""
        a, b = self._texts[index]
        of_text, most = self._uses.of_text, self._max_uses
        return index not in self._taken and of_text[a] < most and of_text[b] < most

    def wear(self, index: int) -> float:
        """Return how often the candidate's texts are in pairs of its class, and a positive's groups, a document.

        Not a negative's: where groups are easily taken for one another, there are many of them, and rightly so.
        """
        (a, b), (group_a, group_b) = self._texts[index], self._groups[index]
        uses = self._uses
        of_groups = uses.of_group[group_a] + uses.of_group[group_b] if self._is_positive[index] else 0.0
        return float(uses.of_text[a] + uses.of_text[b] + of_groups)

    def take(self, index: int) -> bool:
        """Take the candidate if it is free, and return whether it was."""
        if not self.is_free(index):
            return False
        self._taken.add(index)
        self._count(index, 1)
        return True

    def take_some(self, pool: Sequence[int] | NDArray[np.int64], num: int) -> list[int]:
        """Return the first ``num`` of the pool that were free, now taken."""
        got: list[int] = []
        for index in pool:
            if len(got) == num:
                break
            if self.take(int(index)):
                got.append(int(index))
        return got

    def release(self, index: int) -> None:
        """Put a taken candidate back."""
        self._taken.remove(index)
        self._count(index, -1)

    @property
    def chosen(self) -> NDArray[np.int64]:
        """The taken candidates, in ascending order."""
        return np.array(sorted(self._taken), dtype=np.int64)

    def _count(self, index: int, change: int) -> None:
        uses = self._uses
        for end, text, group in zip(self._ends[index], self._texts[index], self._groups[index], strict=True):
            uses.of_text[text] += change
            uses.of_group[group] += change * uses.weight_N[end]
