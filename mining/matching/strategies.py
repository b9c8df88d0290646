"""The mining strategies: how the pairs of one split are selected from its documents.

Shape suffixes: N = documents, C = candidates, L = links.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from mining.config import MineConfig
from mining.matching.match import match_classes, match_target
from mining.matching.picker import Picker, UsageCounts
from mining.matching.target import Target
from mining.sampling.candidates import (
    WHOLE,
    Band,
    SamplingSpec,
    is_in_band,
    nearest_negatives,
    sample_negatives,
    sample_positives,
)
from mining.sampling.cells import Cells, capacity_like, even_capacity, tfidf_bins, unbinned_capacity
from mining.sampling.features import Candidates, Features, Flags, Floats, Indices, join
from mining.sampling.label_noise import is_false_negative
from simile.artifacts import FalseNegatives, Tier

ClassBands = tuple[Band, Band]
"""The TF-IDF bands of the positives and of the negatives."""
_CANDIDATES_PER_PAIR = 10
"""Candidates sampled per pair wanted: matching needs a choice."""
_HARD_SHARE = 0.5
"""Share of the negatives of the tier ``group`` that are near each other; the others are random."""


@dataclass(frozen=True, slots=True)
class Split:
    """The documents of one set, and the rules by which pairs are sampled from them."""

    features: Features
    links_L2: Indices | None
    """The known positive pairs, where they replace groups."""
    best_positive_N: Floats | None
    """The baseline's highest score of each document with another one of the same meaning; None without a baseline."""
    config: MineConfig


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected pairs, and the candidates that they were selected from."""

    chosen: Candidates
    """Positives and negatives, equally many but in the tier ``group``, in random order within a tier."""
    pool: Candidates
    false_negatives: FalseNegatives | None
    tiers: tuple[Tier | None, ...]
    """The tier of each selected pair; None where pairs are not selected by tiers."""


class Selector:
    """Selects pairs of one split; the usage of texts is counted over all its selections."""

    def __init__(self, split: Split, rng: Generator, on_progress: Callable[[int], None] = lambda num: None) -> None:
        self._split = split
        self._rng = rng
        self._on_progress = on_progress
        self._usage = UsageCounts(split.features.group_N)

    def tiered(self, num_pairs: int, band: Band, target: Target | None) -> Selection:
        """Select pairs tier by tier until there are enough of them.

        First come pairs like the target's, then two classes matched to each other, in the band and, unless that was
        asked for, outside of it, and last any other positives of the groups, with near and with random negatives.
        """
        selections: list[Selection] = []

        def add(tier: Tier, select: Callable[[int], Selection]) -> None:
            num_missing = num_pairs - sum(len(selection.chosen) for selection in selections)
            if num_missing >= 2:
                selection = select(num_missing)
                selections.append(replace(selection, tiers=(tier,) * len(selection.chosen)))

        add("target" if target else "matched", lambda num: self.matched(num, band, target))
        if self._split.config.band is None:
            add("matched", lambda num: self.matched(num, WHOLE, None, exclude=selections))
        add("group", lambda num: self._of_groups(num, exclude=selections))
        return joined(selections)

    def matched(
        self, num_pairs: int, band: Band, target: Target | None, *, exclude: Sequence[Selection] = ()
    ) -> Selection:
        """Select pairs distributed like the target's or, without a target, two classes matched to each other.

        The pairs of other selections are excluded.
        """
        num_each = num_pairs // 2

        def take(picker: Picker) -> None:
            if target:
                match_target(picker, target.as_candidates, target.weight_T, num_each, self._rng)
            else:
                wanted_same_C = self._rng.random(len(picker.candidates)) < self._split.config.same_category
                match_classes(picker, wanted_same_C, num_each)

        pool = self._candidates_like(target, num_each) if target else self._similar_classes(band, num_each)
        return self._select(self._without(pool, exclude), take)

    def banded(self, bands: ClassBands, num_pairs: int, *, exclude: Sequence[Selection] = ()) -> Selection:
        """Select pairs with each class from a TF-IDF band of its own, without the pairs of other selections."""
        num_each = num_pairs // 2
        pool = self._without(self.unmatched(bands, num_each), exclude)
        same_category = self._split.config.same_category
        return self._select(pool, lambda picker: _take_from_bands(picker, bands, num_each, same_category))

    def curriculum(self, num_pairs: int, band: Band, target: Target | None) -> tuple[Selection, Selection, Selection]:
        """Select three phases of a third of the pairs each: easy, medium, and hard as `matched`.

        The bands of the first two are delimited by the terciles of the positives' TF-IDF cosines.
        """
        num_phase = 2 * (num_pairs // 6)
        # Hard pairs are the rarest, so they are chosen first.
        hard = self.matched(num_pairs - 2 * num_phase, band, target)
        positives = self._positives(_unbinned((0.0, 1.0), num_phase))
        if not len(positives):
            return hard, hard, hard
        low, high = np.quantile(positives.tfidf_C, [1 / 3, 2 / 3]).tolist()
        medium = self.banded(((low, high), (low / 2, low)), num_phase, exclude=[hard])
        easy = self.banded(((high, 1.0), (0.0, low / 2)), num_phase, exclude=[hard, medium])
        return easy, medium, hard

    def unmatched(self, bands: ClassBands, num_each: int) -> Candidates:
        """Return candidates of both classes with the documents' own distribution."""
        return join([self._positives(_unbinned(bands[0], num_each)), self._negatives(_unbinned(bands[1], num_each))])

    def _of_groups(self, num_pairs: int, *, exclude: Sequence[Selection]) -> Selection:
        """Select positives, spread over texts and groups, and as many negatives: some near each other, some random."""
        num_each = num_pairs // 2
        pool = self.unmatched((WHOLE, WHOLE), num_each)
        near = nearest_negatives(self._split.features, num_each, self._rng)
        pool = join([pool, near.take(~self._is_among(near, pool))])

        def take(picker: Picker) -> None:
            is_positive_C, is_near_C = picker.candidates.is_positive_C, self._is_among(picker.candidates, near)
            taken = picker.take_some(picker.least_used_first(np.flatnonzero(is_positive_C)), num_each)
            hard, random = np.flatnonzero(is_near_C), np.flatnonzero(~is_positive_C & ~is_near_C)
            _take_of_both(picker, hard, random, len(taken), _HARD_SHARE)

        return self._select(self._without(pool, exclude), take, balance=False)

    def _without(self, pool: Candidates, selections: Sequence[Selection]) -> Candidates:
        """Return the candidates that none of these selections has chosen."""
        for selection in selections:
            pool = pool.take(~self._is_among(pool, selection.chosen))
        return pool

    def _is_among(self, pairs: Candidates, others: Candidates) -> Flags:
        """Return which pairs are among the others, shape ``(C,)``."""
        number_C, numbers = (one.a_C * len(self._split.features) + one.b_C for one in (pairs, others))
        return np.isin(number_C, numbers)

    def _positives(self, spec: SamplingSpec) -> Candidates:
        return sample_positives(self._split.features, spec, self._rng, self._split.links_L2)

    def _negatives(self, spec: SamplingSpec) -> Candidates:
        return sample_negatives(self._split.features, spec, self._rng, self._on_progress)

    def _candidates_like(self, target: Target, num_each: int) -> Candidates:
        """Return candidates of both classes, spread over the cells as the target's pairs are."""
        cells, is_positive_T = Cells(by_baseline=True), target.as_candidates.is_positive_C
        cell_T, num_candidates = cells.of(target.as_candidates), _CANDIDATES_PER_PAIR * num_each
        weights = target.weight_T * is_positive_T, target.weight_T * ~is_positive_T
        capacities = (capacity_like(cell_T, weight_T, num_candidates) for weight_T in weights)
        positive_spec, negative_spec = (SamplingSpec(target.band, cells, of_class, num_each) for of_class in capacities)
        return join([self._positives(positive_spec), self._negatives(negative_spec)])

    def _similar_classes(self, band: Band, num_each: int) -> Candidates:
        """Return positives spread as evenly as possible over the band, and negatives in the same TF-IDF cells."""
        cells, num_candidates = Cells(), _CANDIDATES_PER_PAIR * num_each
        positives = self._positives(SamplingSpec(band, cells, even_capacity(band, num_candidates), num_each))
        num = len(positives)
        as_negatives = replace(positives, is_positive_C=np.zeros(num, bool))
        # There is capacity for all in one category and for all in two, because either may run out.
        both = join([replace(as_negatives, is_same_category_C=np.full(num, is_same)) for is_same in (True, False)])
        capacity = capacity_like(cells.of(both), np.ones(2 * num), 2 * num_candidates)
        return join([positives, self._negatives(SamplingSpec(band, cells, capacity, num_each))])

    def _select(self, pool: Candidates, take: Callable[[Picker], None], *, balance: bool = True) -> Selection:
        """Return what ``take`` takes from the candidates, false negatives being dropped before if that is wanted.

        With ``balance``, classes of unequal size are cut to equal numbers.
        """
        config = self._split.config
        false_negatives: FalseNegatives | None = None
        if self._split.best_positive_N is not None:
            is_suspect_C = is_false_negative(pool, self._split.best_positive_N)
            false_negatives = FalseNegatives(found=int(is_suspect_C.sum()), of=int((~pool.is_positive_C).sum()))
            if config.false_negatives in ("drop", None):
                pool = pool.take(~is_suspect_C)
        picker = Picker(pool, config.max_uses, self._usage)
        take(picker)
        chosen = pool.take(picker.chosen)
        chosen = chosen.take(self._rng.permutation(len(chosen)))
        if balance and 2 * chosen.is_positive_C.sum() != len(chosen):
            chosen = _balanced(chosen)
        return Selection(chosen, pool, false_negatives, (None,) * len(chosen))


def joined(selections: Sequence[Selection]) -> Selection:
    """Return the pairs and candidates of all selections."""
    examined = [one.false_negatives for one in selections if one.false_negatives]
    return Selection(
        join([one.chosen for one in selections]),
        join([one.pool for one in selections]),
        FalseNegatives(found=sum(one.found for one in examined), of=sum(one.of for one in examined))
        if examined
        else None,
        tuple(tier for one in selections for tier in one.tiers),
    )


def _unbinned(band: Band, num_each: int) -> SamplingSpec:
    """Return a spec whose sample has the documents' own distribution."""
    return SamplingSpec(band, Cells(by_words=False), unbinned_capacity(_CANDIDATES_PER_PAIR * num_each), num_each)


def _take_from_bands(picker: Picker, bands: ClassBands, num_each: int, same_category: float) -> None:
    """Take up to ``num_each`` pairs of each class from its band, a share of the negatives from one category."""
    candidates = picker.candidates
    is_positive_C, is_same_C = candidates.is_positive_C, candidates.is_same_category_C
    positives = np.flatnonzero(is_positive_C & is_in_band(candidates.tfidf_C, bands[0]))
    is_negative_C = ~is_positive_C & is_in_band(candidates.tfidf_C, bands[1])
    same, different = np.flatnonzero(is_negative_C & is_same_C), np.flatnonzero(is_negative_C & ~is_same_C)
    taken = picker.take_some(positives, num_each)
    num_negatives = _take_of_both(picker, same, different, len(taken), same_category)
    for index in taken[num_negatives:]:
        picker.release(index)


def _take_of_both(picker: Picker, first: Indices, second: Indices, num: int, share: float) -> int:
    """Take ``num`` candidates, this share of them from the first; return how many there were.

    Each makes up for the other where that runs out, as negatives of two categories do in a corpus of one.
    """
    num_taken = len(picker.take_some(first, round(share * num)))
    for candidates in (second, first):
        num_taken += len(picker.take_some(candidates, num - num_taken))
    return num_taken


def _balanced(chosen: Candidates) -> Candidates:
    """Return as many pairs of each class in every TF-IDF bin, so that word overlap does not tell the classes apart."""
    bin_C = tfidf_bins(chosen.tfidf_C)
    counts = [np.bincount(bin_C[chosen.is_positive_C == label], minlength=bin_C.max() + 1) for label in (True, False)]
    class_bin_C = 2 * bin_C + chosen.is_positive_C
    order = np.argsort(class_bin_C, kind="stable")
    place_C = np.empty(len(chosen), dtype=np.int64)
    place_C[order] = np.arange(len(chosen)) - np.searchsorted(class_bin_C[order], class_bin_C[order])
    return chosen.take(place_C < np.minimum(*counts)[bin_C])
