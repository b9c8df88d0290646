"""The documents of one set -> its pairs.

Shape suffixes: N = documents, C = candidates, L = links.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mining.matching.bands import Band, phase_bands, take_from_bands
from mining.matching.match import match_classes, match_target
from mining.matching.picker import Picker, Uses
from mining.matching.target import Target
from mining.sampling.candidates import Wish, sample_negatives, sample_positives
from mining.sampling.cells import Cells, tfidf_bins
from mining.sampling.features import Candidates, Features, join
from mining.sampling.label_noise import suspects

_SURPLUS = 10
"""Candidates for each pair wanted: matching needs a choice."""
OnProgress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """The documents of one set, and the rules by which pairs are drawn from them."""

    features: Features
    links_L2: NDArray[np.int64] | None
    """Pairs known to mean the same, where groups do not say it."""
    best_positive_N: NDArray[np.float64] | None
    """By the baseline, where there is one."""
    drops_suspects: bool
    same_category: float
    max_uses: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """Negative candidates that may well be positives."""

    num_found: int
    num_looked_at: int

    def as_dict(self) -> dict[str, int]:
        """Return them for a report."""
        return {"found": self.num_found, "of": self.num_looked_at}


@dataclass(frozen=True, slots=True)
class Found:
    """Chosen pairs, and what they were chosen from."""

    chosen: Candidates
    """As many positives as negatives, in random order."""
    pool: Candidates
    suspects: Suspects | None
    """None where nobody looked for them."""


def matched(
    ground: Ground,
    target: Target | None,
    band: Band,
    num_pairs: int,
    rng: np.random.Generator,
    *,
    on_progress: OnProgress,
    uses: Uses | None = None,
) -> Found:
    """Return pairs that are distributed as the target's, or, without one, whose classes are alike in words."""
    num_each = num_pairs // 2
    if target:
        pool, suspects_found = _pool_like_target(ground, target, num_each, rng, on_progress)
    else:
        pool, suspects_found = _pool_alike(ground, band, num_each, rng, on_progress)
    picker = Picker(pool, ground.max_uses, uses or Uses(ground.features.group_N))
    if target:
        match_target(pool, target.like, target.weight_T, num_each, picker, rng)
    else:
        wanted_same_C = rng.random(len(pool)) < ground.same_category
        match_classes(pool, wanted_same_C, num_each, picker)
    return _found(pool, picker, suspects_found, rng)


def banded(
    ground: Ground,
    bands: tuple[Band, Band],
    num_pairs: int,
    rng: np.random.Generator,
    *,
    on_progress: OnProgress,
    uses: Uses | None = None,
    besides: Sequence[Found] = (),
) -> Found:
    """Return pairs with each class from a TF-IDF band of its own (of positives, of negatives), and not ``besides``."""
    num_each = num_pairs // 2
    positive_wish, negative_wish = (_natural_wish(band, num_each) for band in bands)
    positives = sample_positives(ground.features, positive_wish, rng, ground.links_L2)
    negatives = sample_negatives(ground.features, negative_wish, rng, on_progress)
    pool, suspects_found = _without_suspects(ground, join([positives, negatives]))
    for found in besides:
        pool = pool.take(~np.isin(_pair_numbers(ground, pool), _pair_numbers(ground, found.chosen)))
    picker = Picker(pool, ground.max_uses, uses or Uses(ground.features.group_N))
    take_from_bands(pool, num_each, ground.same_category, *bands, picker)
    return _found(pool, picker, suspects_found, rng)


def curriculum(
    ground: Ground,
    target: Target | None,
    band: Band,
    num_pairs: int,
    rng: np.random.Generator,
    *,
    on_progress: OnProgress,
) -> tuple[Found, Found, Found]:
    """Return three phases of a third each: easy, medium, and hard as `matched`."""
    num_phase = 2 * (num_pairs // 6)
    uses = Uses(ground.features.group_N)
    # The hard ones are the rarest: they are chosen first.
    hard = matched(ground, target, band, num_pairs - 2 * num_phase, rng, on_progress=on_progress, uses=uses)
    natural_wish = _natural_wish((0.0, 1.0), num_phase)
    positives = sample_positives(ground.features, natural_wish, rng, ground.links_L2)
    if not len(positives):
        return hard, hard, hard
    easy_bands, medium_bands = phase_bands(positives)
    medium = banded(ground, medium_bands, num_phase, rng, on_progress=on_progress, uses=uses, besides=[hard])
    easy = banded(ground, easy_bands, num_phase, rng, on_progress=on_progress, uses=uses, besides=[hard, medium])
    return easy, medium, hard


def natural(ground: Ground, band: Band, num_each: int, rng: np.random.Generator) -> Candidates:
    """Return candidates of both classes, as the documents have them."""
    wish = _natural_wish(band, num_each)
    return join(
        [sample_positives(ground.features, wish, rng, ground.links_L2), sample_negatives(ground.features, wish, rng)]
    )


def _natural_wish(band: Band, num_each: int) -> Wish:
    cells = Cells(by_words=False)
    return Wish(band, cells, cells.common_room(_SURPLUS * num_each), num_each)


def _even_wish(cells: Cells, band: Band, num_each: int) -> Wish:
    return Wish(band, cells, cells.even_room(band, _SURPLUS * num_each), num_each)


def _pool_like_target(
    ground: Ground, target: Target, num_each: int, rng: np.random.Generator, on_progress: OnProgress
) -> tuple[Candidates, Suspects | None]:
    # In the target's features: without a baseline of its own it has none to be followed in.
    cells = Cells(by_baseline=True)
    wish_of = {
        label: Wish(
            target.band,
            cells,
            cells.room_like(target.like, target.weight_T * (target.like.is_positive_C == label), _SURPLUS * num_each),
            num_each,
        )
        for label in (True, False)
    }
    positives = sample_positives(ground.features, wish_of[True], rng, ground.links_L2)
    negatives = sample_negatives(ground.features, wish_of[False], rng, on_progress)
    return _without_suspects(ground, join([positives, negatives]))


def _pool_alike(
    ground: Ground, band: Band, num_each: int, rng: np.random.Generator, on_progress: OnProgress
) -> tuple[Candidates, Suspects | None]:
    """Return positives from the whole band, evenly as far as there are some, and negatives in the same places."""
    cells = Cells()
    positives = sample_positives(ground.features, _even_wish(cells, band, num_each), rng, ground.links_L2)
    kinds = [
        replace(
            positives, is_positive_C=np.zeros(len(positives), bool), is_same_category_C=np.full(len(positives), same)
        )
        for same in (True, False)
    ]
    # Room for either kind: where one runs out, the other stands in.
    same, other = (cells.room_like(like, np.ones(len(like)), _SURPLUS * num_each) for like in kinds)
    negatives = sample_negatives(ground.features, Wish(band, cells, same + other, num_each), rng, on_progress)
    return _without_suspects(ground, join([positives, negatives]))


def _pair_numbers(ground: Ground, candidates: Candidates) -> NDArray[np.int64]:
    """Return a number for each pair of documents."""
    return candidates.a_C * len(ground.features) + candidates.b_C


def _without_suspects(ground: Ground, pool: Candidates) -> tuple[Candidates, Suspects | None]:
    """Return the candidates, suspects left out if they are to be, and how many there are."""
    if ground.best_positive_N is None:
        return pool, None
    is_suspect_C = suspects(pool, ground.best_positive_N)
    found = Suspects(int(is_suspect_C.sum()), int((~pool.is_positive_C).sum()))
    return (pool.take(~is_suspect_C) if ground.drops_suspects else pool), found


def _found(pool: Candidates, picker: Picker, suspects_found: Suspects | None, rng: np.random.Generator) -> Found:
    chosen = pool.take(picker.chosen)
    chosen = chosen.take(rng.permutation(len(chosen)))
    return Found(_balanced(chosen) if 2 * chosen.is_positive_C.sum() != len(chosen) else chosen, pool, suspects_found)


def _balanced(chosen: Candidates) -> Candidates:
    """Return as many of each class in every TF-IDF bin: where one class falls short, words would tell it otherwise."""
    bin_C = tfidf_bins(chosen.tfidf_C)
    num_each = np.minimum(
        *(np.bincount(bin_C[chosen.is_positive_C == of], minlength=bin_C.max() + 1) for of in (True, False))
    )
    place_C = np.empty(len(chosen), dtype=np.int64)
    for kind in np.unique(2 * bin_C + chosen.is_positive_C):
        of_kind = np.flatnonzero(2 * bin_C + chosen.is_positive_C == kind)
        place_C[of_kind] = np.arange(len(of_kind))
    return chosen.take(place_C < num_each[bin_C])
