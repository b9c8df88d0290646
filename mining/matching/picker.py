"""Bookkeeping of the candidates taken: each at most once, and no text in too many pairs.

Shape suffixes: N = documents, C = candidates.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np

from mining.sampling.features import Candidates, Indices

CHOICE = 8
"""Candidates among which the least used one is taken: varied texts teach more."""
_GROUP_WEIGHT = 2.0
"""Weight of a group's pairs per document, relative to a text's pairs, in the usage count of a candidate."""


class UsageCounts:
    """The number of pairs that each document is in, and each group per document, by class.

    The counts of document (or group) ``n`` are at ``2 n`` for negative and at ``2 n + 1`` for positive pairs.
    """

    def __init__(self, group_N: Indices) -> None:
        self.group_N = group_N
        self.of_text = [0] * (2 * len(group_N))
        self.of_group: list[float] = [0.0] * (2 * (int(group_N.max(initial=-1)) + 1))
        self.group_weight_N: list[float] = (_GROUP_WEIGHT / np.bincount(group_N)[group_N]).tolist()


class Picker:
    """Takes candidates, each at most once, with no text in more pairs of one class than allowed."""

    def __init__(self, candidates: Candidates, max_uses: int, usage: UsageCounts) -> None:
        self.candidates = candidates
        self._usage = usage
        self._max_uses = max_uses
        self._taken: set[int] = set()
        self._ends = list(zip(candidates.a_C.tolist(), candidates.b_C.tolist(), strict=True))
        self._label = candidates.is_positive_C.tolist()
        group_N = usage.group_N.tolist()
        labelled = list(zip(self._ends, self._label, strict=True))
        self._texts = [(2 * a + label, 2 * b + label) for (a, b), label in labelled]
        self._groups = [(2 * group_N[a] + label, 2 * group_N[b] + label) for (a, b), label in labelled]

    def is_free(self, index: int) -> bool:
        """Return whether the candidate may be taken."""
        a, b = self._texts[index]
        of_text, max_uses = self._usage.of_text, self._max_uses
        return index not in self._taken and of_text[a] < max_uses and of_text[b] < max_uses

    def usage_count(self, index: int) -> float:
        """Return how many pairs of its class the candidate's texts are in, plus, for a positive, its groups' share.

        The groups of negatives do not count: groups that are easily confused should supply many negatives.
        """
        (a, b), (group_a, group_b) = self._texts[index], self._groups[index]
        usage = self._usage
        of_groups = usage.of_group[group_a] + usage.of_group[group_b] if self._label[index] else 0.0
        return float(usage.of_text[a] + usage.of_text[b] + of_groups)

    def take(self, index: int) -> bool:
        """Take the candidate if it is free, and return whether it was."""
        if not self.is_free(index):
            return False
        self._taken.add(index)
        self._count(index, 1)
        return True

    def take_some(self, pool: Iterable[int] | Indices, num: int) -> list[int]:
        """Take the first ``num`` free candidates of the pool and return them."""
        return list(islice((int(index) for index in pool if self.take(int(index))), num))

    def least_used_first(self, pool: Sequence[int] | Indices) -> Iterator[int]:
        """Yield the candidates of the pool about in its order: always the least used of the next few."""
        waiting = [int(index) for index in pool][::-1]
        while waiting:
            last = range(max(0, len(waiting) - CHOICE), len(waiting))
            yield waiting.pop(min(last, key=lambda i: self.usage_count(waiting[i])))

    def release(self, index: int) -> None:
        """Put back a candidate that was taken."""
        self._taken.remove(index)
        self._count(index, -1)

    @property
    def chosen(self) -> Indices:
        """The taken candidates, in ascending order."""
        return np.array(sorted(self._taken), dtype=np.int64)

    def _count(self, index: int, change: int) -> None:
        usage = self._usage
        for end, text, group in zip(self._ends[index], self._texts[index], self._groups[index], strict=True):
            usage.of_text[text] += change
            usage.of_group[group] += change * usage.group_weight_N[end]
