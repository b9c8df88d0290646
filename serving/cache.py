"""Embeddings of texts that were asked for before."""

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

_OVERHEAD_BYTES = 400
"""Of an entry's objects, beside vector and text: measured with tracemalloc."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """One text's embedding by one encoder, shape ``(D,)``, and what it took."""

    vector_D: NDArray[np.float32]
    num_tokens: int
    is_cut: bool


class Cache:
    """The embeddings used last, as many as fit; of one bundle on one runtime. Not thread-safe.

    Args:
        max_bytes: texts and the objects themselves counted; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[int, str], Embedding] = OrderedDict()
        self.num_bytes = 0

    def get(self, encoder: int, text: str) -> Embedding | None:
        """Return what is kept for the text, which is then the one used last."""
        key = (encoder, text)
        if (found := self._entries.get(key)) is not None:
            self._entries.move_to_end(key)
        return found

    def put(self, encoder: int, text: str, embedding: Embedding) -> None:
        """Keep the embedding, and forget those used longest ago where there is no room."""
        size = _size(text, embedding)
        key = (encoder, text)
        if size > self._max_bytes or key in self._entries:
            return
        # A copy: a row of a batch would keep the whole batch.
        self._entries[key] = replace(embedding, vector_D=embedding.vector_D.copy())
        self.num_bytes += size
        while self.num_bytes > self._max_bytes:
            (_, old), oldest = self._entries.popitem(last=False)
            self.num_bytes -= _size(old, oldest)

    def __len__(self) -> int:
        return len(self._entries)


def _size(text: str, embedding: Embedding) -> int:
    # Python keeps a text in 1, 2 or 4 bytes a character, by its widest one.
    width = 1 if text.isascii() else 2 if max(text) < "\U00010000" else 4
    return len(text) * width + embedding.vector_D.nbytes + _OVERHEAD_BYTES
