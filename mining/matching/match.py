"""Matching: take candidates that are similar to the pairs of a target, one by one, or to each other.

Each pair of the target takes its share of candidates of its class and category relation (same category or not): among
the few nearest in TF-IDF cosine, length ratio and the baseline's cosine, the one whose texts and groups are used least.
This follows the joint distribution without bins (matching within a caliper: Cochran & Rubin 1973, Sankhya A 35(4)).

Shape suffixes: C = candidates, T = pairs of the target, F = features, K = neighbours.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.random import Generator
from scipy.spatial import cKDTree

from mining.matching.picker import CHOICE, Picker
from mining.sampling.cells import tfidf_bins
from mining.sampling.features import Candidates, Flags, Floats, Indices

CALIPER = np.array([0.2, 0.3, 0.3])
"""Largest distance of a match in each feature, in standard deviations of the target's pairs. It is smallest for TF-IDF:
where candidates are few, positives drift to more words in common and negatives to fewer."""
_MIN_SPREAD = np.array([0.02, 0.05, 0.02])
_NEIGHBOURS = 64
"""Candidates looked up at first."""
_MAX_SHARES = 2
"""Multiple of its share that a pair of the target may receive where others have no match."""
_ROUNDS, _TRIALS = 4, 12
_MAX_MISSING = 0.01
"""Part of a class that may lack a match: other pairs make up for it, too few to tell the classes apart."""


class _Neighbours:
    """The candidates near each of some points, nearest first, looked up as far as needed."""

    def __init__(self, picker: Picker, index_C: Indices, pool_CF: Floats, point_TF: Floats) -> None:
        self._picker = picker
        self._tree = cKDTree(pool_CF)
        self._index_C = index_C
        self._point_TF = point_TF
        self._near_TK: dict[int, Indices] = {}
        self._first: dict[int, int] = defaultdict(int)
        """The place before which no neighbour of the point is free."""
        if len(index_C) and len(point_TF):
            self._near_TK = dict(enumerate(self._query(point_TF, _NEIGHBOURS)))

    def take_near(self, point: int) -> int | None:
        """Take the least used of the nearest free candidates within the caliper; return it, or None without one."""
        near = list(islice(self._free(point), CHOICE))
        if not near:
            return None
        index = min(near, key=self._picker.usage_count)
        self._picker.take(index)
        return index

    def _free(self, point: int) -> Iterator[int]:
        """Yield the free candidates within the caliper, nearest first."""
        is_free, num_candidates = self._picker.is_free, len(self._index_C)
        if not num_candidates:
            return
        place = self._first[point]
        is_behind_first = True
        while True:
            near_K = self._near_TK[point]
            while place < len(near_K):
                # The tree pads with the number of all candidates past the last neighbour.
                if near_K[place] == num_candidates:
                    return
                index = int(self._index_C[near_K[place]])
                if is_free(index):
                    is_behind_first = False
                    yield index
                place += 1
                if is_behind_first:
                    self._first[point] = place
            if len(near_K) >= num_candidates:
                return
            self._near_TK[point] = self._query(self._point_TF[[point]], 8 * len(near_K))[0]

    def start_again(self) -> None:
        """Begin with the nearest again."""
        self._first.clear()

    def _query(self, point_TF: Floats, num: int) -> Indices:
        k = np.arange(1, min(num, len(self._index_C)) + 1)
        _, near_TK = self._tree.query(point_TF, k=k, p=np.inf, distance_upper_bound=1.0)
        return np.asarray(near_TK)


def match_target(picker: Picker, target: Candidates, weight_T: Floats, num_each: int, rng: Generator) -> None:
    """Take up to ``num_each`` candidates of each class, distributed as the target's weighted pairs of that class.

    Where one class falls short in a TF-IDF bin, both take fewer there and more elsewhere; otherwise word overlap would
    tell them apart. No pair of the target receives more than twice its share.
    """
    if not 0 < target.is_positive_C.sum() < len(target):
        return
    matchers = [_ClassMatcher(picker, target, weight_T, num_each, rng, label=label) for label in (True, False)]
    bin_T = tfidf_bins(target.tfidf_C)
    trial_T, best_T, max_balanced = weight_T, np.zeros(len(weight_T)), 0
    for _ in range(_TRIALS):
        filled, num_balanced = _fill(matchers, trial_T, bin_T)
        if max(matcher.num_missing for matcher in matchers) <= _MAX_MISSING * num_each:
            for matcher in matchers:
                matcher.top_up(trial_T)
            return
        if num_balanced > max_balanced:
            best_T, max_balanced = trial_T, num_balanced
        trial_T = trial_T * filled[bin_T]
    _fill(matchers, best_T, bin_T)


def _fill(matchers: Sequence["_ClassMatcher"], share_T: Floats, bin_T: Indices) -> tuple[Floats, int]:
    """Take candidates in these shares, in place of earlier ones.

    Return the filled part of each TF-IDF bin (of the class that lacks more), and the number of candidates of one class
    that have a counterpart of the other class in their bin.
    """
    for matcher in matchers:
        matcher.release()
    wanted, taken = np.swapaxes([matcher.fill(share_T, bin_T) for matcher in matchers], 0, 1)
    filled = np.where(wanted > 0, taken / np.maximum(wanted, 1), 1.0)
    return filled.min(axis=0), int(taken.min(axis=0).sum())


class _ClassMatcher:
    """The target's pairs of one class, and the candidates taken for each."""

    def __init__(
        self, picker: Picker, target: Candidates, weight_T: Floats, num_wanted: int, rng: Generator, *, label: bool
    ) -> None:
        self._picker = picker
        self._rng = rng
        self._index = np.flatnonzero(target.is_positive_C == label)
        points = target.take(self._index)
        self._neighbours = _neighbours(picker, points, label=label, num_features=len(CALIPER))
        self._same_category = points.is_same_category_C.tolist()
        self._order = np.lexsort((points.tfidf_C, points.is_same_category_C))
        self._num_wanted = num_wanted
        weight_T = weight_T[self._index]
        self._max_T = np.ceil(_MAX_SHARES * num_wanted * weight_T / weight_T.sum()).astype(np.int64)
        self._taken: list[int] = []
        self.release()

    @property
    def num_missing(self) -> int:
        """The number of candidates still to be taken."""
        return self._num_wanted - len(self._taken)

    def fill(self, share_T: Floats, bin_T: Indices) -> tuple[Floats, Floats]:
        """Take candidates in these shares; return the numbers wanted and taken in each TF-IDF bin."""
        num_bins = int(bin_T.max()) + 1
        bin_T = bin_T[self._index]
        quota_T = np.minimum(_apportion(share_T[self._index], self._num_wanted, self._order, self._rng), self._max_T)
        self._take(quota_T.copy())
        wanted = np.bincount(bin_T, weights=quota_T, minlength=num_bins)
        # Pairs of the target with as many words in common make up for those without a match.
        for _ in range(_ROUNDS):
            missing = (wanted - np.bincount(bin_T, weights=self._num_taken_T, minlength=num_bins)).astype(np.int64)
            open_share_T = self._open_share(share_T)
            for bin_ in np.flatnonzero(missing):
                self._take_more(np.where(bin_T == bin_, open_share_T, 0.0), int(missing[bin_]))
        taken = np.bincount(bin_T, weights=self._num_taken_T, minlength=num_bins)
        return wanted.astype(np.float64), taken.astype(np.float64)

    def top_up(self, share_T: Floats) -> None:
        """Take the few that are still missing for any pairs of the target."""
        for _ in range(_ROUNDS):
            self._take_more(self._open_share(share_T), self.num_missing)

    def release(self) -> None:
        """Put back all that was taken."""
        for index in self._taken:
            self._picker.release(index)
        self._taken = []
        self._num_taken_T = np.zeros(len(self._index), dtype=np.int64)
        self._is_exhausted_T = np.zeros(len(self._index), dtype=bool)
        for neighbours in self._neighbours.values():
            neighbours.start_again()

    def _open_share(self, share_T: Floats) -> Floats:
        """Return the shares of the pairs that may have a match left and may receive more; 0 for the others."""
        return np.where(self._is_exhausted_T | (self._num_taken_T >= self._max_T), 0.0, share_T[self._index])

    def _take_more(self, share_T: Floats, num: int) -> None:
        quota_T = _apportion(share_T, num, self._order, self._rng)
        self._take(np.minimum(quota_T, self._max_T - self._num_taken_T))

    def _take(self, open_T: Indices) -> None:
        """Take up to ``open_T`` candidates for each pair of the target, one at a time in turns."""
        while open_T.any():
            for point in self._rng.permutation(np.flatnonzero(open_T)).tolist():
                index = self._neighbours[self._same_category[point]].take_near(point)
                if index is None:
                    self._is_exhausted_T[point], open_T[point] = True, 0
                    continue
                self._taken.append(index)
                self._num_taken_T[point] += 1
                open_T[point] -= 1


def match_classes(picker: Picker, wanted_same_C: Flags, num_each: int) -> None:
    """Take up to ``num_each`` positives, each with a free negative that is near it in words in common and in length.

    Positives are taken in the candidates' order, which must be random. ``wanted_same_C`` states whether the negative of
    each positive should be of one category.
    """
    candidates = picker.candidates
    positive = np.flatnonzero(candidates.is_positive_C)
    if not len(positive):
        return
    # The baseline does not count here: negatives that it scores like the positives would be its own errors only.
    neighbours = _neighbours(picker, candidates.take(positive), label=False, num_features=2)
    num, point_of = 0, {index: point for point, index in enumerate(positive.tolist())}
    for index in picker.least_used_first(positive):
        if num >= num_each:
            return
        if not picker.take(index):
            continue
        point = point_of[index]
        wanted = bool(wanted_same_C[index])
        # Where negatives of one category run out, the others make up for them, and vice versa.
        if any(neighbours[same].take_near(point) is not None for same in (wanted, not wanted)):
            num += 1
        else:
            picker.release(index)


def _neighbours(picker: Picker, points: Candidates, *, label: bool, num_features: int) -> dict[bool, _Neighbours]:
    """Return the candidates of one class near the points: those of one category (True) and the others.

    The distance uses those of the first ``num_features`` features that are known for all pairs, scaled by their spread.
    """
    candidates, point_TF, feature_CF = picker.candidates, points.feature_CF, picker.candidates.feature_CF
    is_known_F = np.arange(len(CALIPER)) < num_features
    for known_F in (point_TF, feature_CF):
        is_known_F &= ~np.isnan(known_F).any(axis=0)
    spread_F = np.maximum(point_TF[:, is_known_F].std(axis=0), _MIN_SPREAD[is_known_F])
    scale_F = spread_F * CALIPER[is_known_F]
    of_class_C = candidates.is_positive_C == label
    pools = {same: np.flatnonzero(of_class_C & (candidates.is_same_category_C == same)) for same in (True, False)}
    return {
        same: _Neighbours(picker, pool, feature_CF[pool][:, is_known_F] / scale_F, point_TF[:, is_known_F] / scale_F)
        for same, pool in pools.items()
    }


def _apportion(weight_T: Floats, total: int, order_T: Indices, rng: Generator) -> Indices:
    """Return whole numbers in these proportions that sum to the total, rounded evenly along the order.

    This is systematic sampling (Madow & Madow 1944, doi:10.1214/aoms/1177731312); independent rounding would drift.
    """
    quota_T = np.zeros(len(weight_T), dtype=np.int64)
    if weight_T.sum() > 0:
        steps_T = np.cumsum(weight_T[order_T]) / weight_T.sum() * total
        quota_T[order_T] = np.diff(np.floor(steps_T.round(6) + rng.random()).astype(np.int64), prepend=0)
    return quota_T
