"""What says that two documents mean the same: their group, their category, or pairs that are known to.

Shape suffix: L = links.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mining.corpus.gather import Corpus
from simile.artifacts import Document, PairSet, text_key
from simile.errors import InputError

Source = Literal["groups", "categories", "pairs"]


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of texts that are known to mean the same."""

    pairs: tuple[tuple[str, str], ...]

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all texts."""
        return frozenset(text_key(text) for pair in self.pairs for text in pair)

    def among(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the links between these texts as pairs of their indices, shape ``(L, 2)``."""
        number = {text_key(text): i for i, text in enumerate(texts)}
        keys = {(text_key(a), text_key(b)) for a, b in self.pairs}
        ends = [(number[a], number[b]) for a, b in keys if a in number and b in number and a != b]
        found = {(min(pair), max(pair)) for pair in ends}
        return np.array(sorted(found), dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Documents with their groups, and what these stand on."""

    rows: list[Document]
    source: Source
    links: Links | None = None
    """Where pairs are the source: only they are positive. A group is what they connect: it is kept together in a split
    and makes no negative pair, but is not taken to mean the same."""
    num_without: int = 0
    """Documents left out, for there is nothing that says what they mean."""


def known_pairs(positives: PairSet) -> Links:
    """Return the pairs that mean the same: those with label 1, or all where none has a label.

    Raises:
        InputError: there are none, or they have graded scores.
    """
    if positives.is_graded:
        raise InputError(f"positives {positives.name}: got graded scores, need label 1 or no label")
    found = tuple((pair.text_a, pair.text_b) for pair in positives.rows if pair.label != 0)
    if not found:
        raise InputError(f"positives {positives.name}: got negative pairs only, need label 1 or no label")
    return Links(found)


def with_meaning(corpus: Corpus, links: Links | None) -> Meaning:
    """Return the documents whose meaning is known, each with its group.

    Raises:
        InputError: nothing says what means the same.
    """
    if links:
        return Meaning(_connected(corpus.rows, links), "pairs", links)
    if corpus.have_groups:
        return Meaning([row for row in corpus.rows if row.group is not None], "groups", None, corpus.num_without_group)
    if corpus.have_categories:
        rows = [replace(row, group=row.category) for row in corpus.rows if row.category is not None]
        return Meaning(rows, "categories", None, corpus.num_without_category)
    raise InputError(
        "got documents without 'group' and without 'category', need one of them (or pairs known to mean the same)"
    )


def _connected(documents: Sequence[Document], links: Links) -> list[Document]:
    """Return the linked texts and the other documents, each grouped with what it is connected to.

    The linked ones first: of near duplicates the first one stays.
    """
    keys = links.keys
    known = {text_key(row.text) for row in documents} & keys
    texts = {text_key(text): text for pair in reversed(links.pairs) for text in reversed(pair)}
    missing = [Document(f"pair-text-{i}", text) for i, (key, text) in enumerate(texts.items()) if key not in known]
    rows = sorted([*documents, *missing], key=lambda row: text_key(row.text) not in keys)
    first_of_group: dict[str, int] = {}
    # Documents of one group are no negative pair either.
    same_group = [(first_of_group.setdefault(row.group, i), i) for i, row in enumerate(rows) if row.group is not None]
    edges = np.concatenate([links.among([row.text for row in rows]), np.array(same_group, dtype=int).reshape(-1, 2)])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(rows), len(rows)))
    component_N = connected_components(graph, directed=False)[1].tolist()
    return [replace(row, group=f"#{number}") for row, number in zip(rows, component_N, strict=True)]
