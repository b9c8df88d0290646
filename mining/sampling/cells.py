"""The cells into which the features of pairs are binned, and a bounded random sample of each cell.

Shape suffix: C = candidates.
"""

from dataclasses import dataclass

import numpy as np

from mining.sampling.features import Candidates, Floats, Indices, join

BIN_WIDTH = 0.025
"""Width of the TF-IDF bins."""
_RATIO_EDGES = np.array([0.4, 0.7])
_BASELINE_EDGES = np.array([0.1, 0.3, 0.5, 0.7])
_RADIX = (round(1 / BIN_WIDTH) + 1, len(_RATIO_EDGES) + 1, len(_BASELINE_EDGES) + 1, 2, 2)
"""Number of bins of TF-IDF, length ratio and baseline score, then same category or not, positive or not."""
_NUM_CELLS = int(np.prod(_RADIX))
_MIN_CAPACITY = 64
"""Capacity of any cell that is wanted at all."""
_MAX_UNTRIMMED = 50_000
"""Candidates collected beyond twice the last trimmed size before the reservoir is trimmed again."""


class Cells:
    """The cells: class x same category or not, and, if requested, x TF-IDF x length ratio and x baseline score."""

    def __init__(self, *, by_words: bool = True, by_baseline: bool = False) -> None:
        self._by_words = by_words
        self._by_baseline = by_baseline

    def of(self, candidates: Candidates) -> Indices:
        """Return the number of each candidate's cell, shape ``(C,)``."""
        digits = (
            np.minimum(tfidf_bins(candidates.tfidf_C), _RADIX[0] - 1) * self._by_words,
            np.searchsorted(_RATIO_EDGES, candidates.length_ratio_C, side="right") * self._by_words,
            # Candidates without a baseline score share one bin, because NaN sorts last.
            np.searchsorted(_BASELINE_EDGES, candidates.baseline_C, side="right") * self._by_baseline,
            candidates.is_same_category_C.astype(np.int64),
            candidates.is_positive_C.astype(np.int64),
        )
        cell_C = np.zeros(len(candidates), dtype=np.int64)
        for digit_C, radix in zip(reversed(digits), reversed(_RADIX), strict=True):
            cell_C = cell_C * radix + digit_C
        return cell_C


@dataclass(frozen=True, slots=True)
class CellCapacity:
    """The number of candidates that each cell may hold."""

    max_of_cell: Indices
    enough_of_cell: Indices
    """Once every cell holds this many, the search may stop."""


def unbinned_capacity(num_all: int) -> CellCapacity:
    """Return capacity for ``num_all`` candidates per class and category relation, for cells without feature bins."""
    max_of_cell = np.where(np.arange(_NUM_CELLS) % int(np.prod(_RADIX[:3])) == 0, num_all, 0)
    return CellCapacity(max_of_cell, max_of_cell)


def even_capacity(band: tuple[float, float], num_all: int) -> CellCapacity:
    """Return capacity for about ``num_all`` candidates, spread evenly over the TF-IDF bins of the band."""
    tfidf_bin = np.arange(_NUM_CELLS) % _RADIX[0]
    first, last = tfidf_bins(np.array(band)).tolist()
    is_wanted = (tfidf_bin >= first) & (tfidf_bin <= last)
    max_of_cell = np.where(is_wanted, max(_MIN_CAPACITY, num_all // (last - first + 1)), 0)
    return CellCapacity(max_of_cell, max_of_cell)


def capacity_like(cell_C: Indices, weight_C: Floats, num_all: int) -> CellCapacity:
    """Return capacity for ``num_all`` candidates, spread over the cells as weighted pairs in these cells are."""
    share_of_cell = np.bincount(cell_C, weights=weight_C / (weight_C.sum() or 1), minlength=_NUM_CELLS)
    fair_of_cell = np.ceil(share_of_cell * num_all).astype(np.int64)
    return CellCapacity(np.where(fair_of_cell > 0, np.maximum(_MIN_CAPACITY, fair_of_cell), 0), fair_of_cell // 2)


def tfidf_bins(tfidf_C: Floats) -> Indices:
    """Return the TF-IDF bin of each cosine."""
    # A cosine on an edge belongs to the bin above it, regardless of how it was rounded.
    return np.floor(tfidf_C / BIN_WIDTH + 1e-9).astype(np.int64)


class Reservoir:
    """A bounded random sample of each cell: each candidate draws a random key, and the lowest keys stay."""

    def __init__(self, cells: Cells, capacity: CellCapacity) -> None:
        self._cells = cells
        self._capacity = capacity
        self._key_limit_of_cell = (capacity.max_of_cell > 0).astype(np.float64)
        """The highest key in each full cell; candidates with a higher key are discarded at once."""
        self._kept = [Candidates(*np.empty((2, 0), np.int64), *np.empty((3, 0)), *np.empty((2, 0), bool))]
        self._keys = [np.empty(0)]
        self._count_of_cell = np.zeros_like(capacity.max_of_cell)
        self._num_trimmed = 0
        """Number of candidates that the last trim left."""

    def add(self, new: Candidates, rng: np.random.Generator) -> None:
        """Offer candidates, none of which was offered before."""
        key_C, cell_C = rng.random(len(new)), self._cells.of(new)
        has_chance_C = key_C < self._key_limit_of_cell[cell_C]
        self._kept.append(new.take(has_chance_C))
        self._keys.append(key_C[has_chance_C])
        self._count_of_cell += np.bincount(cell_C[has_chance_C], minlength=len(self._count_of_cell))
        if self._count_of_cell.sum() > 2 * self._num_trimmed + _MAX_UNTRIMMED:
            self._trim()

    @property
    def has_enough(self) -> bool:
        """Whether every cell has enough candidates."""
        return bool((self._count_of_cell >= self._capacity.enough_of_cell).all())

    def sample(self, rng: np.random.Generator) -> Candidates:
        """Return the sample in random order."""
        self._trim()
        (kept,) = self._kept
        pair_order = np.lexsort((kept.b_C, kept.a_C))
        return kept.take(pair_order[rng.permutation(len(pair_order))])

    def _trim(self) -> None:
        """Discard the candidates that exceed their cell's capacity."""
        merged, key_C = join(self._kept), np.concatenate(self._keys)
        cell_C = self._cells.of(merged)
        order = np.lexsort((key_C, cell_C))
        start_C = np.searchsorted(cell_C[order], cell_C[order], side="left")
        stay = order[np.arange(len(order)) - start_C < self._capacity.max_of_cell[cell_C[order]]]
        self._kept, self._keys = [merged.take(stay)], [key_C[stay]]
        self._num_trimmed = len(stay)
        self._count_of_cell = np.bincount(cell_C[stay], minlength=_NUM_CELLS)
        is_full = self._count_of_cell >= self._capacity.max_of_cell
        highest_of_cell = np.zeros_like(self._key_limit_of_cell)
        np.maximum.at(highest_of_cell, cell_C[stay], key_C[stay])
        self._key_limit_of_cell[is_full] = highest_of_cell[is_full]
