"""The baseline's embeddings, looked up by text.

Shape suffixes: N = texts, P = pairs, D = dimensions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simile.progress import Progress
from simile.scoring import Scorer, cosines


class Vectors:
    """The baseline's embeddings of a fixed collection of texts, with the prompt of first texts.

    Documents have no side, so documents and target are embedded with the same prompt.
    """

    def __init__(self, baseline: Scorer, texts: Sequence[str]) -> None:
        self.baseline = baseline
        self._index = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        with Progress("embedding", len(self._index) * len(baseline.members), "texts") as progress:
            self._embedding_ND = baseline.embed(list(self._index), progress.advance, side=0)

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the normalized embeddings of these texts, shape ``(N, D)``."""
        return self._embedding_ND[[self._index[text] for text in texts]]

    def cosines(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """Return the baseline's score of each pair, shape ``(P,)``, in [-1, 1]."""
        pair_P2 = np.array([(self._index[a], self._index[b]) for a, b in pairs], dtype=np.int64).reshape(-1, 2)
        return cosines(self._embedding_ND, pair_P2)
