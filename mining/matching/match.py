"""Matching: candidates that are like the pairs of a target, one by one, or like each other.

Each pair of the target asks for its share of the mined ones, and each time takes a free candidate of its class and kind
(same category or not) that is near it in TF-IDF cosine, length ratio and the baseline's cosine: of the nearest few the
one whose texts and groups have been used least. So the joint distribution is followed without bins, which four
dimensions would leave empty. Matching within a caliper: Cochran & Rubin 1973, Sankhya A 35(4).

Shape suffixes: C = candidates, T = pairs of the target, F = features, K = neighbours.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mining.matching.picker import Picker
from mining.sampling.cells import tfidf_bins
from mining.sampling.features import FEATURES, Candidates

CALIPER = np.array([0.2, 0.3, 0.3])
"""How far a match may lie off in each feature, in standard deviations of the target's; least in TF-IDF: where
candidates are few, positives drift to more words in common and negatives to fewer, and words tell them apart again."""
_MIN_SPREAD = np.array([0.02, 0.05, 0.02])
_NEIGHBOURS = 64
_CHOICE = 8
"""Near candidates of which the least worn is taken: pairs spread over all texts and groups teach more."""
_MOST_SHARES = 2
"""Times its share that a pair of the target may stand for, where others have no match."""
_ROUNDS = 4
_TRIALS = 12
_MISSING = 0.01
"""Part of a class that may be missing: others make up for it, and it is too little to tell the classes apart."""


class _Neighbours:
    """The pool's candidates near each of some points, nearest first, looked up as far as they are asked for."""

    def __init__(self, pool_CF: NDArray[np.float64], index_C: NDArray[np.int64], point_TF: NDArray[np.float64]) -> None:
        self._tree = cKDTree(pool_CF) if len(pool_CF) else None
        self._index_C = index_C
        self._point_TF = point_TF
        self._found: dict[int, NDArray[np.int64]] = {}
        self._first: dict[int, int] = defaultdict(int)
        """Places before it hold nobody that is free."""
        if self._tree is not None and len(point_TF):
            self._found = dict(enumerate(self._query(point_TF, _NEIGHBOURS)))

    def take_near(self, point: int, picker: Picker) -> int | None:
        """Return a candidate within the caliper that was free, now taken: of the nearest some, the least worn.

        None where there is none.
        """
        near = list(islice(self._free(point, picker), _CHOICE))
        if not near:
            return None
        index = min(near, key=picker.wear)
        picker.take(index)
        return index

    def _free(self, point: int, picker: Picker) -> Iterator[int]:
        """Yield the free candidates within the caliper, nearest first."""
        if self._tree is None:
            return
        place = self._first[point]
        is_behind_first = True
        while True:
            found_K = self._found[point]
            while place < len(found_K):
                # Past the last neighbour the tree gives the number of all.
                if found_K[place] == len(self._index_C):
                    return
                index = int(self._index_C[found_K[place]])
                if picker.is_free(index):
                    is_behind_first = False
                    yield index
                place += 1
                if is_behind_first:
                    self._first[point] = place
            if len(found_K) >= len(self._index_C):
                return
            self._found[point] = self._query(self._point_TF[[point]], 8 * len(found_K))[0]

    def start_again(self) -> None:
        """Begin with the nearest again."""
        self._first.clear()

    def _query(self, point_TF: NDArray[np.float64], num: int) -> NDArray[np.int64]:
        assert self._tree is not None, "no tree, no neighbours"
        k = np.arange(1, min(num, len(self._index_C)) + 1)
        _, found_TK = self._tree.query(point_TF, k=k, p=np.inf, distance_upper_bound=1.0)
        return np.asarray(found_TK)


def match_target(
    candidates: Candidates,
    target: Candidates,
    weight_T: NDArray[np.float64],
    num_each: int,
    picker: Picker,
    rng: np.random.Generator,
) -> None:
    """Take up to ``num_each`` candidates of each class, distributed as the target's weighted pairs of that class.

    Where one class falls short in a TF-IDF bin, both take fewer there and more elsewhere: words would tell them apart
    otherwise. No pair of the target stands for more than twice its share.
    """
    if not 0 < target.is_positive_C.sum() < len(target):
        return
    classes = [_Class(candidates, target, weight_T, num_each, label=label) for label in (True, False)]
    bin_T = tfidf_bins(target.tfidf_C)
    trial_T, best_T, most = weight_T, np.zeros(len(weight_T)), 0
    for _ in range(_TRIALS):
        filled, num_alike = _fill(classes, trial_T, bin_T, picker, rng)
        if max(of_class.num_missing for of_class in classes) <= _MISSING * num_each:
            for of_class in classes:
                of_class.top_up(trial_T, picker, rng)
            return
        if num_alike > most:
            best_T, most = trial_T, num_alike
        trial_T = trial_T * filled[bin_T]
    _fill(classes, best_T, bin_T, picker, rng)


def _fill(
    classes: Sequence["_Class"],
    share_T: NDArray[np.float64],
    bin_T: NDArray[np.int64],
    picker: Picker,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], int]:
    """Take candidates in these shares, in place of earlier ones.

    Return which part of each TF-IDF bin was there, and in how many of one class the other has its like.
    """
    for of_class in classes:
        of_class.release(picker)
    wanted, got = np.swapaxes([of_class.fill(share_T, bin_T, picker, rng) for of_class in classes], 0, 1)
    part = np.where(wanted > 0, got / np.maximum(wanted, 1), 1.0)
    return part.min(axis=0), int(got.min(axis=0).sum())


class _Class:
    """The target's pairs of one class, and the candidates taken for each."""

    def __init__(
        self,
        candidates: Candidates,
        target: Candidates,
        weight_T: NDArray[np.float64],
        num_wanted: int,
        *,
        label: bool,
    ) -> None:
        self._index = np.flatnonzero(target.is_positive_C == label)
        points = target.take(self._index)
        self._neighbours = _neighbours(candidates, points, label=label, num_features=len(FEATURES))
        self._kinds = points.is_same_category_C.tolist()
        self._order = np.lexsort((points.tfidf_C, points.is_same_category_C))
        self._num_wanted = num_wanted
        weight_T = weight_T[self._index]
        self._most_T = np.ceil(_MOST_SHARES * num_wanted * weight_T / weight_T.sum()).astype(np.int64)
        self._start_again()

    def _start_again(self) -> None:
        self._taken: list[int] = []
        self._got_T = np.zeros(len(self._index), dtype=np.int64)
        self._is_dry_T = np.zeros(len(self._index), dtype=bool)

    @property
    def num_missing(self) -> int:
        """How many are still to be taken."""
        return self._num_wanted - len(self._taken)

    def fill(
        self, share_T: NDArray[np.float64], bin_T: NDArray[np.int64], picker: Picker, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Take candidates in these shares; return how many were wanted in each TF-IDF bin, and how many there were."""
        num_bins = int(bin_T.max()) + 1
        bin_T = bin_T[self._index]
        quota_T = np.minimum(_apportion(share_T[self._index], self._num_wanted, self._order, rng), self._most_T)
        self._take(quota_T.copy(), picker, rng)
        wanted = np.bincount(bin_T, weights=quota_T, minlength=num_bins)
        # What has no match is made up for by pairs of the target with as many words in common.
        for _ in range(_ROUNDS):
            missing = (wanted - np.bincount(bin_T, weights=self._got_T, minlength=num_bins)).astype(np.int64)
            open_share_T = self._open_share(share_T)
            for bin_ in np.flatnonzero(missing):
                self._take_more(np.where(bin_T == bin_, open_share_T, 0.0), int(missing[bin_]), picker, rng)
        got = np.bincount(bin_T, weights=self._got_T, minlength=num_bins)
        return wanted.astype(np.float64), got.astype(np.float64)

    def top_up(self, share_T: NDArray[np.float64], picker: Picker, rng: np.random.Generator) -> None:
        """Take what few are missing still for any others of the target."""
        for _ in range(_ROUNDS):
            self._take_more(self._open_share(share_T), self.num_missing, picker, rng)

    def release(self, picker: Picker) -> None:
        """Put back what was taken."""
        for index in self._taken:
            picker.release(index)
        self._start_again()
        for of_kind in self._neighbours.values():
            of_kind.start_again()

    def _open_share(self, share_T: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shares of those that have a match left and may stand for more."""
        return np.where(self._is_dry_T | (self._got_T >= self._most_T), 0.0, share_T[self._index])

    def _take_more(self, share_T: NDArray[np.float64], num: int, picker: Picker, rng: np.random.Generator) -> None:
        self._take(np.minimum(_apportion(share_T, num, self._order, rng), self._most_T - self._got_T), picker, rng)

    def _take(self, open_T: NDArray[np.int64], picker: Picker, rng: np.random.Generator) -> None:
        """Take as many as are open for each pair of the target, one after another, as far as there are any."""
        while open_T.any():
            for point in rng.permutation(np.flatnonzero(open_T)).tolist():
                index = self._neighbours[self._kinds[point]].take_near(point, picker)
                if index is None:
                    self._is_dry_T[point], open_T[point] = True, 0
                    continue
                self._taken.append(index)
                self._got_T[point] += 1
                open_T[point] -= 1


def match_classes(
    candidates: Candidates,
    wanted_same_C: NDArray[np.bool_],
    num_each: int,
    picker: Picker,
) -> None:
    """Take up to ``num_each`` positives, each with a free negative that is near it in words in common and in length.

    Args:
        candidates: in random order: positives are taken in it.
        wanted_same_C: of each positive, whether its negative is to be of one category.
        num_each: how many of each class.
        picker: takes them.
    """
    positive = np.flatnonzero(candidates.is_positive_C)
    if not len(positive):
        return
    # Not by the baseline: negatives that it finds as alike as the positives would be its errors alone.
    neighbours = _neighbours(candidates, candidates.take(positive), label=False, num_features=2)
    num = 0
    waiting = list(enumerate(positive.tolist()))
    waiting.reverse()
    while waiting and num < num_each:
        # The last some, in random order: of them the least worn.
        place = min(range(max(0, len(waiting) - _CHOICE), len(waiting)), key=lambda i: picker.wear(waiting[i][1]))
        point, index = waiting.pop(place)
        if not picker.take(index):
            continue
        wanted = bool(wanted_same_C[index])
        # Where one kind runs out (a corpus of one category has no other), the other kind stands in.
        if any(neighbours[same].take_near(point, picker) is not None for same in (wanted, not wanted)):
            num += 1
        else:
            picker.release(index)


def _neighbours(
    candidates: Candidates, points: Candidates, *, label: bool, num_features: int
) -> dict[bool, _Neighbours]:
    """Return the candidates of a class near the points, those of one category (True) and the others.

    Near in the first features, as far as they are known of all pairs, each by its spread over the points.
    """
    is_known_F = np.arange(len(FEATURES)) < num_features
    for of in (points, candidates):
        is_known_F &= ~np.isnan(of.feature_CF).any(axis=0)
    spread_F = np.maximum(points.feature_CF[:, is_known_F].std(axis=0), _MIN_SPREAD[is_known_F])
    scale_F = spread_F * CALIPER[is_known_F]
    point_TF = points.feature_CF[:, is_known_F] / scale_F
    of_class_C = candidates.is_positive_C == label
    pools = {same: np.flatnonzero(of_class_C & (candidates.is_same_category_C == same)) for same in (True, False)}
    return {
        same: _Neighbours(candidates.feature_CF[pool][:, is_known_F] / scale_F, pool, point_TF)
        for same, pool in pools.items()
    }


def _apportion(
    weight_T: NDArray[np.float64], total: int, order_T: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return whole numbers in these proportions that sum to the total, evenly spread along the order.

    Systematic sampling (Madow & Madow 1944, doi:10.1214/aoms/1177731312): drawn independently, the fractions of many
    pairs would by chance be rounded up here and down there, and few pairs would not be distributed as the target's.
    """
    quota_T = np.zeros(len(weight_T), dtype=np.int64)
    if weight_T.sum() > 0:
        steps_T = np.cumsum(weight_T[order_T]) / weight_T.sum() * total
        quota_T[order_T] = np.diff(np.floor(steps_T.round(6) + rng.random()).astype(np.int64), prepend=0)
    return quota_T
