"""Sampling of candidate pairs: a bounded random sample of each cell, from a bounded number of comparisons.

Negative pairs come from tiles of the documents' TF-IDF products (random rows x random columns), positive pairs from
lists of each group. The bound on comparisons depends on the number of pairs wanted, not on that of documents squared.

Shape suffixes: N = documents, W = words, C = candidates, L = links.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.sparse import csr_matrix

from mining.corpus.sample import fair_limit
from mining.sampling.cells import CellCapacity, Cells, Reservoir
from mining.sampling.features import Candidates, Features, Flags, Floats, IndexPairs, Indices, join, rows_by_group

Band = tuple[float, float]
"""The lowest and the highest TF-IDF cosine, both included."""
WHOLE: Band = (0.0, 1.0)

COMPARISONS_PER_PAIR, MIN_COMPARISONS = 20_000, 100_000_000
"""Upper bound of the comparisons of two documents per negative pair wanted, and the number that is always allowed: all
pairs of ten thousand documents, which take a few seconds."""
_LISTED_PER_PAIR, _MIN_LISTED = 100, 2_000_000
"""Upper bound of the pairs within groups that are listed per positive pair wanted; this many are always allowed."""
_GROUPS_PER_PART, _PAIRS_PER_PART = 100, 50_000
"""A part of the listed positive pairs is complete once it has this many groups or pairs."""
_Tile = tuple[range, range]
"""The rows and the columns of a block of the matrix that compares all documents with each other."""
_TILE_HEIGHT, _TILE_WIDTH = 512, 8192
_NEAREST, _NEAREST_BLOCK, _MAX_SIMILARITIES, _MAX_COLUMNS = 10, 256, 10**9, 20_000
"""Nearest documents of other groups that are candidates, documents looked at together, and limits of the search."""
_MIN_DRAWN = 50_000
"""A quarter of the fewest random pairs that are drawn to find pairs without a word in common."""


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """The candidates to sample."""

    band: Band
    cells: Cells
    capacity: CellCapacity
    num_wanted: int
    """Number of pairs that will be chosen among the candidates; it bounds the number of comparisons."""


def sample_positives(
    features: Features, spec: SamplingSpec, rng: Generator, links_L2: Indices | None = None
) -> Candidates:
    """Return a random sample of the positive pairs in the band, up to each cell's capacity, in random order.

    The positive pairs are the links, if given, or all pairs within a group.
    """
    reservoir = Reservoir(spec.cells, spec.capacity)
    for part in _positives(features, links_L2, spec.num_wanted, rng):
        in_band = part.take(is_in_band(part.tfidf_C, spec.band))
        reservoir.add(features.candidates(in_band, is_positive=True), rng)
    return reservoir.sample(rng)


def sample_negatives(
    features: Features, spec: SamplingSpec, rng: Generator, on_progress: Callable[[int], None] = lambda num: None
) -> Candidates:
    """Return a random sample of the negative pairs in the band, up to each cell's capacity, in random order.

    A pair is negative if its documents are of two groups that share no text. The search stops once every cell has
    enough candidates, or after `num_comparisons`; ``on_progress`` receives the number of comparisons since its last
    call.
    """
    reservoir = Reservoir(spec.cells, spec.capacity)
    if spec.band[0] <= 0:
        reservoir.add(_without_common_words(features, spec.num_wanted, rng), rng)
    order = rng.permutation(len(features))
    shuffled_NW = features.tfidf_NW[order]
    num_left = num_comparisons(len(features), spec.num_wanted)
    for tile in _tiles(len(features), rng):
        if num_left <= 0 or reservoir.has_enough:
            break
        pairs = _pairs_in_tile(shuffled_NW, tile, spec.band)
        pairs = IndexPairs(order[pairs.a_C], order[pairs.b_C], pairs.tfidf_C)
        negatives = pairs.take(features.is_negative(pairs.a_C, pairs.b_C))
        reservoir.add(features.candidates(negatives, is_positive=False), rng)
        num = min(num_left, len(tile[0]) * len(tile[1]))
        num_left -= num
        on_progress(num)
    on_progress(num_left)
    return reservoir.sample(rng)


def nearest_negatives(features: Features, num_wanted: int, rng: Generator) -> Candidates:
    """Return negative pairs of random documents with their nearest ones of other groups, in random order.

    Documents are near by the baseline's cosine or, without a baseline, by TF-IDF. The search is bounded: of very many
    documents, the nearest ones in a random sample are found.
    """
    num = len(features)
    columns = np.sort(rng.choice(num, min(num, _MAX_COLUMNS), replace=False))
    anchors = rng.permutation(num)[: min(num_wanted, _MAX_SIMILARITIES // len(columns))]
    ends = []
    for start in range(0, len(anchors), _NEAREST_BLOCK):
        rows = anchors[start : start + _NEAREST_BLOCK]
        similarity = features.similarities(rows, columns)
        similarity[features.group_N[rows][:, None] == features.group_N[columns][None, :]] = -np.inf
        nearest = np.argpartition(-similarity, min(_NEAREST, len(columns)) - 1, axis=1)[:, :_NEAREST]
        ends.append(np.stack([np.repeat(rows, nearest.shape[1]), columns[nearest].ravel()], axis=1))
    a_C, b_C = np.unique(np.sort(np.concatenate(ends), axis=1), axis=0).T
    is_negative_C = features.is_negative(a_C, b_C)
    pairs = features.with_tfidf(a_C[is_negative_C], b_C[is_negative_C])
    return features.candidates(pairs.take(rng.permutation(len(pairs))), is_positive=False)


def num_comparisons(num_documents: int, num_wanted: int) -> int:
    """Return the upper bound of the comparisons made to find ``num_wanted`` negative pairs."""
    in_tiles = sum(len(rows) * len(columns) for rows, columns in _tiles(num_documents))
    return min(max(MIN_COMPARISONS, COMPARISONS_PER_PAIR * num_wanted), in_tiles)


def is_in_band(tfidf_C: Floats, band: Band) -> Flags:
    """Return which cosines lie in the band, both ends included."""
    # Rounding may lift the cosine of two equal vectors slightly above 1.
    return np.asarray((tfidf_C >= band[0]) & (tfidf_C <= (band[1] if band[1] < 1 else 2)))


def _tiles(num: int, rng: Generator | None = None) -> list[_Tile]:
    """Return the tiles that hold a pair (first document < second one), in random order if ``rng`` is given."""
    tiles = [
        (range(top, min(num, top + _TILE_HEIGHT)), range(left, min(num, left + _TILE_WIDTH)))
        for top in range(0, num, _TILE_HEIGHT)
        for left in range(0, num, _TILE_WIDTH)
        if left + _TILE_WIDTH > top
    ]
    return [tiles[i] for i in rng.permutation(len(tiles))] if rng else tiles


def _pairs_in_tile(tfidf_NW: csr_matrix, tile: _Tile, band: Band) -> IndexPairs:
    """Return the tile's pairs in the band that have a word in common."""
    rows, columns = tile
    product = (tfidf_NW[rows.start : rows.stop] @ tfidf_NW[columns.start : columns.stop].T).tocoo()
    pairs = IndexPairs(product.row + rows.start, product.col + columns.start, product.data)
    # Both orders of a pair may lie in tiles; only the one with the first document as the row counts.
    return pairs.take(is_in_band(pairs.tfidf_C, band) & (pairs.a_C < pairs.b_C))


def _without_common_words(features: Features, num_wanted: int, rng: Generator) -> Candidates:
    """Return negative pairs without a common word: sparse products omit them, but nearly any random pair is one."""
    num_all = len(features) * (len(features) - 1) // 2
    num_drawn = 4 * max(_MIN_DRAWN, num_wanted)
    code_C = np.arange(num_all) if num_all <= num_drawn else np.unique(rng.integers(num_all, size=num_drawn))
    # Pairs a < b are numbered (0, 1), (0, 2), (1, 2), (0, 3)...
    b_C = np.floor((1 + np.sqrt(1 + 8 * code_C.astype(np.float64))) / 2).astype(np.int64)
    a_C = code_C - b_C * (b_C - 1) // 2
    is_negative_C = features.is_negative(a_C, b_C)
    pairs = features.with_tfidf(a_C[is_negative_C], b_C[is_negative_C])
    return features.candidates(pairs.take(pairs.tfidf_C == 0), is_positive=False)


def _positives(features: Features, links_L2: Indices | None, num_wanted: int, rng: Generator) -> Iterator[IndexPairs]:
    """Yield positive pairs in parts, with an upper bound per group so that large groups do not dominate."""
    if links_L2 is not None:
        yield features.with_tfidf(*np.unique(np.sort(links_L2, axis=1), axis=0).T)
        return
    groups = rows_by_group(features.group_N)
    num_pairs = np.array([len(rows) * (len(rows) - 1) // 2 for rows in groups])
    limit = fair_limit(num_pairs, max(_MIN_LISTED, _LISTED_PER_PAIR * num_wanted))
    parts: list[IndexPairs] = []
    for rows in (rows for rows in groups if len(rows) > 1):
        if len(rows) * (len(rows) - 1) // 2 > limit:
            # This many documents make about ``limit`` pairs.
            rows = np.sort(rng.choice(rows, int((1 + np.sqrt(1 + 8 * limit)) / 2), replace=False))
        block_NW = features.tfidf_NW[rows]
        first, second = np.triu_indices(len(rows), 1)
        parts.append(IndexPairs(rows[first], rows[second], (block_NW @ block_NW.T).toarray()[first, second]))
        if sum(map(len, parts)) >= _PAIRS_PER_PART or len(parts) >= _GROUPS_PER_PART:
            yield join(parts)
            parts = []
    if parts:
        yield join(parts)
