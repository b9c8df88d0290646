"""Learned fusion: the weights of an ensemble's members, chosen by Spearman's correlation on labelled pairs.

Members are added greedily, each as often as it helps, to the best one (ensemble selection with replacement, Caruana et
al. 2004): the mean is then never worse on these pairs than the best member, and a member that does not help gets no
weight. Whether weights hold on other pairs is cross-fitted: they are learned on the pairs within one half of the groups
(or texts, where no groups are known) and compared with the best member on the pairs within the other half.

Shape suffixes: P = pairs, M = members.
"""

from collections.abc import Iterator
from itertools import pairwise
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import PairSet
from simile.scoring.metrics import spearman

_STEPS = 20
"""Number of additions at most; the weights are multiples of one over the number that was best."""
_REPEATS, _MIN_PAIRS = 5, 20
"""Number of random halvings, and the fewest pairs within a half."""

Scores = NDArray[np.float32]
Flags = NDArray[np.bool_]
Weights = NDArray[np.float64]


def fuse(score_PM: Scores, pairs: PairSet) -> Weights:
    """Return the weight of each member, non-negative with sum 1.

    Args:
        score_PM: the members' cosines.
        pairs: the same pairs, with labels or scores.

    Returns:
        The learned weights if they surpass the best member on halves that they were not learned on, or if the pairs
        cannot be halved; otherwise all weight is on the best member.
    """
    target_P = pairs.target_P
    gains = [
        _spearman(score_PM[held], _weights(score_PM[fitted], target_P[fitted]), target_P[held])
        - _spearman(score_PM[held], _best(score_PM[fitted], target_P[fitted]), target_P[held])
        for fitted, held in _halves(pairs, target_P)
    ]
    return _best(score_PM, target_P) if gains and mean(gains) <= 0 else _weights(score_PM, target_P)


def _weights(score_PM: Scores, target_P: NDArray[np.float64]) -> Weights:
    """Return the weights with the highest correlation that greedy addition passes through, from the best member on."""
    counts = [_best(score_PM, target_P)]
    for _ in range(1, _STEPS):
        added = counts[-1] + np.eye(score_PM.shape[1])
        counts.append(max(added, key=lambda count_M: _spearman(score_PM, count_M, target_P)))
    best = max(counts, key=lambda count_M: _spearman(score_PM, count_M, target_P))
    weights: Weights = best / best.sum()
    return weights


def _best(score_PM: Scores, target_P: NDArray[np.float64]) -> Weights:
    """Return all weight on the member with the highest correlation."""
    one_hot_MM: Weights = np.eye(score_PM.shape[1])
    best_M: Weights = one_hot_MM[np.argmax([_spearman(score_PM, weight_M, target_P) for weight_M in one_hot_MM])]
    return best_M


def _spearman(score_PM: Scores, weight_M: Weights, target_P: NDArray[np.float64]) -> float:
    """Return the correlation of the weighted sum with the target; -1 where the sum is constant."""
    value = spearman(score_PM @ weight_M, target_P)
    return -1.0 if np.isnan(value) else value


def _halves(pairs: PairSet, target_P: NDArray[np.float64]) -> Iterator[tuple[Flags, Flags]]:
    """Yield masks ``(P,)`` of the pairs within one random half of the groups or texts, and within the other half."""
    units = {unit: place for place, unit in enumerate(dict.fromkeys(end for ends in pairs.ends for end in ends))}
    end_P2 = np.array([[units[end] for end in ends] for ends in pairs.ends])
    rng = np.random.default_rng(0)
    for _ in range(_REPEATS):
        half_P2 = (rng.permutation(len(units)) % 2)[end_P2]
        within = [(half_P2 == half).all(axis=1) for half in (0, 1)]
        if all(flags.sum() >= _MIN_PAIRS and len(np.unique(target_P[flags])) > 1 for flags in within):
            yield from pairwise([*within, within[0]])
