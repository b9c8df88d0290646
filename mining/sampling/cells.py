"""The cells of the distribution of pairs, and a bounded random sample of each.

Shape suffix: C = candidates.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mining.sampling.features import FEATURES, Candidates, Indices, join

BIN_WIDTH = 0.025
"""Of TF-IDF cosines."""
_RATIO_EDGES = np.array([0.4, 0.7])
_BASELINE_EDGES = np.array([0.1, 0.3, 0.5, 0.7])
_RADIX = (round(1 / BIN_WIDTH) + 1, len(_RATIO_EDGES) + 1, len(_BASELINE_EDGES) + 1, 2, 2)
"""Bins of TF-IDF, length ratio and baseline; same category or not; positive or not."""
_NUM_CELLS = int(np.prod(_RADIX))
_MIN_ROOM = 64
"""Candidates that any wanted cell has room for."""
_UNSETTLED = 50_000
"""Candidates that are taken in before they are sorted again."""


class Cells:
    """The cells of the distribution: same category x class, and, if wanted, x TF-IDF x length ratio, x baseline."""

    def __init__(self, *, by_words: bool = True, by_baseline: bool = False) -> None:
        self._by_words = by_words
        self._by_baseline = by_baseline

    def of(self, candidates: Candidates) -> Indices:
        """Return the number of each candidate's cell, shape ``(C,)``."""
        digits = (
            np.minimum(tfidf_bins(candidates.tfidf_C), _RADIX[0] - 1) * self._by_words,
            np.searchsorted(_RATIO_EDGES, candidates.length_ratio_C, side="right") * self._by_words,
            # Where it is not known all are in one: NaN sorts last.
            np.searchsorted(_BASELINE_EDGES, candidates.baseline_C, side="right") * self._by_baseline,
            candidates.is_same_category_C.astype(np.int64),
            candidates.is_positive_C.astype(np.int64),
        )
        cell_C = np.zeros(len(candidates), dtype=np.int64)
        for digit_C, radix in zip(reversed(digits), reversed(_RADIX), strict=True):
            cell_C = cell_C * radix + digit_C
        return cell_C

    def common_room(self, num_all: int) -> "Room":
        """Return room for so many of each class and kind, wherever they lie: they stay as the documents have them."""
        most_of_cell = np.where(np.arange(_NUM_CELLS) % int(np.prod(_RADIX[:3])) == 0, num_all, 0)
        return Room(most_of_cell, most_of_cell)

    def even_room(self, band: tuple[float, float], num_all: int) -> "Room":
        """Return room for about so many of each class and kind, the same in every TF-IDF bin of the band."""
        tfidf_bin = np.arange(_NUM_CELLS) % _RADIX[0]
        first, last = tfidf_bins(np.array(band)).tolist()
        is_wanted = (tfidf_bin >= first) & (tfidf_bin <= last)
        most_of_cell = np.where(is_wanted, max(_MIN_ROOM, num_all // (last - first + 1)), 0)
        return Room(most_of_cell, most_of_cell)

    def room_like(self, like: Candidates, weight_C: NDArray[np.float64], num_all: int) -> "Room":
        """Return the room for ``num_all`` candidates, spread over the cells as these weighted pairs are."""
        if not weight_C.sum():
            return Room(np.zeros(_NUM_CELLS, dtype=np.int64), np.zeros(_NUM_CELLS, dtype=np.int64))
        share_of_cell = np.bincount(self.of(like), weights=weight_C / weight_C.sum(), minlength=_NUM_CELLS)
        fair_of_cell = np.ceil(share_of_cell * num_all).astype(np.int64)
        return Room(np.where(fair_of_cell > 0, np.maximum(_MIN_ROOM, fair_of_cell), 0), fair_of_cell // 2)


@dataclass(frozen=True, slots=True)
class Room:
    """How many candidates each cell may hold."""

    most_of_cell: Indices
    enough_of_cell: Indices
    """With so many in every cell, looking for more may end."""

    def __add__(self, other: "Room") -> "Room":
        return Room(self.most_of_cell + other.most_of_cell, self.enough_of_cell + other.enough_of_cell)


def tfidf_bins(tfidf_C: NDArray[np.float64]) -> Indices:
    """Return the TF-IDF bin of each cosine."""
    # A cosine on an edge belongs to the bin above it, however it was rounded.
    return np.floor(tfidf_C / BIN_WIDTH + 1e-9).astype(np.int64)


class Reservoir:
    """A bounded random sample of each cell: the candidates with the lowest random keys stay."""

    def __init__(self, cells: Cells, room: Room) -> None:
        self._cells = cells
        self._room = room
        self._bar_of_cell = np.where(room.most_of_cell > 0, 1.0, 0.0)
        """The highest key in each full cell: what is above it need not be looked at."""
        nobody, none = np.empty(0, dtype=np.int64), np.empty(0, dtype=bool)
        self._kept = [Candidates(nobody, nobody, none, none, np.empty((0, len(FEATURES))))]
        self._keys = [np.empty(0)]
        self._count_of_cell = np.zeros_like(room.most_of_cell)
        self._num_settled = 0

    def add(self, new: Candidates, rng: np.random.Generator) -> None:
        """Take in candidates, none of which was met before."""
        key_C, cell_C = rng.random(len(new)), self._cells.of(new)
        has_chance_C = key_C < self._bar_of_cell[cell_C]
        self._kept.append(new.take(has_chance_C))
        self._keys.append(key_C[has_chance_C])
        self._count_of_cell += np.bincount(cell_C[has_chance_C], minlength=len(self._count_of_cell))
        if self._count_of_cell.sum() > 2 * self._num_settled + _UNSETTLED:
            self._settle()

    @property
    def has_enough(self) -> bool:
        """Whether every cell has enough candidates."""
        return bool((self._count_of_cell >= self._room.enough_of_cell).all())

    def sample(self, rng: np.random.Generator) -> Candidates:
        """Return what has been kept, in random order."""
        self._settle()
        (kept,) = self._kept
        pair_order = np.lexsort((kept.b_C, kept.a_C))
        return kept.take(pair_order[rng.permutation(len(pair_order))])

    def _settle(self) -> None:
        """Let go of what is past its cell's room."""
        merged, key_C = join(self._kept), np.concatenate(self._keys)
        cell_C = self._cells.of(merged)
        order = np.lexsort((key_C, cell_C))
        start_C = np.searchsorted(cell_C[order], cell_C[order], side="left")
        stay = order[np.arange(len(order)) - start_C < self._room.most_of_cell[cell_C[order]]]
        self._kept, self._keys = [merged.take(stay)], [key_C[stay]]
        self._num_settled = len(stay)
        self._count_of_cell = np.bincount(cell_C[stay], minlength=len(self._bar_of_cell))
        is_full = self._count_of_cell >= self._room.most_of_cell
        highest_of_cell = np.zeros_like(self._bar_of_cell)
        np.maximum.at(highest_of_cell, cell_C[stay], key_C[stay])
        self._bar_of_cell[is_full] = highest_of_cell[is_full]
