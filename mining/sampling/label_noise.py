"""False negatives: negative pairs that the baseline scores above the positives of their texts.

Shape suffixes: N = documents, C = candidates, D = dimensions.
"""

import numpy as np
from numpy.typing import NDArray

from mining.sampling.features import Candidates, Flags, Floats, Indices, rows_by_group
from simile.scoring import cosines

MARGIN = 0.05
"""A negative whose score exceeds the best positive of one of its texts by this much may be a false negative. The rule
follows NV-Retriever (Moreira et al. 2024, arXiv:2407.15831), which rejects negatives just below a positive as well;
pairs as hard as a test set have many of those."""
_BLOCK = 1024


def best_positive(embedding_ND: NDArray[np.float32], group_N: Indices, links: Indices | None = None) -> Floats:
    """Return each document's highest cosine to another document that means the same, shape ``(N,)``; NaN without one.

    Documents of one group mean the same or, if links are given, the two documents of each link, shape ``(L, 2)``.
    """
    best_N = np.full(len(group_N), -np.inf)
    if links is not None:
        np.maximum.at(best_N, links, cosines(embedding_ND, links)[:, None])
    else:
        for rows in rows_by_group(group_N):
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                score = embedding_ND[block] @ embedding_ND[rows].T
                score[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
                best_N[block] = score.max(axis=1)
    return np.where(np.isfinite(best_N), best_N, np.nan)


def is_false_negative(candidates: Candidates, best_N: Floats) -> Flags:
    """Return which candidates are negatives that may well be positives, shape ``(C,)``."""
    baseline_C = candidates.baseline_C
    # For a text without a positive the comparison with NaN is False.
    is_above_C = (baseline_C > best_N[candidates.a_C] + MARGIN) | (baseline_C > best_N[candidates.b_C] + MARGIN)
    return ~candidates.is_positive_C & is_above_C
