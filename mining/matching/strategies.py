"""The mining strategies: how the pairs of one split are selected from its documents.

Shape suffixes: N = documents, C = candidates, L = links.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mining.matching.bands import ClassBands, phase_bands, take_from_bands
from mining.matching.match import match_classes, match_target
from mining.matching.picker import Picker, UsageCounts
from mining.matching.target import Target
from mining.sampling.candidates import Band, SamplingSpec, sample_negatives, sample_positives
from mining.sampling.cells import Cells, capacity_like, even_capacity, tfidf_bins, unbinned_capacity
from mining.sampling.features import Candidates, Features, join
from mining.sampling.label_noise import is_false_negative
from simile.artifacts import FalseNegatives

_CANDIDATES_PER_PAIR = 10
"""Candidates sampled per pair wanted: matching needs a choice."""


@dataclass(frozen=True, slots=True)
class Split:
    """The documents of one set, and the rules by which pairs are sampled from them."""

    features: Features
    links_L2: NDArray[np.int64] | None
    """The known positive pairs, where they replace groups."""
    best_positive_N: NDArray[np.float64] | None
    """The baseline's highest score of each document with another one of the same meaning; None without a baseline."""
    drops_false_negatives: bool
    same_category: float
    """Share of the negatives that should be of one category."""
    max_uses: int
    """Maximum number of pairs of one class that a text may be in."""


@dataclass(frozen=True, slots=True)
class Request:
    """The number of pairs to select, and the pairs that they should be similar to."""

    num_pairs: int
    band: Band
    target: Target | None = None
    """Pairs to follow; they have a band of their own. Without them, the two classes are matched to each other."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected pairs, and the candidates that they were selected from."""

    chosen: Candidates
    """Equally many positives and negatives, in random order."""
    pool: Candidates
    false_negatives: FalseNegatives | None
    """None where no baseline looked for them."""


class Selector:
    """Selects pairs of one split; the usage of texts is counted over all its selections."""

    def __init__(
        self, split: Split, rng: np.random.Generator, on_progress: Callable[[int], None] | None = None
    ) -> None:
        self._split = split
        self._rng = rng
        self._on_progress = on_progress
        self._usage = UsageCounts(split.features.group_N)

    def matched(self, request: Request) -> Selection:
        """Select pairs distributed like the target's, or, without a target, two classes matched to each other."""
        num_each, target = request.num_pairs // 2, request.target
        if target:
            pool, false_negatives = self._screened(self._candidates_like(target, num_each))
        else:
            pool, false_negatives = self._screened(self._similar_classes(request.band, num_each))
        picker = Picker(pool, self._split.max_uses, self._usage)
        if target:
            match_target(picker, target.as_candidates, target.weight_T, num_each, self._rng)
        else:
            match_classes(picker, self._rng.random(len(pool)) < self._split.same_category, num_each)
        return self._selection(picker, false_negatives)

    def banded(self, bands: ClassBands, num_pairs: int, *, exclude: Sequence[Selection] = ()) -> Selection:
        """Select pairs with each class from a TF-IDF band of its own, without the pairs of other selections."""
        num_each = num_pairs // 2
        positives = self._positives(_unbinned(bands.positive, num_each))
        negatives = self._negatives(_unbinned(bands.negative, num_each))
        pool, false_negatives = self._screened(join([positives, negatives]))
        for selection in exclude:
            pool = pool.take(~np.isin(self._pair_numbers(pool), self._pair_numbers(selection.chosen)))
        picker = Picker(pool, self._split.max_uses, self._usage)
        take_from_bands(picker, bands, num_each, self._split.same_category)
        return self._selection(picker, false_negatives)

    def curriculum(self, request: Request) -> tuple[Selection, Selection, Selection]:
        """Select three phases of a third of the pairs each: easy, medium, and hard as `matched`."""
        num_phase = 2 * (request.num_pairs // 6)
        # Hard pairs are the rarest, so they are chosen first.
        hard = self.matched(replace(request, num_pairs=request.num_pairs - 2 * num_phase))
        positives = self._positives(_unbinned((0.0, 1.0), num_phase))
        if not len(positives):
            return hard, hard, hard
        easy_bands, medium_bands = phase_bands(positives)
        medium = self.banded(medium_bands, num_phase, exclude=[hard])
        easy = self.banded(easy_bands, num_phase, exclude=[hard, medium])
        return easy, medium, hard

    def unmatched(self, band: Band, num_each: int) -> Candidates:
        """Return candidates of both classes with the documents' own distribution."""
        spec = _unbinned(band, num_each)
        return join([self._positives(spec), self._negatives(spec)])

    def _positives(self, spec: SamplingSpec) -> Candidates:
        return sample_positives(self._split.features, spec, self._rng, self._split.links_L2)

    def _negatives(self, spec: SamplingSpec) -> Candidates:
        return sample_negatives(self._split.features, spec, self._rng, self._on_progress)

    def _candidates_like(self, target: Target, num_each: int) -> Candidates:
        """Return candidates of both classes, spread over the cells as the target's pairs are."""
        cells = Cells(by_baseline=True)
        cell_T, is_positive_T = cells.of(target.as_candidates), target.as_candidates.is_positive_C
        positive_spec, negative_spec = (
            SamplingSpec(
                target.band,
                cells,
                capacity_like(cell_T, target.weight_T * (is_positive_T == label), _CANDIDATES_PER_PAIR * num_each),
                num_each,
            )
            for label in (True, False)
        )
        return join([self._positives(positive_spec), self._negatives(negative_spec)])

    def _similar_classes(self, band: Band, num_each: int) -> Candidates:
        """Return positives spread as evenly as possible over the band, and negatives in the same TF-IDF cells."""
        cells, num_candidates = Cells(), _CANDIDATES_PER_PAIR * num_each
        positives = self._positives(SamplingSpec(band, cells, even_capacity(band, num_candidates), num_each))
        as_negatives = replace(positives, is_positive_C=np.zeros(len(positives), bool))
        # There is capacity for all in one category and for all in two, because either may run out.
        same, different = (
            capacity_like(
                cells.of(replace(as_negatives, is_same_category_C=np.full(len(positives), is_same))),
                np.ones(len(positives)),
                num_candidates,
            )
            for is_same in (True, False)
        )
        return join([positives, self._negatives(SamplingSpec(band, cells, same + different, num_each))])

    def _pair_numbers(self, candidates: Candidates) -> NDArray[np.int64]:
        """Return a number for each pair of documents."""
        return candidates.a_C * len(self._split.features) + candidates.b_C

    def _screened(self, pool: Candidates) -> tuple[Candidates, FalseNegatives | None]:
        """Return the candidates, without false negatives if they are to be dropped, and the number of these."""
        if self._split.best_positive_N is None:
            return pool, None
        is_suspect_C = is_false_negative(pool, self._split.best_positive_N)
        counts = FalseNegatives(found=int(is_suspect_C.sum()), of=int((~pool.is_positive_C).sum()))
        return (pool.take(~is_suspect_C) if self._split.drops_false_negatives else pool), counts

    def _selection(self, picker: Picker, false_negatives: FalseNegatives | None) -> Selection:
        chosen = picker.candidates.take(picker.chosen)
        chosen = chosen.take(self._rng.permutation(len(chosen)))
        is_balanced = 2 * chosen.is_positive_C.sum() == len(chosen)
        return Selection(chosen if is_balanced else _balanced(chosen), picker.candidates, false_negatives)


def _unbinned(band: Band, num_each: int) -> SamplingSpec:
    """Return a spec whose sample has the documents' own distribution."""
    return SamplingSpec(band, Cells(by_words=False), unbinned_capacity(_CANDIDATES_PER_PAIR * num_each), num_each)


def _balanced(chosen: Candidates) -> Candidates:
    """Return as many pairs of each class in every TF-IDF bin, so that word overlap does not tell the classes apart."""
    bin_C = tfidf_bins(chosen.tfidf_C)
    counts = [np.bincount(bin_C[chosen.is_positive_C == label], minlength=bin_C.max() + 1) for label in (True, False)]
    class_bin_C = 2 * bin_C + chosen.is_positive_C
    place_C = np.empty(len(chosen), dtype=np.int64)
    for class_bin in np.unique(class_bin_C):
        members = np.flatnonzero(class_bin_C == class_bin)
        place_C[members] = np.arange(len(members))
    return chosen.take(place_C < np.minimum(*counts)[bin_C])
