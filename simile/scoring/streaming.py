"""Scores and embeddings of a stream, block by block: a text that comes again is not computed again.

Shape suffixes: P = pairs, N = texts, D = dimensions of all encoders together, C = capacity.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from simile.scoring.encoder import Encoder, Side, cosines
from simile.scoring.lexical import Lexical
from simile.scoring.scorer import Pairs, Scorer, distinct_texts

MAX_BYTES = 256 << 20
"""Memory for embeddings: 174,000 texts of 384 dimensions, more than the two texts of each pair of 87,000."""


class StreamScorer:
    """Scores blocks of pairs or embeds blocks of texts by a bundle.

    The latest embeddings are kept in a ring of bounded memory, the texts by a hash of 16 bytes. A scorer of its own per
    stream makes the numbers repeatable to the last bit: they depend on nothing but the blocks.
    """

    def __init__(self, scorer: Scorer, max_bytes: int = MAX_BYTES) -> None:
        self._scorer = scorer
        self._encoders = [member for member in scorer.members if isinstance(member, Encoder)]
        capacity = max_bytes // (4 * scorer.dimension) if scorer.dimension else 0
        # The system gives memory to the pages that are written, not to the whole array.
        self._ring_CD = np.empty((capacity, scorer.dimension), dtype=np.float32)
        self._row_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._next = 0
        self.num_texts = 0
        """Number of texts that were computed."""

    def score(self, pairs: Pairs) -> NDArray[np.float32]:
        """Return the score of each pair, shape ``(P,)``, in [-1, 1]."""
        texts, sides, pair_P2 = distinct_texts(pairs, have_sides=self._scorer.has_sides)
        embedding_ND = self._embeddings(texts, sides)
        if not self._encoders:
            self.num_texts += len(texts)
        scores: dict[str, NDArray[np.float32]] = {}
        start = 0
        for member in self._scorer.members:
            if isinstance(member, Lexical):
                scores[member.name] = member.cosines(texts, pair_P2)
            else:
                own_ND = embedding_ND[:, start : start + member.dimension]
                scores[member.name] = cosines(own_ND, pair_P2)
                start += member.dimension
        return self._scorer.combine(scores)

    def embed(self, texts: Sequence[str], side: Side = 0) -> NDArray[np.float32]:
        """Return the vector of each text as `Scorer.embed` does, shape ``(N, D)``; all members are encoders."""
        rows = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        distinct_ND = self._embeddings(list(rows), [side] * len(rows))
        starts = np.cumsum([encoder.dimension for encoder in self._encoders])[:-1]
        joined_ND = self._scorer.join(np.split(distinct_ND, starts, axis=1))
        return joined_ND[[rows[text] for text in texts]]

    def _embeddings(self, texts: Sequence[str], sides: Sequence[Side]) -> NDArray[np.float32]:
        """Return the members' embeddings of distinct texts side by side; compute those that are not in the ring."""
        embedding_ND = np.empty((len(texts), self._scorer.dimension), dtype=np.float32)
        if not self._encoders:
            return embedding_ND
        keys = [
            blake2b(text.encode(), digest_size=16, salt=bytes([s])).digest()
            for text, s in zip(texts, sides, strict=True)
        ]
        row_N = np.array([self._row_of.get(key, -1) for key in keys], dtype=np.int64)
        is_kept_N = row_N >= 0
        embedding_ND[is_kept_N] = self._ring_CD[row_N[is_kept_N]]
        missing = np.flatnonzero(~is_kept_N).tolist()
        wanted, wanted_sides = [texts[i] for i in missing], [sides[i] for i in missing]
        start = 0
        for encoder in self._encoders:
            stop = start + encoder.dimension
            embedding_ND[missing, start:stop] = encoder.embed_tokens(encoder.tokenize(wanted, wanted_sides))
            start = stop
        for i in missing:
            self._keep(keys[i], embedding_ND[i])
        self.num_texts += len(missing)
        return embedding_ND

    def _keep(self, key: bytes, embedding_D: NDArray[np.float32]) -> None:
        """Put the embedding in the place of the oldest one."""
        if not len(self._ring_CD):
            return
        if old := self._key_of.pop(self._next, None):
            del self._row_of[old]
        self._ring_CD[self._next] = embedding_D
        self._row_of[key], self._key_of[self._next] = self._next, key
        self._next = (self._next + 1) % len(self._ring_CD)
