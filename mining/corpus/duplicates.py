"""Detection of texts that repeat or nearly repeat an earlier one.

Shape suffixes: N = texts, D = distinct texts, S = suspects, G = shingles (runs of 4 characters), C = candidates.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash, RMinHashLSH
from sklearn.feature_extraction.text import CountVectorizer

from simile.artifacts import text_key

NEAR = 0.85
"""Jaccard similarity from which two texts count as near duplicates."""
_SHINGLE_LENGTH = 4
_SEED, _NUM_HASHES, _NUM_BANDS = 42, 126, 18
"""Bands of 7 hashes: a pair of similarity 0.85 is missed once in 1,000 times, one of 0.5 is compared once in 8."""
_index = partial(RMinHashLSH, threshold=NEAR, num_perm=_NUM_HASHES, num_bands=_NUM_BANDS)


def first_of_each(texts: Sequence[str], num_fixed: int = 0) -> NDArray[np.int64]:
    """Return for each text the index of the earliest kept text that it repeats or nearly repeats, shape (N,).

    A kept text does neither and has its own index. Two texts nearly repeat each other where the Jaccard similarity of
    their 4-character shingles, ignoring case and white space, is at least `NEAR`. MinHash LSH (Broder 1997,
    doi:10.1109/SEQUEN.1997.666900) proposes the pairs to compare and may miss one; the exact similarity decides. The
    first ``num_fixed`` texts are left out only where they repeat an earlier text exactly.
    """
    keys = [text_key(text) for text in texts]
    first_of_key: dict[str, int] = {}
    for i, key in enumerate(keys):
        first_of_key.setdefault(key, i)
    sketches = [_sketch(key) for key in first_of_key]
    index = _index()
    index.insert_many(sketches)
    own_D = np.fromiter(first_of_key.values(), dtype=np.int64)
    # Exact sets of shingles take several times the memory of the texts, so only texts that share an LSH band with any
    # other text get one.
    suspect_S = np.flatnonzero(index.query_duplicate_flags(sketches))
    near_D = own_D.copy()
    if len(suspect_S) > 0:
        suspects = [(keys[own_D[i]], sketches[i]) for i in suspect_S.tolist()]
        num_fixed_suspects = int((own_D[suspect_S] < num_fixed).sum())
        near_D[suspect_S] = own_D[suspect_S[_first_of_suspects(suspects, num_fixed_suspects)]]
    near_of_key = dict(zip(first_of_key, near_D.tolist(), strict=True))
    return np.array([near_of_key[key] for key in keys], dtype=np.int64)


def _first_of_suspects(suspects: Sequence[tuple[str, RMinHash]], num_fixed: int) -> NDArray[np.int64]:
    """Return for each suspect the position of the earliest kept one that it nearly repeats, or its own, shape (S,)."""
    shingles = CountVectorizer(analyzer=_shingles, binary=True, dtype=np.int32)
    shingle_SG = shingles.fit_transform([key for key, _ in suspects])
    size_S = np.diff(shingle_SG.indptr)
    first_S = np.arange(len(suspects))
    is_own_G = np.zeros(shingle_SG.shape[1], dtype=np.int32)
    # Only kept texts are indexed: a thousand near duplicates are compared with one text each, not with each other.
    kept = _index()
    for i, (_, sketch) in enumerate(suspects):
        candidate_C = np.array([] if i < num_fixed else sorted(kept.query(sketch)), dtype=np.int64)
        if len(candidate_C) > 0:
            own = shingle_SG.indices[shingle_SG.indptr[i] : shingle_SG.indptr[i + 1]]
            is_own_G[own] = 1
            shared_C = shingle_SG[candidate_C] @ is_own_G
            is_own_G[own] = 0
            jaccard_C = shared_C / (size_S[i] + size_S[candidate_C] - shared_C)
            first_S[i] = next(iter(candidate_C[jaccard_C >= NEAR]), i)
        if first_S[i] == i:
            kept.insert(i, sketch)
    return first_S


def _sketch(key: str) -> RMinHash:
    sketch = RMinHash(num_perm=_NUM_HASHES, seed=_SEED)
    sketch.update(_shingles(key))
    return sketch


def _shingles(key: str) -> list[str]:
    """Return the runs of 4 characters of a text; a shorter text is its only shingle."""
    return [key[i : i + _SHINGLE_LENGTH] for i in range(max(1, len(key) - _SHINGLE_LENGTH + 1))]
