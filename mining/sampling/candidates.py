"""Candidate pairs: a bounded random sample of each cell, from a bounded number of looks.

Negative pairs are met in tiles, random rows x random columns of the documents' TF-IDF products; positive pairs are
listed group by group. Both stop where the pairs wanted have been looked for long enough: the cost follows those, not
the square of the documents.

Shape suffixes: N = documents, W = words, C = candidates, L = links.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from mining.corpus.gather import fair_limit
from mining.sampling.cells import Cells, Reservoir, Room
from mining.sampling.features import Candidates, Features, Indices, rows_by_group

LOOKS_A_PAIR = 20_000
"""Pairs of documents that may be looked at for each negative pair wanted..."""
MIN_LOOKS = 100_000_000
"""... or so many, a few seconds' work, where that is more: all pairs of ten thousand documents."""
_LISTED_A_PAIR = 100
"""Pairs of one group's documents that may be listed for each positive pair wanted..."""
_MIN_LISTED = 2_000_000
"""... or so many, where that is more."""
_GROUPS_A_PART = 100
_PART = 50_000
"""Positive pairs that are passed on at a time."""
_TILE = 512, 8192
_DRAWN = 50_000
"""Pairs that are drawn at random to find some without a word in common, at least."""


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
    num_drawn = 4 * max(_DRAWN, num_wanted)
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
    groups = rows_by_group(features.group_N)
    num_pairs = np.array([len(rows) * (len(rows) - 1) // 2 for rows in groups])
    limit = fair_limit(num_pairs, max(_MIN_LISTED, _LISTED_A_PAIR * num_wanted))
    parts = []
    for rows in (rows for rows in groups if len(rows) > 1):
        if len(rows) * (len(rows) - 1) // 2 > limit:
            # As many documents as make that many pairs.
            rows = np.sort(rng.choice(rows, int((1 + np.sqrt(1 + 8 * limit)) / 2), replace=False))
        block_NW = features.tfidf_NW[rows]
        first, second = np.triu_indices(len(rows), 1)
        parts.append((rows[first], rows[second], (block_NW @ block_NW.T).toarray()[first, second]))
        if sum(len(a_C) for a_C, _, _ in parts) >= _PART or len(parts) >= _GROUPS_A_PART:
            yield _stacked(parts)
            parts = []
    if parts:
        yield _stacked(parts)


def _stacked(
    parts: Sequence[tuple[Indices, Indices, NDArray[np.float64]]],
) -> tuple[Indices, Indices, NDArray[np.float64]]:
    a_C, b_C, tfidf_C = (np.concatenate(of) for of in zip(*parts, strict=True))
    return a_C, b_C, tfidf_C
