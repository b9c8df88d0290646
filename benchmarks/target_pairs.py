"""Labelled pairs of synthetic texts whose word overlap does not separate the classes.

Shape suffixes: D = texts, P = pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer

from simile.scoring import words

BIN_WIDTH = 0.025
MIN_TFIDF = 0.05
"""Minimum TF-IDF cosine of a pair."""
SAME_CATEGORY = 0.7
"""Share of the negatives whose texts have the same category."""
CANDIDATES_PER_PAIR = 50
"""Candidates drawn per pair, since most candidates have hardly a word in common."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Distinct candidate pairs of one class, in random order."""

    a_P: NDArray[np.int64]
    b_P: NDArray[np.int64]
    bin_P: NDArray[np.int64]


def target_pairs(
    texts: Sequence[str],
    group_D: NDArray[np.int64],
    category_D: NDArray[np.int64],
    num: int,
    rng: np.random.Generator,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Return up to ``num`` pairs, with as many positives as negatives in every bin of TF-IDF cosines.

    ``names`` holds the name of each group by its code; by default, a group is named "g" and its code.
    """
    tfidf_DW = TfidfVectorizer(sublinear_tf=True, analyzer=words).fit_transform(texts)

    def draw(same_D: NDArray[np.int64], other_D: NDArray[np.int64]) -> Candidates:
        """Return candidates whose texts agree in one code and differ in the other."""
        a_P, b_P = _same(same_D, CANDIDATES_PER_PAIR * num, rng)
        a_P, b_P = np.unique(np.sort([a_P, b_P], axis=0)[:, other_D[a_P] != other_D[b_P]], axis=1)
        tfidf_P = np.asarray(tfidf_DW[a_P].multiply(tfidf_DW[b_P]).sum(axis=1)).ravel()
        order = rng.permutation(np.flatnonzero(tfidf_P >= MIN_TFIDF))
        return Candidates(a_P[order], b_P[order], (tfidf_P[order] / BIN_WIDTH).astype(np.int64))

    everything_D, each_D = np.zeros_like(group_D), np.arange(len(group_D))
    positive, near, far = draw(group_D, each_D), draw(category_D, group_D), draw(everything_D, category_D)
    pairs: list[dict[str, Any]] = []
    for bin_, quota in _quotas(positive, near, far, num // 2).items():
        num_near = round(SAME_CATEGORY * quota)
        for candidates, wanted in ((positive, quota), (near, num_near), (far, quota - num_near)):
            chosen = np.flatnonzero(candidates.bin_P == bin_)[:wanted]
            pairs += [
                {
                    "text_a": texts[a],
                    "text_b": texts[b],
                    "label": int(candidates is positive),
                    "group_a": names[group_D[a]] if names else f"g{group_D[a]}",
                    "group_b": names[group_D[b]] if names else f"g{group_D[b]}",
                    "same_category": bool(category_D[a] == category_D[b]),
                }
                for a, b in zip(candidates.a_P[chosen], candidates.b_P[chosen], strict=True)
            ]
    return [pairs[i] for i in rng.permutation(len(pairs))]


def _same(code_D: NDArray[np.int64], num: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return random pairs of texts with equal codes; the two texts of a pair may be the same."""
    order = np.argsort(code_D, kind="stable")
    a_P = rng.integers(len(code_D), size=num)
    first_P, end_P = (np.searchsorted(code_D[order], code_D[a_P], side=side) for side in ("left", "right"))
    return a_P, order[rng.integers(first_P, end_P)]


def _quotas(positive: Candidates, near: Candidates, far: Candidates, num: int) -> dict[int, int]:
    """Return the number of positives to take per bin, such that all three classes have enough candidates."""
    classes = ((positive, 1.0), (near, SAME_CATEGORY), (far, 1 - SAME_CATEGORY))
    num_bins = max(int(candidates.bin_P.max(initial=0)) for candidates, _ in classes) + 1
    capacity = np.min(
        [np.bincount(candidates.bin_P, minlength=num_bins) / share for candidates, share in classes], axis=0
    )
    # One pair less per bin, because the share of the near negatives is rounded.
    capacity = np.maximum(capacity.astype(np.int64) - 1, 0)
    cumulative = np.round(np.cumsum(capacity) * min(1.0, num / max(1, capacity.sum()))).astype(np.int64)
    return {bin_: int(quota) for bin_, quota in enumerate(np.diff(cumulative, prepend=0)) if quota}
