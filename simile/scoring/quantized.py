"""Embeddings in 8 bits, as files and the service give them.

Shape suffixes: N = texts, D = dimensions.
"""

import numpy as np
from numpy.typing import NDArray


def int8_embeddings(embedding_ND: NDArray[np.float32]) -> NDArray[np.int8]:
    """Return the vectors as whole numbers in [-127, 127]: each is scaled so that its largest number is 127.

    A cosine does not depend on the lengths of its vectors, so each has a scale of its own, which need not be known.
    """
    largest_N1 = np.abs(embedding_ND).max(axis=1, keepdims=True)
    scaled_ND = embedding_ND * (127 / np.maximum(largest_N1, np.finfo(np.float32).tiny))
    return np.asarray(np.rint(scaled_ND).astype(np.int8))
