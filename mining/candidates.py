"""Candidate pairs: one pass over blocks of rows, a bounded random sample kept of each cell.

A cell is a TF-IDF bin x label x same category. The pass ends early once every cell is full; memory stays within what
the cells hold.

Shape suffixes: N = documents, W = words, C = candidates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from simile.artifacts import Document

BIN_WIDTH = 0.025
_BLOCK_ROWS = 256
_KINDS = 4
"""Negative of another category, negative of the same, positive of another, positive of the same."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of document indices, each pair once, in random order."""

    a_C: NDArray[np.int64]
    b_C: NDArray[np.int64]
    tfidf_C: NDArray[np.float64]
    is_positive_C: NDArray[np.bool_]
    is_same_category_C: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> "Candidates":
        """Return some of the candidates."""
        return Candidates(
            self.a_C[index],
            self.b_C[index],
            self.tfidf_C[index],
            self.is_positive_C[index],
            self.is_same_category_C[index],
        )

    @property
    def bin_C(self) -> NDArray[np.int64]:
        """TF-IDF bin of each candidate."""
        return np.floor(self.tfidf_C / BIN_WIDTH).astype(np.int64)


def sample_candidates(
    documents: Sequence[Document],
    tfidf_NW: csr_matrix,
    *,
    band: tuple[float, float],
    per_cell: int | Mapping[int, int],
    seed: int,
    on_progress: Callable[[int], None] | None = None,
) -> Candidates:
    """Return a random sample of the pairs in the band, up to ``per_cell`` of each cell.

    Args:
        documents: with groups.
        tfidf_NW: rows of length 1.
        band: TF-IDF cosines to keep, both ends included.
        per_cell: how many to keep of each cell, or by TF-IDF bin (0 where a bin is not named).
        seed: of all that is drawn.
        on_progress: called with the number of rows done since the last call.
    """
    rng = np.random.default_rng(seed)
    group_N = _codes([document.group for document in documents])
    category_N = _codes([document.category for document in documents])
    columns_WN = tfidf_NW.T.tocsr()
    keep = _Reservoir(per_cell, band)
    order = rng.permutation(len(documents))
    turn_N = np.argsort(order)
    for start in range(0, len(order), _BLOCK_ROWS):
        rows = np.sort(order[start : start + _BLOCK_ROWS])
        block = (tfidf_NW[rows] @ columns_WN).tocoo()
        a_C, b_C = rows[block.row], block.col.astype(np.int64)
        # A pair is met where the first of its two rows has its turn, and nowhere else.
        is_new_C = (block.data >= band[0]) & (block.data <= band[1]) & (turn_N[a_C] < turn_N[b_C])
        a_C, b_C, tfidf_C = a_C[is_new_C], b_C[is_new_C], block.data[is_new_C].astype(np.float64)
        is_positive_C = group_N[a_C] == group_N[b_C]
        is_same_C = (category_N[a_C] == category_N[b_C]) & (category_N[a_C] >= 0)
        keep.add(Candidates(np.minimum(a_C, b_C), np.maximum(a_C, b_C), tfidf_C, is_positive_C, is_same_C), rng)
        if on_progress:
            on_progress(len(rows))
        if keep.is_full:
            break
    return keep.sample(rng)


def _codes(names: Sequence[str | None]) -> NDArray[np.int64]:
    """Return a number for each name, the same for the same; -1 for None."""
    codes: dict[str, int] = {}
    return np.array([-1 if name is None else codes.setdefault(name, len(codes)) for name in names], dtype=np.int64)


class _Reservoir:
    """A bounded random sample of each cell: the candidates with the lowest random keys stay."""

    def __init__(self, per_cell: int | Mapping[int, int], band: tuple[float, float]) -> None:
        num_bins = int(band[1] / BIN_WIDTH) + 1
        of_bin = [per_cell if isinstance(per_cell, int) else per_cell.get(bin_, 0) for bin_ in range(num_bins)]
        self._room_of_cell = np.repeat(of_bin, _KINDS)
        self._first_cell = int(band[0] / BIN_WIDTH) * _KINDS
        self._kept: Candidates | None = None
        self._key_C = np.empty(0)
        self._bar_of_cell = np.where(self._room_of_cell > 0, 1.0, 0.0)
        """The highest key in each full cell: what is above it need not be looked at."""
        self.is_full = False

    def add(self, new: Candidates, rng: np.random.Generator) -> None:
        """Take in candidates, none of which was met before."""
        key_C = rng.random(len(new.a_C))
        has_chance_C = key_C < self._bar_of_cell[_cells(new)]
        new, key_C = new.take(has_chance_C), key_C[has_chance_C]
        merged = new if self._kept is None else _join(self._kept, new)
        key_C = np.concatenate([self._key_C, key_C])
        cell_C = _cells(merged)
        order = np.lexsort((key_C, cell_C))
        start_C = np.searchsorted(cell_C[order], cell_C[order], side="left")
        stay = order[np.arange(len(order)) - start_C < self._room_of_cell[cell_C[order]]]
        self._kept, self._key_C = merged.take(stay), key_C[stay]
        count_of_cell = np.bincount(cell_C[stay], minlength=len(self._bar_of_cell))
        is_full = count_of_cell >= self._room_of_cell
        highest_of_cell = np.zeros_like(self._bar_of_cell)
        np.maximum.at(highest_of_cell, cell_C[stay], self._key_C)
        self._bar_of_cell[is_full] = highest_of_cell[is_full]
        self.is_full = bool(is_full[self._first_cell :].all())

    def sample(self, rng: np.random.Generator) -> Candidates:
        assert self._kept is not None, "add comes before sample"
        pair_order = np.lexsort((self._kept.b_C, self._kept.a_C))
        return self._kept.take(pair_order[rng.permutation(len(pair_order))])


def _cells(candidates: Candidates) -> NDArray[np.int64]:
    return candidates.bin_C * _KINDS + 2 * candidates.is_positive_C + candidates.is_same_category_C


def _join(a: Candidates, b: Candidates) -> Candidates:
    return Candidates(
        np.concatenate([a.a_C, b.a_C]),
        np.concatenate([a.b_C, b.b_C]),
        np.concatenate([a.tfidf_C, b.tfidf_C]),
        np.concatenate([a.is_positive_C, b.is_positive_C]),
        np.concatenate([a.is_same_category_C, b.is_same_category_C]),
    )
