"""The groups and categories of all documents: their names, and the texts that are in several groups.

Shape suffixes: N = documents with a label, each text and label once; G = labels.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Document, Names

Kind = Literal["group", "category"]
KINDS: tuple[Kind, Kind] = ("group", "category")
_PLURAL = {"group": "groups", "category": "categories"}
_SHIFT = np.uint64(58)
NUM_RANGES = 64
"""Ranges of the texts' hashes, by their first six bits. One range at a time is looked at, which bounds memory."""
_Texts = tuple[NDArray[np.uint64], NDArray[np.int32]]
"""Hashes of texts in ascending order, and the number of each one's label."""


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Texts that are in several groups, so that a pair of texts of these groups need not be negative."""

    num_texts: int
    groups: tuple[tuple[str, ...], ...]
    """The groups of each such text; texts of the same groups are listed once."""


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of the documents of one shard."""

    names: dict[Kind, Names]
    num_documents: int
    num_without: dict[Kind, int]
    kind: Kind
    """The label that says which documents mean the same: the group, or the category where none has a group."""
    labels: list[str]
    """The labels of this kind, in the order in which they occur."""
    size_G: NDArray[np.int64]
    """Number of documents per label."""
    texts_in: Callable[[int], _Texts]
    """Return the texts of one range of hashes, each once per label that it has."""


class Labels:
    """What all documents of a shard together say about the labels of each one; pass each through `settled` once."""

    def __init__(self) -> None:
        self._names: dict[Kind, Names] = {kind: Names(kind) for kind in KINDS}
        self._codes: dict[Kind, dict[str, int]] = {kind: {} for kind in KINDS}
        # A million documents as objects would take more memory than the sample that is mined from.
        self._hashes = array("Q")
        self._numbers: dict[Kind, array[int]] = {kind: array("i") for kind in KINDS}

    def settled(self, document: Document, text_hash: int) -> Document:
        """Return the document with the first spelling of its group and category, and count it."""
        group, category = self._names["group"].first(document.group), self._names["category"].first(document.category)
        self._hashes.append(text_hash)
        for kind, name in zip(KINDS, (group, category), strict=True):
            codes = self._codes[kind]
            self._numbers[kind].append(-1 if name is None else codes.setdefault(name, len(codes)))
        return respelled(document, group, category)

    def table(self) -> LabelTable:
        """Return the labels of the documents that have passed."""
        kind: Kind = "group" if self._codes["group"] else "category"
        hash_N, label_N = np.array(self._hashes, dtype=np.uint64), np.array(self._numbers[kind], dtype=np.int32)
        size_G = np.bincount(label_N + 1, minlength=1)[1:]
        hash_N, label_N = _distinct(hash_N[label_N >= 0], label_N[label_N >= 0])
        edges = np.searchsorted(hash_N >> _SHIFT, np.arange(NUM_RANGES + 1, dtype=np.uint64)).tolist()
        return LabelTable(
            names=self._names,
            num_documents=len(self._hashes),
            num_without={kind: self._numbers[kind].count(-1) for kind in KINDS},
            kind=kind,
            labels=list(self._codes[kind]),
            size_G=size_G,
            texts_in=lambda i: (hash_N[edges[i] : edges[i + 1]], label_N[edges[i] : edges[i + 1]]),
        )


def respelled(document: Document, group: str | None, category: str | None) -> Document:
    """Return the document with these labels."""
    is_same = (document.group, document.category) == (group, category)
    return document if is_same else replace(document, group=group, category=category)


class AllLabels:
    """The labels of all documents, from those of their shards."""

    def __init__(self) -> None:
        self._names: dict[Kind, Names] = {kind: Names(kind) for kind in KINDS}
        self._tables: list[LabelTable] = []

    def add(self, table: LabelTable) -> None:
        """Add the labels of the next shard."""
        self._tables.append(table)
        for kind, names in table.names.items():
            self._names[kind].join(names.spellings, names.missing)

    def settled(self, document: Document) -> Document:
        """Return a document of the last shard, settled there, with the first spelling in all shards."""
        group, category = (self._names[kind].first(getattr(document, kind)) for kind in KINDS)
        return respelled(document, group, category)

    def num_without(self, kind: Kind) -> int:
        """Return the number of documents without such a label."""
        return sum(table.num_without[kind] for table in self._tables)

    def summary(self) -> tuple[Contradictions, tuple[str, ...]]:
        """Return the texts that are in several groups (or categories) and, for the user, what is doubtful."""
        kind: Kind = "group" if any(table.kind == "group" for table in self._tables) else "category"
        tables = [table for table in self._tables if table.kind == kind]
        codes: dict[str, int] = {}
        code_GG = []
        for table in tables:
            # A shard's first spelling need not be that of all shards.
            labels = [self._names[kind].first(name) or name for name in table.labels]
            code_GG.append(np.array([codes.setdefault(label, len(codes)) for label in labels], dtype=np.int64))
        size_G = np.zeros(len(codes), dtype=np.int64)
        for table, code_G in zip(tables, code_GG, strict=True):
            np.add.at(size_G, code_G, table.size_G)
        contradictions = _contradictions(tables, code_GG, list(codes))
        return contradictions, tuple(self._notes(kind, list(codes), size_G, contradictions))

    def _notes(
        self, kind: Kind, labels: Sequence[str], size_G: NDArray[np.int64], contradictions: Contradictions
    ) -> Iterator[str]:
        for names in self._names.values():
            yield from names.notes()
        num = sum(table.num_documents for table in self._tables)
        if len(size_G) and size_G.max() > num / 2:
            share = f"{size_G.max():,} of {num:,} documents"
            yield f"{share} are of {kind} {labels[int(size_G.argmax())]!r}: check that they all mean the same"
        if contradictions.num_texts:
            a, b, *_ = contradictions.groups[0]
            several = _PLURAL[kind]
            yield (
                f"{contradictions.num_texts:,} texts are in two {several} or more, for example in {a!r} and {b!r}: "
                f"no negative pair is made of two {several} that share a text"
            )


def _contradictions(
    tables: Sequence[LabelTable], code_GG: Sequence[NDArray[np.int64]], labels: Sequence[str]
) -> Contradictions:
    """Return the texts with several labels, of which ``code_GG`` has the numbers over all tables."""
    num_texts, several = 0, set[tuple[int, ...]]()
    for i in range(NUM_RANGES if tables else 0):
        parts = [table.texts_in(i) for table in tables]
        hash_N = np.concatenate([hashes for hashes, _ in parts])
        code_N = np.concatenate([code_G[numbers] for (_, numbers), code_G in zip(parts, code_GG, strict=True)])
        hash_N, code_N = _distinct(hash_N, code_N)
        _, start, num = np.unique(hash_N, return_index=True, return_counts=True)
        repeated = np.flatnonzero(num > 1).tolist()
        num_texts += len(repeated)
        several |= {tuple(code_N[start[j] : start[j] + num[j]].tolist()) for j in repeated}
    return Contradictions(num_texts, tuple(tuple(labels[code] for code in of_text) for of_text in sorted(several)))


def _distinct(
    hash_N: NDArray[np.uint64], code_N: NDArray[np.signedinteger]
) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Return the hashes in ascending order with the codes of each, every two of them once."""
    order = np.lexsort((code_N, hash_N))
    hash_N, code_N = hash_N[order], code_N[order].astype(np.int32)
    is_new_N = np.ones(len(order), dtype=bool)
    is_new_N[1:] = (hash_N[1:] != hash_N[:-1]) | (code_N[1:] != code_N[:-1])
    return hash_N[is_new_N], code_N[is_new_N]
