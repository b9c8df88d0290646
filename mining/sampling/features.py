"""Pairs of documents and their cheap features: words in common, lengths, the baseline's score.

Shape suffixes: N = documents, W = words, D = dimensions, C = candidates, F = features, G = groups, T = shared texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from simile.artifacts import Document
from simile.scoring import cosines

_CHUNK = 50_000

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
_Pairs = TypeVar("_Pairs", bound="IndexPairs")


@dataclass(frozen=True, slots=True)
class IndexPairs:
    """Pairs of document indices with their TF-IDF cosines."""

    a_C: Indices
    b_C: Indices
    tfidf_C: Floats

    def __len__(self) -> int:
        return len(self.a_C)

    def take(self, index: Indices | Flags) -> Self:
        """Return some of the pairs."""
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Candidates(IndexPairs):
    """Pairs of document indices (a < b) with all their features; each pair occurs once."""

    length_ratio_C: Floats
    """Length of the shorter text divided by that of the longer one, in characters."""
    baseline_C: Floats
    """The baseline's cosine; NaN without a baseline."""
    is_positive_C: Flags
    is_same_category_C: Flags

    @property
    def has_baseline(self) -> bool:
        """Whether the baseline's cosine of every pair is known."""
        return not np.isnan(self.baseline_C).any()

    @property
    def feature_CF(self) -> Floats:
        """TF-IDF cosine, length ratio and baseline's cosine of each pair; NaN where unknown."""
        return np.stack([self.tfidf_C, self.length_ratio_C, self.baseline_C], axis=1)


def join(parts: Sequence[_Pairs]) -> _Pairs:
    """Return the pairs of all parts, of which there is at least one."""
    columns = (field.name for field in fields(parts[0]))
    return type(parts[0])(*(np.concatenate([getattr(part, column) for part in parts]) for column in columns))


class Features:
    """The features of documents, from which those of any pair are computed."""

    def __init__(
        self,
        documents: Sequence[Document],
        tfidf_NW: csr_matrix,
        embedding_ND: NDArray[np.float32] | None = None,
        contradictory: Sequence[Sequence[str]] = (),
    ) -> None:
        self.tfidf_NW = tfidf_NW
        names = [document.group for document in documents]
        self.group_N = codes(names)
        self._shared_GT = _shared_texts(dict(zip(names, self.group_N.tolist(), strict=True)), contradictory)
        self._category_N = codes([document.category for document in documents])
        self._length_N = np.array([len(document.text) for document in documents], dtype=np.float64)
        self._embedding_ND = embedding_ND

    def __len__(self) -> int:
        return len(self.group_N)

    def candidates(self, pairs: IndexPairs, *, is_positive: bool) -> Candidates:
        """Return these pairs, all of one class, with their features."""
        a_C, b_C = np.minimum(pairs.a_C, pairs.b_C), np.maximum(pairs.a_C, pairs.b_C)
        length_a_C, length_b_C = self._length_N[a_C], self._length_N[b_C]
        ratio_C = np.minimum(length_a_C, length_b_C) / np.maximum(length_a_C, length_b_C)
        is_same_C = (self._category_N[a_C] == self._category_N[b_C]) & (self._category_N[a_C] >= 0)
        baseline_C = np.full(len(a_C), np.nan)
        if self._embedding_ND is not None:
            pair_C2 = np.stack([a_C, b_C], axis=1)
            for i in range(0, len(a_C), _CHUNK):
                baseline_C[i : i + _CHUNK] = cosines(self._embedding_ND, pair_C2[i : i + _CHUNK])
        return Candidates(a_C, b_C, pairs.tfidf_C, ratio_C, baseline_C, np.full(len(a_C), is_positive), is_same_C)

    def similarities(self, rows: Indices, columns: Indices) -> NDArray[np.float32]:
        """Return the cosine of each row to each column: the baseline's or, without one, that of TF-IDF."""
        if self._embedding_ND is not None:
            return np.asarray(self._embedding_ND[rows] @ self._embedding_ND[columns].T)
        return np.asarray((self.tfidf_NW[rows] @ self.tfidf_NW[columns].T).toarray(), dtype=np.float32)

    def is_negative(self, a_C: Indices, b_C: Indices) -> Flags:
        """Return which pairs are negative: of two groups that share no text, shape ``(C,)``."""
        a_C, b_C = self.group_N[a_C], self.group_N[b_C]
        is_negative_C = np.asarray(a_C != b_C)
        is_shared_G = np.diff(self._shared_GT.indptr) > 0
        doubtful = np.flatnonzero(is_negative_C & is_shared_G[a_C] & is_shared_G[b_C])
        for i in range(0, len(doubtful), _CHUNK):
            index = doubtful[i : i + _CHUNK]
            num_shared_C = self._shared_GT[a_C[index]].multiply(self._shared_GT[b_C[index]]).sum(axis=1)
            is_negative_C[index] = np.asarray(num_shared_C).ravel() == 0
        return is_negative_C

    def with_tfidf(self, a_C: Indices, b_C: Indices) -> IndexPairs:
        """Return these pairs of documents with their TF-IDF cosines."""
        cosine_C = np.empty(len(a_C))
        for i in range(0, len(a_C), _CHUNK):
            a_CW, b_CW = self.tfidf_NW[a_C[i : i + _CHUNK]], self.tfidf_NW[b_C[i : i + _CHUNK]]
            cosine_C[i : i + _CHUNK] = np.asarray(a_CW.multiply(b_CW).sum(axis=1)).ravel()
        return IndexPairs(a_C, b_C, cosine_C)


def _shared_texts(code_of_group: Mapping[str | None, int], contradictory: Sequence[Sequence[str]]) -> csr_matrix:
    """Return which groups have which of the texts that several groups share, shape ``(G, T)``."""
    groups = [[code_of_group[name] for name in names if name in code_of_group] for names in contradictory]
    ends = [(group, text) for text, of_text in enumerate(groups) for group in of_text]
    group, text = np.array(ends, dtype=np.int64).reshape(-1, 2).T
    shape = len(code_of_group), len(contradictory)
    return csr_matrix((np.ones(len(ends), dtype=np.int32), (group, text)), shape=shape)


def codes(names: Sequence[str | None]) -> Indices:
    """Return a number for each name, equal for equal names; -1 for None."""
    known: dict[str, int] = {}
    return np.array([-1 if name is None else known.setdefault(name, len(known)) for name in names], dtype=np.int64)


def rows_by_group(group_N: Indices) -> list[Indices]:
    """Return the documents of each group in ascending order, the groups ordered by their numbers."""
    order = np.argsort(group_N, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group_N[order])) + 1)
