"""Several requests in one pass over the model, each text once, and every request's own share of the result.

The same steps as `simile.scoring.Scorer.score_members`, but timed, and with tokens and cut texts told apart by request.

Shape suffixes: P = pairs, N = texts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.metrics import Metrics
from simile.scoring import Lexical, Scored, Scorer, cosines

Pairs = Sequence[tuple[str, str]]


def score_merged(scorer: Scorer, requests: Sequence[Pairs], metrics: Metrics) -> list[Scored]:
    """Return what `Scorer.score_members` would of each request; a text that several share is computed once."""
    pairs = [pair for request in requests for pair in request]
    index = {text: i for i, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    texts = list(index)
    pair_P2 = np.array([(index[a], index[b]) for a, b in pairs], dtype=np.int64).reshape(-1, 2)
    metrics.batch_pairs.observe(len(pairs))
    token_N, is_cut_N = np.zeros(len(texts), dtype=np.int64), np.zeros(len(texts), dtype=bool)
    scores: dict[str, NDArray[np.float32]] = {}
    for member in scorer.members:
        if isinstance(member, Lexical):
            with metrics.stage("infer"):
                scores[member.name] = member.cosines(texts, pair_P2)
            continue
        with metrics.stage("tokenize"):
            tokens = member.tokenize(texts)
        with metrics.stage("infer"):
            scores[member.name] = cosines(member.embed_tokens(tokens), pair_P2)
        token_N += [len(text.ids) for text in tokens]
        is_cut_N |= [text.is_cut for text in tokens]
    with metrics.stage("combine"):
        merged = _Merged(scorer.combine(scores), scores, pair_P2, token_N, is_cut_N)
        return list(merged.split([len(request) for request in requests]))


@dataclass(frozen=True, slots=True)
class _Merged:
    score_P: NDArray[np.float32]
    members: dict[str, NDArray[np.float32]]
    pair_P2: NDArray[np.int64]
    token_N: NDArray[np.int64]
    is_cut_N: NDArray[np.bool_]

    def split(self, sizes: Sequence[int]) -> Iterator[Scored]:
        end = 0
        for size in sizes:
            own_P = slice(end, end := end + size)
            own_N = np.unique(self.pair_P2[own_P])
            yield Scored(
                self.score_P[own_P],
                {name: score_P[own_P] for name, score_P in self.members.items()},
                len(own_N),
                int(self.token_N[own_N].sum()),
                int(self.is_cut_N[own_N].sum()),
            )
