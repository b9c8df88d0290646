"""What to label: pairs proposed from documents, and a stratified sample of pairs.

Shape suffixes: N = documents, B = documents of a block, D = dimensions, R = ranks, P = pairs, S = strata.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simile.artifacts.sampled_pairs import SampledPair
from simile.artifacts.strata import STRATA, equal_shares, strata_of
from simile.errors import InputError

NEAREST = 10
"""Nearest neighbours of each document that are proposed; beyond them, only the ranks 16, 32, 64, ... are."""
_BLOCK = 256


@dataclass(frozen=True, slots=True)
class StratumCounts:
    """How many pairs of one stratum there are, and how many were sampled."""

    name: str
    population: int
    """Number of different pairs."""
    weight: float
    """Number of pairs that these stand for: the requests' pairs, where they are a sample of traffic."""
    sample: int


def propose_pairs(embedding_ND: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return pairs of documents from near to far, by their indices, shape ``(P, 2)``, each pair once.

    Each document is paired with its `NEAREST` neighbours by cosine, and with those whose rank is a greater power of 2:
    most pairs are hard ones, and every band of scores has some.

    Args:
        embedding_ND: one vector of length 1 per document.
    """
    num = len(embedding_ND)
    powers = 2 ** np.arange(4, max(4, num.bit_length()))
    rank_R = np.concatenate([np.arange(1, NEAREST + 1), powers])
    # Rank 0 is the document itself.
    rank_R = rank_R[rank_R < num]
    keys = []
    for begin in range(0, num, _BLOCK):
        cosine_BN = embedding_ND[begin : begin + _BLOCK] @ embedding_ND.T
        own_B = np.arange(begin, begin + len(cosine_BN))
        cosine_BN[np.arange(len(own_B)), own_B] = np.inf
        other_BR = np.argsort(-cosine_BN, axis=1, kind="stable")[:, rank_R]
        own_BR = np.broadcast_to(own_B[:, None], other_BR.shape)
        keys.append(np.unique(np.minimum(own_BR, other_BR) * num + np.maximum(own_BR, other_BR)))
    first_P, second_P = np.divmod(np.unique(np.concatenate(keys)) if keys else np.empty(0, np.int64), max(num, 1))
    return np.stack([first_P, second_P], axis=1)


def sample_pairs(
    pairs: Sequence[SampledPair], num: int, *, seed: int
) -> tuple[tuple[SampledPair, ...], tuple[StratumCounts, ...]]:
    """Return up to ``num`` of the pairs in random order, and the counts of each stratum that has any.

    The strata are bins of the bundle's score or, unless all pairs have one, of the baseline's. Each gives as many pairs
    as the others, or all it has, drawn at random without replacement: each of its pairs is in the sample with the
    probability ``sample / population``. That is multiplied by the probability with which the pair came among ``pairs``.

    Raises:
        InputError: a pair has no score.
    """
    random = np.random.default_rng(seed)
    stratum_P = strata_of(_scores(pairs))
    population_S = np.bincount(stratum_P, minlength=len(STRATA)).astype(np.float64)
    sample_S = equal_shares(population_S, num, whole=True).astype(np.int64)
    sample: list[SampledPair] = []
    counts = []
    for stratum in np.flatnonzero(population_S).tolist():
        (own,) = np.nonzero(stratum_P == stratum)
        chosen = random.choice(own, size=sample_S[stratum], replace=False).tolist()
        share = sample_S[stratum] / population_S[stratum]
        sample += [_drawn(pairs[i], STRATA[stratum], share) for i in chosen]
        weight = sum(1 / pairs[i].inclusion_probability for i in own.tolist())
        counts.append(StratumCounts(STRATA[stratum], len(own), weight, len(chosen)))
    return tuple(sample[i] for i in random.permutation(len(sample)).tolist()), tuple(counts)


def _scores(pairs: Sequence[SampledPair]) -> NDArray[np.float64]:
    """Return the bundle's score of each pair or, unless all have one, the baseline's; refuse pairs without."""
    of_bundle = [pair.bundle_score for pair in pairs]
    scores = [pair.baseline_score for pair in pairs] if None in of_bundle else of_bundle
    if None in scores:
        key = pairs[scores.index(None)].key
        raise InputError(f"got a pair without bundle_score or baseline_score (key {key}), need one to sample by")
    return np.array(scores, dtype=np.float64)


def _drawn(pair: SampledPair, stratum: str, share: float) -> SampledPair:
    return replace(pair, stratum=stratum, inclusion_probability=float(pair.inclusion_probability * share))
