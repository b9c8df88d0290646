"""What the bundle and the labels of other pairs say about a pair: the features by which the audit judges labels.

Every feature of a pair is computed without the pair's own label.

Shape suffixes: P = pairs, K = pairs with known labels, N = texts, D = dimensions, F = features.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.neighbors import NearestNeighbors

from simile.scoring import words

NUM_NEIGHBOURS = 15
"""Texts, itself included, whose pairs speak for a text: 8 to 15 found most flipped labels, 30 and 50 fewer."""
_SHRINKAGE = 0.3
"""Part of the mean variance that is added to each direction before whitening; 0.1 to 1 made no difference."""
_PRIOR_WEIGHT = 0.3
"""Weight of an undecided vote beside those of the neighbours' pairs: a single distant one is not unanimous."""


class Known(NamedTuple):
    """Pairs whose labels may be used."""

    pair_K2: NDArray[np.int64]
    label_K: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """The texts of a file of pairs, by which `features` are computed."""

    texts: tuple[str, ...]
    """Distinct texts."""
    embedding_ND: NDArray[np.float64]
    """Embedding of each text, of length 1."""
    group_N: NDArray[np.int64] | None = None
    """Code of each text's group; None where groups are unknown."""

    def features(self, known: Known, pair_P2: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the features of the pairs by the labels of the known ones, shape ``(P, F)``.

        They are: cosine; TF-IDF cosine; cosine after whitening by the differences between texts of known positive
        pairs; the same after mixing each text with those that it is known to mean the same as; votes of known pairs of
        the nearest texts, before and after that, each with its weight; shared partners; contradicted partners; and with
        groups, whether they are the same, and the vote of known pairs of the same two groups.
        """
        positive_K2 = known.pair_K2[known.label_K == 1]
        whitened_ND = _whitened(self.embedding_ND, positive_K2)
        mixed_ND = _mixed(whitened_ND, positive_K2)
        columns = [cosines(self.embedding_ND, pair_P2), self._tfidf(pair_P2)]
        columns += [cosines(whitened_ND, pair_P2), cosines(mixed_ND, pair_P2)]
        columns += [*_votes(self._nearness, known, pair_P2), *_votes(_nearness(mixed_ND), known, pair_P2)]
        columns += self._partners(known, pair_P2)
        if self.group_N is not None:
            columns += _group_votes(self.group_N, known, pair_P2)
        return np.column_stack(columns)

    @cached_property
    def _nearness(self) -> sparse.csr_matrix:
        return _nearness(self.embedding_ND)

    @cached_property
    def _tfidf_NV(self) -> sparse.csr_matrix:
        return TfidfVectorizer(sublinear_tf=True, analyzer=words).fit_transform(self.texts)

    def _tfidf(self, pair_P2: NDArray[np.int64]) -> NDArray[np.float64]:
        a_PV, b_PV = self._tfidf_NV[pair_P2[:, 0]], self._tfidf_NV[pair_P2[:, 1]]
        return np.asarray(a_PV.multiply(b_PV).sum(axis=1)).ravel()

    def _partners(self, known: Known, pair_P2: NDArray[np.int64]) -> list[NDArray[np.float64]]:
        """Return how many texts mean the same as both, and how many as one and not as the other."""
        num = len(self.texts)
        same_NN = _graph(known.pair_K2, (known.label_K == 1).astype(float), num)
        other_NN = _graph(known.pair_K2, (known.label_K == 0).astype(float), num)
        apart_NN = same_NN @ other_NN
        return [np.log1p(_at(same_NN @ same_NN, pair_P2)), np.log1p(_at(apart_NN + apart_NN.T, pair_P2))]


VOTE = 6
"""Column of the vote after mixing, in [-1, 1]: 1 if all known pairs of the nearest texts mean the same."""


def cosines(embedding_ND: NDArray[np.float64], pair_P2: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the cosine of each pair's two rows, which have length 1."""
    return np.asarray((embedding_ND[pair_P2[:, 0]] * embedding_ND[pair_P2[:, 1]]).sum(axis=1))


def normalized(embedding_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows scaled to length 1; a row of zeros stays."""
    return np.asarray(embedding_ND / np.maximum(np.linalg.norm(embedding_ND, axis=1, keepdims=True), 1e-12))


def _whitened(embedding_ND: NDArray[np.float64], positive_K2: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the embeddings with the directions shrunk in which texts that mean the same differ.

    Source: within-class covariance normalization, Hatch et al. 2006.
    """
    difference_KD = embedding_ND[positive_K2[:, 0]] - embedding_ND[positive_K2[:, 1]]
    variance_D, direction_DD = np.linalg.eigh(difference_KD.T @ difference_KD / max(1, len(positive_K2)))
    scale_D = np.sqrt(np.maximum(variance_D, 0) + _SHRINKAGE * variance_D.mean() + 1e-12)
    return normalized((embedding_ND - embedding_ND.mean(axis=0)) @ (direction_DD / scale_D))


def _mixed(embedding_ND: NDArray[np.float64], positive_K2: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each text's embedding mixed, in two steps, with those of its positive partners, weighted by cosine.

    A wrong label joins distant texts, which hardly count.
    """
    weight_K = np.clip(cosines(embedding_ND, positive_K2), 0, 1) + 0.1
    graph_NN = _graph(positive_K2, weight_K, len(embedding_ND))
    once_ND = normalized(embedding_ND + graph_NN @ embedding_ND)
    return normalized(embedding_ND + graph_NN @ once_ND)


def _nearness(embedding_ND: NDArray[np.float64]) -> sparse.csr_matrix:
    """Return the cubed cosine between each text and its nearest ones, shape ``(N, N)``."""
    num = len(embedding_ND)
    search = NearestNeighbors(n_neighbors=min(NUM_NEIGHBOURS, num), algorithm="brute").fit(embedding_ND)
    distance_NM, index_NM = search.kneighbors(embedding_ND)
    weight_NM = np.clip(1 - distance_NM**2 / 2, 0, 1) ** 3
    row = np.repeat(np.arange(num), index_NM.shape[1])
    near_NN = sparse.csr_matrix((weight_NM.ravel(), (row, index_NM.ravel())), shape=(num, num))
    return (near_NN + near_NN.T) / 2


def _votes(near_NN: sparse.csr_matrix, known: Known, pair_P2: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return the mean label (-1 or 1) of known pairs between texts near the two of each pair, and its weight."""
    num = near_NN.shape[0]
    sum_NN = near_NN @ _graph(known.pair_K2, 2.0 * known.label_K - 1, num) @ near_NN
    weight_NN = near_NN @ _graph(known.pair_K2, np.ones(len(known.label_K)), num) @ near_NN
    weight_P = _at(weight_NN, pair_P2)
    return [_at(sum_NN, pair_P2) / (weight_P + _PRIOR_WEIGHT), np.log1p(weight_P)]


def _group_votes(group_N: NDArray[np.int64], known: Known, pair_P2: NDArray[np.int64]) -> list[NDArray[np.float64]]:
    """Return whether each pair's groups are the same, and the mean label (-1 or 1) of known pairs of the same two."""
    ends_P2, ends_K2 = group_N[pair_P2], group_N[known.pair_K2]
    num = int(group_N.max()) + 1
    sum_GG = _graph(ends_K2, 2.0 * known.label_K - 1, num)
    weight_GG = _graph(ends_K2, np.ones(len(known.label_K)), num)
    vote_P = _at(sum_GG, ends_P2) / (_at(weight_GG, ends_P2) + 1)
    return [(ends_P2[:, 0] == ends_P2[:, 1]).astype(float), vote_P]


def _graph(pair_K2: NDArray[np.int64], weight_K: NDArray[np.floating], num: int) -> sparse.csr_matrix:
    """Return the symmetric matrix with each pair's weight at its two indices."""
    one_way = sparse.coo_matrix((weight_K, (pair_K2[:, 0], pair_K2[:, 1])), shape=(num, num)).tocsr()
    return one_way + one_way.T


def _at(matrix_NN: sparse.csr_matrix, pair_P2: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(matrix_NN[pair_P2[:, 0], pair_P2[:, 1]], dtype=np.float64).ravel()
