"""The embeddings of texts that were requested before."""

from dataclasses import dataclass, replace
from operator import itemgetter

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from simile.scoring import Side

_OVERHEAD_BYTES = 550
"""Memory of one entry's Python objects besides its vector and text, measured with tracemalloc."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The embedding of one text by one encoder, shape ``(D,)``, and what the encoder read of the text."""

    vector_D: NDArray[np.float32]
    num_tokens: int
    is_cut: bool
    num_unknown: int


class Cache:
    """The most recently used embeddings of one bundle on one runtime, in at most ``max_bytes``. Not thread-safe."""

    def __init__(self, max_bytes: int) -> None:
        self.entries: LRUCache[tuple[int, Side, str], tuple[Embedding, int]] = LRUCache(
            max_bytes, getsizeof=itemgetter(1)
        )
        """Each embedding and its bytes, including those of its text and Python objects, by encoder, side and text."""

    def get(self, encoder: int, side: Side, text: str) -> Embedding | None:
        """Return the cached embedding of the text, which becomes the most recently used one; None if there is none."""
        entry = self.entries.get((encoder, side, text))
        return entry[0] if entry else None

    def put(self, encoder: int, side: Side, text: str, embedding: Embedding) -> None:
        """Cache the embedding, and evict the least recently used ones if there is no room."""
        # Python stores a text in 1, 2 or 4 bytes per character, depending on its widest one.
        width = 1 if text.isascii() else 2 if max(text) < "\U00010000" else 4
        num_bytes = len(text) * width + embedding.vector_D.nbytes + _OVERHEAD_BYTES
        if num_bytes <= self.entries.maxsize and (encoder, side, text) not in self.entries:
            # A row of a batch is a view that would keep the whole batch in memory.
            copied = replace(embedding, vector_D=embedding.vector_D.copy())
            self.entries[encoder, side, text] = (copied, num_bytes)
