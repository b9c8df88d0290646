"""Triplets: each positive pair with a hard negative, for ranking losses."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mining.sampling.features import Candidates
from simile.artifacts import Document
from simile.files import write_whole

Triplet = dict[str, str]
"""The texts ``anchor``, ``positive`` and ``negative``: the names that the losses of sentence-transformers expect."""


def triplets(rows: Sequence[Document], chosen: Candidates, pool: Candidates) -> list[Triplet]:
    """Return each chosen positive pair with a negative of one of its texts, nearest to the pair in TF-IDF cosine.

    An anchor takes each negative once; a pair whose texts have no negative left is left out.
    """
    negatives: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index in np.flatnonzero(~pool.is_positive_C).tolist():
        a, b = int(pool.a_C[index]), int(pool.b_C[index])
        negatives[a].append((index, b))
        negatives[b].append((index, a))
    used: set[tuple[int, int]] = set()
    matched = []
    for pair in np.flatnonzero(chosen.is_positive_C).tolist():
        ends = int(chosen.a_C[pair]), int(chosen.b_C[pair])
        free = [
            (abs(float(pool.tfidf_C[index] - chosen.tfidf_C[pair])), anchor, negative)
            for anchor in ends
            for index, negative in negatives[anchor]
            if (anchor, negative) not in used
        ]
        if free:
            _, anchor, negative = min(free)
            used.add((anchor, negative))
            numbers = {"anchor": anchor, "positive": sum(ends) - anchor, "negative": negative}
            matched.append({name: rows[number].text for name, number in numbers.items()})
    return matched


def write_triplets(path: Path, rows: Iterable[Triplet]) -> None:
    """Write the triplets as JSONL, atomically."""
    write_whole(path, "".join(f"{json.dumps(row)}\n" for row in rows))
