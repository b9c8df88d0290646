"""Labels that look wrong: negatives that the baseline places above their texts' own positives.

Shape suffixes: N = documents, C = candidates, D = dimensions.
"""

import numpy as np
from numpy.typing import NDArray

from mining.sampling.features import Candidates, rows_by_group
from simile.scoring import cosines

MARGIN = 0.05
"""By which a negative's score must exceed the best positive of one of its texts to be suspect.

Source of the margin: NV-Retriever's positive-aware mining (Moreira et al. 2024, arXiv:2407.15831), which is about
negatives near a positive; pairs meant to be as hard as a test have many of those, so here only what lies above it is
suspect.
"""
_BLOCK = 1024


def best_positive(
    embedding_ND: NDArray[np.float32], group_N: NDArray[np.int64], links: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Return each document's highest cosine to another one that means the same, shape ``(N,)``; NaN without one.

    Args:
        embedding_ND: of length 1.
        group_N: documents of one number mean the same.
        links: pairs of documents that mean the same, shape ``(L, 2)``, where they are known one by one.
    """
    best_N = np.full(len(group_N), -np.inf)
    if links is not None:
        score = cosines(embedding_ND, links)
        for side in (0, 1):
            np.maximum.at(best_N, links[:, side], score)
    else:
        for rows in rows_by_group(group_N):
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                score = embedding_ND[block] @ embedding_ND[rows].T
                score[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
                best_N[block] = score.max(axis=1)
    return np.where(np.isfinite(best_N), best_N, np.nan)


def suspects(candidates: Candidates, best_N: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which candidates are negatives that may well be positives, shape ``(C,)``."""
    baseline_C = candidates.baseline_C
    # A text without a positive has nothing to be compared with: NaN compares as False.
    is_above_C = (baseline_C > best_N[candidates.a_C] + MARGIN) | (baseline_C > best_N[candidates.b_C] + MARGIN)
    return ~candidates.is_positive_C & is_above_C
