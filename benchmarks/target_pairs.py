"""Labelled pairs of synthetic texts whose words do not tell the classes apart.

Shape suffixes: D = texts, P = pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

BIN_WIDTH = 0.025
LOWEST = 0.05
"""TF-IDF cosine of the pairs with the least words in common."""
SAME_CATEGORY = 0.7
"""Share of the negatives within one category."""
DRAWN = 50
"""Pairs drawn of each kind for each one wanted: most have hardly a word in common."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pairs of one kind, each once, in random order."""

    a_P: NDArray[np.int64]
    b_P: NDArray[np.int64]
    bin_P: NDArray[np.int64]


def target_pairs(
    texts: Sequence[str],
    group_D: NDArray[np.int64],
    category_D: NDArray[np.int64],
    num: int,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Return up to ``num`` pairs, half of them positive, with as many of each class in every bin of TF-IDF."""
    tfidf_DW = TfidfVectorizer(sublinear_tf=True).fit_transform(texts)

    def draw(same_D: NDArray[np.int64], other_D: NDArray[np.int64]) -> Drawn:
        """Return pairs of texts that are the same in one way and differ in another."""
        a_P, b_P = _same(same_D, DRAWN * num, rng)
        a_P, b_P = np.unique(np.sort([a_P, b_P], axis=0)[:, other_D[a_P] != other_D[b_P]], axis=1)
        tfidf_P = np.asarray(tfidf_DW[a_P].multiply(tfidf_DW[b_P]).sum(axis=1)).ravel()
        order = rng.permutation(np.flatnonzero(tfidf_P >= LOWEST))
        return Drawn(a_P[order], b_P[order], (tfidf_P[order] / BIN_WIDTH).astype(np.int64))

    everything_D, each_D = np.zeros_like(group_D), np.arange(len(group_D))
    positive, near, far = draw(group_D, each_D), draw(category_D, group_D), draw(everything_D, category_D)
    pairs = []
    for bin_, quota in _quotas(positive, near, far, num // 2).items():
        num_near = round(SAME_CATEGORY * quota)
        for kind, wanted in ((positive, quota), (near, num_near), (far, quota - num_near)):
            chosen = np.flatnonzero(kind.bin_P == bin_)[:wanted]
            pairs += [
                {
                    "text_a": texts[a],
                    "text_b": texts[b],
                    "label": int(kind is positive),
                    "group_a": f"g{group_D[a]}",
                    "group_b": f"g{group_D[b]}",
                    "same_category": bool(category_D[a] == category_D[b]),
                }
                for a, b in zip(kind.a_P[chosen], kind.b_P[chosen], strict=True)
            ]
    return [pairs[i] for i in rng.permutation(len(pairs))]


def _same(code_D: NDArray[np.int64], num: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return random pairs of texts of one code, the two of them perhaps the same."""
    order = np.argsort(code_D, kind="stable")
    a_P = rng.integers(len(code_D), size=num)
    first_P, end_P = (np.searchsorted(code_D[order], code_D[a_P], side=side) for side in ("left", "right"))
    return a_P, order[rng.integers(first_P, end_P)]


def _quotas(positive: Drawn, near: Drawn, far: Drawn, num: int) -> dict[int, int]:
    """Return how many positives to take of each bin, so that every kind of pair there suffices."""
    kinds = ((positive, 1.0), (near, SAME_CATEGORY), (far, 1 - SAME_CATEGORY))
    num_bins = max(int(kind.bin_P.max(initial=0)) for kind, _ in kinds) + 1
    room = np.min([np.bincount(kind.bin_P, minlength=num_bins) / share for kind, share in kinds], axis=0)
    # One less a bin: the share of the near ones is rounded.
    room = np.maximum(room.astype(np.int64) - 1, 0)
    cumulative = np.round(np.cumsum(room) * min(1.0, num / max(1, room.sum()))).astype(np.int64)
    return {bin_: int(quota) for bin_, quota in enumerate(np.diff(cumulative, prepend=0)) if quota}
