"""Evidence that two documents mean the same: their group, their category, or known positive pairs.

Shape suffix: L = links.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from mining.corpus.gather import Corpus
from simile.artifacts import Document, PairSet, text_key
from simile.artifacts.mining_report import LabelSource
from simile.errors import InputError


@dataclass(frozen=True, slots=True)
class Links:
    """Pairs of texts that are known to mean the same."""

    pairs: tuple[tuple[str, str], ...]

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all linked texts."""
        return frozenset(text_key(text) for pair in self.pairs for text in pair)

    def among(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the links between these texts as pairs of their indices, shape ``(L, 2)``."""
        # Of equal texts the first is linked, because it is the one that stays where duplicates are dropped.
        number = {text_key(text): i for i, text in reversed([*enumerate(texts)])}
        keys = {(text_key(a), text_key(b)) for a, b in self.pairs}
        ends = [(number[a], number[b]) for a, b in keys if a in number and b in number and a != b]
        return np.array(sorted({(min(pair), max(pair)) for pair in ends}), dtype=np.int64).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Documents with their groups, and the source of the groups."""

    rows: list[Document]
    source: LabelSource
    links: Links | None = None
    """The only positive pairs, where pairs are the source. A group is then a connected component of the links: it stays
    within one split and yields no negative pair, but its texts are not assumed to mean the same."""
    num_without: int = 0
    """Number of documents left out because they have no group (or category)."""
    contradictory: Sequence[Sequence[str]] = ()
    """Groups that share a text, so that they yield no negative pair with each other."""


def known_pairs(positives: PairSet) -> Links:
    """Return the positive pairs: those with label 1, or all pairs if they have no labels."""
    if positives.is_graded:
        raise InputError(f"positives {positives.name}: got graded scores, need label 1 or no label")
    links = tuple((pair.text_a, pair.text_b) for pair in positives.rows if pair.label != 0)
    if not links:
        raise InputError(f"positives {positives.name}: got negative pairs only, need label 1 or no label")
    return Links(links)


def with_meaning(corpus: Corpus, links: Links | None) -> Meaning:
    """Return the documents whose meaning is known, each with its group: from links, else groups, else categories."""
    contradictory = corpus.contradictions.groups
    if links:
        rows, renamed = _connected(corpus.rows, links)
        among_components = [[renamed[name] for name in names if name in renamed] for names in contradictory]
        return Meaning(rows, "pairs", links, contradictory=among_components)
    if corpus.num_without_group < corpus.num_read:
        rows = [row for row in corpus.rows if row.group is not None]
        return Meaning(rows, "groups", None, corpus.num_without_group, contradictory)
    if corpus.num_without_category < corpus.num_read:
        rows = [replace(row, group=row.category) for row in corpus.rows if row.category is not None]
        return Meaning(rows, "categories", None, corpus.num_without_category, contradictory)
    raise InputError(
        "got documents without 'group' and without 'category', need one of them (or known positive pairs, --positives)"
    )


def _connected(documents: Sequence[Document], links: Links) -> tuple[list[Document], dict[str, str]]:
    """Return the linked texts and the other documents, grouped by connected component, and the component of each group.

    Linked texts come first, because the first of several near duplicates is kept.
    """
    keys = links.keys
    known = {text_key(row.text) for row in documents} & keys
    texts = {text_key(text): text for pair in reversed(links.pairs) for text in reversed(pair)}
    missing = [Document(f"pair-text-{i}", text) for i, (key, text) in enumerate(texts.items()) if key not in known]
    rows = sorted([*documents, *missing], key=lambda row: text_key(row.text) not in keys)
    group_of_key = {text_key(row.text): row.group for row in reversed(rows) if row.group is not None}
    groups = [row.group or group_of_key.get(text_key(row.text)) for row in rows]
    first_of_group: dict[str, int] = {}
    # Documents of one group are connected too, so that they form no negative pair.
    same_group = [(first_of_group.setdefault(group, i), i) for i, group in enumerate(groups) if group is not None]
    edges = np.concatenate([links.among([row.text for row in rows]), np.array(same_group, dtype=int).reshape(-1, 2)])
    graph = coo_matrix((np.ones(len(edges)), edges.T), shape=(len(rows), len(rows)))
    names = [f"#{number}" for number in connected_components(graph, directed=False)[1].tolist()]
    component_of_group = {group: names[i] for group, i in first_of_group.items()}
    return [replace(row, group=name) for row, name in zip(rows, names, strict=True)], component_of_group
