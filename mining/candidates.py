"""Candidate pairs: a bounded random sample of each cell of a distribution, from a bounded number of looks.

Negative pairs are met in tiles, random rows x random columns of the documents' TF-IDF products; positive pairs are
listed group by group. Both stop where the pairs wanted have been looked for long enough: the cost follows those, not
the square of the documents.

Shape suffixes: N = documents, W = words, D = dimensions, C = candidates, F = features, L = links.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from simile.artifacts import Document

FEATURES = ("tfidf", "length_ratio", "baseline")
"""Of a pair of texts: TF-IDF cosine, shorter length by longer one (in characters), the baseline's cosine."""
BIN_WIDTH = 0.025
"""Of TF-IDF cosines."""
LOOKS_A_PAIR = 20_000
"""Pairs of documents that may be looked at for each negative pair wanted..."""
MIN_LOOKS = 100_000_000
"""... or so many, a few seconds' work, where that is more: all pairs of ten thousand documents."""
_LISTED_A_PAIR = 100
"""Pairs of one group's documents that may be listed for each positive pair wanted..."""
_MIN_LISTED = 2_000_000
"""... or so many, where that is more."""
_GROUPS_A_PART = 100
_TILE = 512, 8192
_CHUNK = 50_000
_RATIO_EDGES = np.array([0.4, 0.7])
_BASELINE_EDGES = np.array([0.1, 0.3, 0.5, 0.7])
_RADIX = (round(1 / BIN_WIDTH) + 1, len(_RATIO_EDGES) + 1, len(_BASELINE_EDGES) + 1, 2, 2)
"""Bins of TF-IDF, length ratio and baseline; same category or not; positive or not."""
_NUM_CELLS = int(np.prod(_RADIX))
_MIN_ROOM = 64
"""Candidates that any wanted cell has room for."""

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of document indices (a < b), each pair once."""

    a_C: Indices
    b_C: Indices
    is_positive_C: NDArray[np.bool_]
    is_same_category_C: NDArray[np.bool_]
    feature_CF: NDArray[np.float64]
    """`FEATURES` of each pair; NaN where not known."""

    def __len__(self) -> int:
        return len(self.a_C)

    @property
    def tfidf_C(self) -> NDArray[np.float64]:
        """TF-IDF cosine of each pair."""
        return self.feature_CF[:, 0]

    def take(self, index: Indices | NDArray[np.bool_]) -> "Candidates":
        """Return some of the candidates."""
        return Candidates(*(getattr(self, field.name)[index] for field in fields(self)))


def join(parts: Sequence[Candidates]) -> Candidates:
    """Return the candidates of all parts."""
    return Candidates(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Candidates)))


class Features:
    """What is known of some documents, and of any pair of them."""

    def __init__(
        self, documents: Sequence[Document], tfidf_NW: csr_matrix, embedding_ND: NDArray[np.float32] | None = None
    ) -> None:
        self.tfidf_NW = tfidf_NW
        self.group_N = _codes([document.group for document in documents])
        self._category_N = _codes([document.category for document in documents])
        self._length_N = np.array([len(document.text) for document in documents], dtype=np.float64)
        self._embedding_ND = embedding_ND

    def __len__(self) -> int:
        return len(self.group_N)

    def candidates(self, a_C: Indices, b_C: Indices, tfidf_C: NDArray[np.float64], *, is_positive: bool) -> Candidates:
        """Return these pairs of documents with their features."""
        a_C, b_C = np.minimum(a_C, b_C), np.maximum(a_C, b_C)
        length_C2 = np.stack([self._length_N[a_C], self._length_N[b_C]], axis=1)
        ratio_C = length_C2.min(axis=1) / length_C2.max(axis=1)
        is_same_C = (self._category_N[a_C] == self._category_N[b_C]) & (self._category_N[a_C] >= 0)
        feature_CF = np.stack([tfidf_C, ratio_C, self._baseline(a_C, b_C)], axis=1)
        return Candidates(a_C, b_C, np.full(len(a_C), is_positive), is_same_C, feature_CF)

    def tfidf(self, a_C: Indices, b_C: Indices) -> NDArray[np.float64]:
        """Return the TF-IDF cosine of each pair of documents."""
        chunks = [
            self.tfidf_NW[a_C[i : i + _CHUNK]].multiply(self.tfidf_NW[b_C[i : i + _CHUNK]]).sum(axis=1)
            for i in range(0, len(a_C), _CHUNK)
        ]
        return np.concatenate([np.empty(0), *(np.asarray(chunk, dtype=np.float64).ravel() for chunk in chunks)])

    def _baseline(self, a_C: Indices, b_C: Indices) -> NDArray[np.float64]:
        if self._embedding_ND is None:
            return np.full(len(a_C), np.nan)
        chunks = [
            np.einsum("cd,cd->c", self._embedding_ND[a_C[i : i + _CHUNK]], self._embedding_ND[b_C[i : i + _CHUNK]])
            for i in range(0, len(a_C), _CHUNK)
        ]
        return np.concatenate([np.empty(0), *chunks]).clip(-1, 1)


class Cells:
    """The cells of the distribution: TF-IDF x length ratio x (if wanted) baseline x same category x class."""

    def __init__(self, *, by_baseline: bool) -> None:
        self._by_baseline = by_baseline

    def of(self, candidates: Candidates) -> Indices:
        """Return the number of each candidate's cell, shape ``(C,)``."""
        tfidf_C, ratio_C, baseline_C = candidates.feature_CF.T
        digits = (
            np.minimum(tfidf_bins(tfidf_C), _RADIX[0] - 1),
            np.searchsorted(_RATIO_EDGES, ratio_C, side="right"),
            # Where it is not known all are in one: NaN sorts last.
            np.searchsorted(_BASELINE_EDGES, baseline_C, side="right") * self._by_baseline,
            candidates.is_same_category_C.astype(np.int64),
            candidates.is_positive_C.astype(np.int64),
        )
        cell_C = np.zeros(len(candidates), dtype=np.int64)
        for digit_C, radix in zip(reversed(digits), reversed(_RADIX), strict=True):
            cell_C = cell_C * radix + digit_C
        return cell_C

    def even_room(self, band: tuple[float, float], num_all: int) -> "Room":
        """Return the room for about this many candidates of a class and kind, the same in every bin of the band."""
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


@dataclass(frozen=True, slots=True)
class Wish:
    """Which candidates are wanted."""

    band: tuple[float, float]
    """TF-IDF cosines, both ends included."""
    cells: Cells
    room: Room
    num_wanted: int
    """Pairs that will be chosen among them: how many are looked at follows it."""


def sample_positives(
    features: Features, wish: Wish, rng: np.random.Generator, links_L2: Indices | None = None
) -> Candidates:
    """Return a random sample of the positive pairs in the band, up to the room of each cell; shuffled.

    Args:
        features: of the documents.
        wish: which are wanted.
        rng: draws.
        links_L2: the positive pairs, where they are known one by one; else all pairs of one group.
    """
    kept = Reservoir(wish.cells, wish.room)
    for a_C, b_C, tfidf_C in _positives(features, links_L2, wish.num_wanted, rng):
        is_in_C = is_in_band(tfidf_C, wish.band)
        kept.add(features.candidates(a_C[is_in_C], b_C[is_in_C], tfidf_C[is_in_C], is_positive=True), rng)
    return kept.sample(rng)


def sample_negatives(
    features: Features, wish: Wish, rng: np.random.Generator, on_progress: Callable[[int], None] | None = None
) -> Candidates:
    """Return a random sample of the pairs of different groups in the band, up to the room of each cell; shuffled.

    Ends early once every cell has enough, and after `num_looks`; ``on_progress`` is called with the number of pairs
    looked at since its last call.
    """
    kept = Reservoir(wish.cells, wish.room)
    if wish.band[0] <= 0:
        kept.add(_unlike(features, wish.num_wanted, rng), rng)
    order = rng.permutation(len(features))
    shuffled_NW = features.tfidf_NW[order]
    looks_left = num_looks(len(features), wish.num_wanted)
    for rows, columns in _tiles(len(features), rng):
        if looks_left <= 0 or kept.has_enough:
            break
        kept.add(_tile(features, shuffled_NW, order, rows, columns, wish.band), rng)
        looks = min(looks_left, _looks(rows, columns))
        looks_left -= looks
        if on_progress:
            on_progress(looks)
    if on_progress:
        on_progress(looks_left)
    return kept.sample(rng)


def num_looks(num_documents: int, num_wanted: int) -> int:
    """Return how many pairs of documents are looked at, at most, to find that many negative ones."""
    in_tiles = sum(_looks(rows, columns) for rows, columns in _tiles(num_documents))
    return min(max(MIN_LOOKS, LOOKS_A_PAIR * num_wanted), in_tiles)


def _tiles(num: int, rng: np.random.Generator | None = None) -> list[tuple[slice, slice]]:
    """Return the tiles that hold pairs of a first and a later document, in random order where there is a generator."""
    height, width = _TILE
    found = [
        (slice(top, min(num, top + height)), slice(left, min(num, left + width)))
        for top in range(0, num, height)
        for left in range(0, num, width)
        if left + width > top
    ]
    return [found[i] for i in rng.permutation(len(found))] if rng else found


def _looks(rows: slice, columns: slice) -> int:
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def _tile(
    features: Features,
    shuffled_NW: csr_matrix,
    order: Indices,
    rows: slice,
    columns: slice,
    band: tuple[float, float],
) -> Candidates:
    """Return the tile's negative pairs in the band that have a word in common."""
    product = (shuffled_NW[rows] @ shuffled_NW[columns].T).tocoo()
    is_in_C = is_in_band(product.data, band)
    first_C, second_C = product.row[is_in_C] + rows.start, product.col[is_in_C] + columns.start
    a_C, b_C, tfidf_C = order[first_C], order[second_C], product.data[is_in_C]
    # A pair is met where its first document is the row, and nowhere else.
    is_new_C = (first_C < second_C) & (features.group_N[a_C] != features.group_N[b_C])
    return features.candidates(a_C[is_new_C], b_C[is_new_C], tfidf_C[is_new_C], is_positive=False)


def is_in_band(tfidf_C: NDArray[np.float64], band: tuple[float, float]) -> NDArray[np.bool_]:
    """Return which cosines lie in the band, both ends included."""
    # The product of a vector with its like may pass 1 by a hair.
    return np.asarray((tfidf_C >= band[0]) & (tfidf_C <= (band[1] if band[1] < 1 else 2)))


def _unlike(features: Features, num_wanted: int, rng: np.random.Generator) -> Candidates:
    """Return negative pairs without a word in common: no product finds them, and nearly any two documents are one."""
    num_all = len(features) * (len(features) - 1) // 2
    num_drawn = 4 * max(_CHUNK, num_wanted)
    code_C = np.arange(num_all) if num_all <= num_drawn else np.unique(rng.integers(num_all, size=num_drawn))
    a_C, b_C = _pair_of_code(code_C)
    is_negative_C = features.group_N[a_C] != features.group_N[b_C]
    a_C, b_C = a_C[is_negative_C], b_C[is_negative_C]
    tfidf_C = features.tfidf(a_C, b_C)
    is_zero_C = tfidf_C == 0
    return features.candidates(a_C[is_zero_C], b_C[is_zero_C], tfidf_C[is_zero_C], is_positive=False)


def _pair_of_code(code_C: Indices) -> tuple[Indices, Indices]:
    """Return the pairs (a < b) of these numbers, pairs counted as (0, 1), (0, 2), (1, 2), (0, 3)..."""
    b_C = np.floor((1 + np.sqrt(1 + 8 * code_C.astype(np.float64))) / 2).astype(np.int64)
    return code_C - b_C * (b_C - 1) // 2, b_C


def _positives(
    features: Features, links_L2: Indices | None, num_wanted: int, rng: np.random.Generator
) -> Iterator[tuple[Indices, Indices, NDArray[np.float64]]]:
    """Yield positive pairs and their TF-IDF cosines in parts, from each group no more than its fair part of them."""
    if links_L2 is not None:
        a_C, b_C = np.unique(np.sort(links_L2, axis=1), axis=0).T
        yield a_C, b_C, features.tfidf(a_C, b_C)
        return
    order = np.argsort(features.group_N, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(features.group_N[order])) + 1)
    num_pairs = np.array([len(rows) * (len(rows) - 1) // 2 for rows in members])
    limit = fair_limit(num_pairs, max(_MIN_LISTED, _LISTED_A_PAIR * num_wanted))
    parts = []
    for rows in members:
        if len(rows) * (len(rows) - 1) // 2 > limit:
            # As many documents as make that many pairs.
            rows = np.sort(rng.choice(rows, int((1 + np.sqrt(1 + 8 * limit)) / 2), replace=False))
        block_NW = features.tfidf_NW[rows]
        first, second = np.triu_indices(len(rows), 1)
        parts.append((rows[first], rows[second], (block_NW @ block_NW.T).toarray()[first, second]))
        if sum(len(a_C) for a_C, _, _ in parts) >= _CHUNK or len(parts) >= _GROUPS_A_PART:
            yield _stacked(parts)
            parts = []
    if parts:
        yield _stacked(parts)


def _stacked(
    parts: Sequence[tuple[Indices, Indices, NDArray[np.float64]]],
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    a_C, b_C, tfidf_C = (np.concatenate(of) for of in zip(*parts, strict=True))
    return a_C, b_C, tfidf_C


def fair_limit(sizes: Indices, total: int) -> int:
    """Return the largest number that each size may be cut to so that their sum stays within the total (at least 1)."""
    low, high = 1, max(1, int(sizes.max(initial=1)))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= total else (low, middle - 1)
    return low


def _codes(names: Sequence[str | None]) -> Indices:
    """Return a number for each name, the same for the same; -1 for None."""
    codes: dict[str, int] = {}
    return np.array([-1 if name is None else codes.setdefault(name, len(codes)) for name in names], dtype=np.int64)


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
        if self._count_of_cell.sum() > 2 * self._num_settled + _CHUNK:
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
