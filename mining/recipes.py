"""Recipes: candidates -> pairs.

Shape suffix: C = candidates.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.candidates import BIN_WIDTH, Candidates

_NEGATIVE_OTHER, _NEGATIVE_SAME = 0, 1
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many pairs, and which."""

    num_pairs: int
    same_category: float
    """Share of the negatives within one category."""
    max_uses: int
    """Pairs of one class that a text may be in."""


def matched(candidates: Candidates, wanted: Wanted, shape: dict[int, float] | None = None) -> NDArray[np.int64]:
    """Return the chosen candidates' indices: in every TF-IDF bin as many negatives as positives.

    Args:
        candidates: in random order.
        wanted: how many.
        shape: share of the pairs by TF-IDF bin; None for what the candidates can fill.
    """
    picker = _Picker(candidates, wanted.max_uses)
    shape = shape or picker.matchable_shape()
    missing = wanted.num_pairs // 2
    open_bins = dict(shape)
    # A bin that runs short leaves its share to the others.
    for _ in range(_ROUNDS):
        total = sum(open_bins.values())
        if missing == 0 or total == 0:
            break
        quotas = _apportion({bin_: share / total for bin_, share in open_bins.items()}, missing)
        for bin_, quota in quotas.items():
            got = picker.fill_bin(bin_, quota, wanted.same_category)
            missing -= got
            if got < quota:
                open_bins[bin_] = 0.0
    return picker.chosen()


def bands(
    candidates: Candidates, wanted: Wanted, positive_band: tuple[float, float], negative_band: tuple[float, float]
) -> NDArray[np.int64]:
    """Return the chosen candidates' indices: each class from a TF-IDF band of its own, as the usual recipe draws."""
    picker = _Picker(candidates, wanted.max_uses)
    tfidf_C = candidates.tfidf_C
    fits_C = {
        True: candidates.is_positive_C & (tfidf_C >= positive_band[0]) & (tfidf_C <= positive_band[1]),
        False: ~candidates.is_positive_C & (tfidf_C >= negative_band[0]) & (tfidf_C <= negative_band[1]),
    }
    half = wanted.num_pairs // 2
    num_positive = picker.take(np.flatnonzero(fits_C[True]), half)
    same_C = candidates.is_same_category_C
    num_same = round(wanted.same_category * num_positive)
    got = picker.take(np.flatnonzero(fits_C[False] & same_C), num_same)
    got += picker.take(np.flatnonzero(fits_C[False] & ~same_C), num_positive - got)
    picker.take(np.flatnonzero(fits_C[False] & same_C), num_positive - got)
    return picker.chosen()


def shape_of(tfidf: Sequence[float] | NDArray[np.float64]) -> dict[int, float]:
    """Return the share of TF-IDF cosines in each bin."""
    bins, counts = np.unique(np.floor(np.asarray(tfidf) / BIN_WIDTH).astype(np.int64), return_counts=True)
    return {int(bin_): float(count) / len(tfidf) for bin_, count in zip(bins, counts, strict=True)}


def _apportion(shares: dict[int, float], total: int) -> dict[int, int]:
    """Return whole numbers in these shares that sum to the total: largest remainders round up."""
    exact = {bin_: share * total for bin_, share in shares.items() if share > 0}
    quotas = {bin_: int(value) for bin_, value in exact.items()}
    by_remainder = sorted(exact, key=lambda bin_: (quotas[bin_] - exact[bin_], bin_))
    for bin_ in by_remainder[: total - sum(quotas.values())]:
        quotas[bin_] += 1
    return quotas


class _Picker:
    """Takes candidates in their (random) order, each at most once, no text more often than allowed."""

    def __init__(self, candidates: Candidates, max_uses: int) -> None:
        self._candidates = candidates
        self._max_uses = max_uses
        self._uses: dict[tuple[bool, int], int] = defaultdict(int)
        self._taken: dict[int, None] = {}
        self._positives: dict[int, list[int]] = defaultdict(list)
        self._negatives: dict[tuple[int, int], list[int]] = defaultdict(list)
        bins, positive, same = candidates.bin_C, candidates.is_positive_C, candidates.is_same_category_C
        for index in range(len(bins)):
            if positive[index]:
                self._positives[int(bins[index])].append(index)
            else:
                self._negatives[int(bins[index]), int(same[index])].append(index)

    def matchable_shape(self) -> dict[int, float]:
        """Return the number of pairs of the rarer class in each bin."""
        shape = {}
        for bin_, positives in sorted(self._positives.items()):
            negatives = len(self._negatives[bin_, _NEGATIVE_SAME]) + len(self._negatives[bin_, _NEGATIVE_OTHER])
            shape[bin_] = float(min(len(positives), negatives))
        return shape

    def fill_bin(self, bin_: int, quota: int, same_category: float) -> int:
        """Take up to ``quota`` positives and as many negatives from one bin; return how many of each."""
        before = len(self._taken)
        num_positive = self.take(self._positives[bin_], quota)
        same, other = self._negatives[bin_, _NEGATIVE_SAME], self._negatives[bin_, _NEGATIVE_OTHER]
        num_negative = self.take(same, round(same_category * num_positive))
        num_negative += self.take(other, num_positive - num_negative)
        # Where one kind runs out (a corpus of one category has no other), the other kind stands in.
        num_negative += self.take(same, num_positive - num_negative)
        surplus = num_positive - num_negative
        for index in list(self._taken)[before + num_negative : before + num_positive]:
            self._release(index)
        return num_positive - surplus

    def take(self, pool: Sequence[int] | NDArray[np.int64], num: int) -> int:
        """Take up to ``num`` of the pool and return how many it were."""
        got = 0
        for raw in pool:
            if got >= num:
                break
            index = int(raw)
            if index not in self._taken and self._may_use(index):
                self._count(index, 1)
                self._taken[index] = None
                got += 1
        return got

    def chosen(self) -> NDArray[np.int64]:
        """Return the taken candidates' indices, in the candidates' order (which is random)."""
        return np.array(sorted(self._taken), dtype=np.int64)

    def _ends(self, index: int) -> tuple[tuple[bool, int], tuple[bool, int]]:
        is_positive = bool(self._candidates.is_positive_C[index])
        return (is_positive, int(self._candidates.a_C[index])), (is_positive, int(self._candidates.b_C[index]))

    def _may_use(self, index: int) -> bool:
        return all(self._uses[end] < self._max_uses for end in self._ends(index))

    def _count(self, index: int, change: int) -> None:
        for end in self._ends(index):
            self._uses[end] += change

    def _release(self, index: int) -> None:
        del self._taken[index]
        self._count(index, -1)
