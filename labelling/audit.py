"""Which labels of a file of pairs are probably wrong, by a bundle and by the labels of the other pairs.

The judge is cross-fitted: the probability of a pair comes from a logistic regression that has seen neither the pair's
label nor that of another pair of the same two texts, neither as target nor in a feature. Labels are ranked by the
probability of the other label (self-confidence; Northcutt et al. 2021, doi:10.1613/jair.1.12125).

Shape suffixes: P = pairs, N = texts, D = dimensions, F = features.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelling.evidence import VOTE, Evidence, Known, normalized
from simile.artifacts import Pair, PairSet
from simile.artifacts.texts import group_key, text_key
from simile.errors import InputError
from simile.scoring import Scorer

NUM_FOLDS, NUM_INNER_FOLDS = 10, 3
_CLEAR_VOTE = 0.3
"""The vote of similar pairs, from -1 to 1, that the reason names."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A labelled pair and how probable it is that the label is wrong."""

    pair: Pair
    suspicion: float
    """Probability of the other label by the cross-fitted judge, in [0, 1]."""
    reason: str
    """One sentence for the person who reads the pair."""


class Judgement(NamedTuple):
    """What the judge says of each pair."""

    suspicion_P: NDArray[np.float64]
    feature_PF: NDArray[np.float64]
    """Features by the labels of the other folds (see `Evidence.features`)."""


def audit(pairs: PairSet, scorer: Scorer, *, seed: int = 0) -> list[Suspect]:
    """Return the pairs in descending order of suspicion; equal pairs stay in the order of the file.

    Groups are used if all pairs have them. Where the bundle has prompts by side, both texts count as first ones.

    Raises:
        InputError: the pairs have graded scores or none, or fewer than `NUM_FOLDS` different pairs with some label.
    """
    label_P = _require_labels(pairs)
    evidence, pair_P2 = evidence_of(pairs, scorer)
    judged = judge(evidence, pair_P2, label_P, seed=seed)
    suspects = [
        Suspect(pair, float(suspicion), _reason(pair, suspicion, feature_F))
        for pair, suspicion, feature_F in zip(pairs.rows, *judged, strict=True)
    ]
    return sorted(suspects, key=lambda one: -one.suspicion)


def evidence_of(pairs: PairSet, scorer: Scorer) -> tuple[Evidence, NDArray[np.int64]]:
    """Return the evidence of the pairs' distinct texts, and each pair's two indices; equal texts share one index."""
    rows: dict[tuple[str, str], int] = {}
    texts: list[str] = []
    groups: dict[str, int] = {}
    group_of: list[int] = []

    def index(text: str, group: str | None) -> int:
        name = group_key(group) if pairs.have_groups and group is not None else ""
        # A text that has two groups is two texts: which group is meant depends on the pair.
        number = rows.setdefault((text_key(text), name), len(rows))
        if number == len(texts):
            texts.append(text)
            group_of.append(groups.setdefault(name, len(groups)))
        return number

    pair_P2 = np.array([(index(row.text_a, row.group_a), index(row.text_b, row.group_b)) for row in pairs.rows])
    embedding_ND = embed(texts, scorer)
    return Evidence(tuple(texts), embedding_ND, np.array(group_of) if pairs.have_groups else None), pair_P2


def embed(texts: Sequence[str], scorer: Scorer) -> NDArray[np.float64]:
    """Return the texts' embeddings by the bundle, of length 1, shape ``(N, D)``."""
    embedding_ND = scorer.embed(texts, side=0 if scorer.has_sides else None)
    return normalized(embedding_ND.astype(np.float64))


def judge(evidence: Evidence, pair_P2: NDArray[np.int64], label_P: NDArray[np.int64], *, seed: int = 0) -> Judgement:
    """Return, for each pair, the probability of the label that it does not have, by a judge that knows neither."""
    suspicion_P = np.zeros(len(label_P))
    features: dict[int, NDArray[np.float64]] = {}
    for train_P, test_P in folds_of(pair_P2, NUM_FOLDS, seed):
        known = Known(pair_P2[train_P], label_P[train_P])
        positive_P, feature_PF = _judge_by(evidence, known, pair_P2[test_P], seed=seed)
        suspicion_P[test_P] = np.where(label_P[test_P] == 1, 1 - positive_P, positive_P)
        features.update(zip(test_P.tolist(), feature_PF, strict=True))
    return Judgement(suspicion_P, np.array([features[index] for index in range(len(label_P))]))


def _judge_by(
    evidence: Evidence, known: Known, pair_P2: NDArray[np.int64], *, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probability of label 1 and the features of each pair, by the known labels alone.

    The features that the regression is fitted on are cross-fitted as well: with its own label in them, a known pair
    would look more certain than an unknown one.
    """
    parts = [
        (evidence.features(Known(known.pair_K2[others], known.label_K[others]), known.pair_K2[own]), known.label_K[own])
        for others, own in folds_of(known.pair_K2, NUM_INNER_FOLDS, seed)
    ]
    feature_KF, label_K = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(feature_KF, label_K)
    feature_PF = evidence.features(known, pair_P2)
    return model.predict_proba(feature_PF)[:, 1], feature_PF


def folds_of(pair_P2: NDArray[np.int64], num: int, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the indices of the other folds and of each fold; pairs of the same two texts are in one fold."""
    unit_U2, unit_P = np.unique(np.sort(pair_P2, axis=1), axis=0, return_inverse=True)
    # Before NumPy 2.1, the inverse has a second dimension.
    unit_P = unit_P.reshape(-1)
    # Not stratified by label: the judgement of a pair would depend on its label through the folds.
    for _, test_U in KFold(num, shuffle=True, random_state=seed).split(unit_U2):
        is_test_P = np.isin(unit_P, test_U)
        yield np.flatnonzero(~is_test_P), np.flatnonzero(is_test_P)


def _require_labels(pairs: PairSet) -> NDArray[np.int64]:
    if pairs.is_graded or not pairs.is_labelled:
        raise InputError(f"{pairs.name}: got pairs without labels, need 'label' 0 or 1 in each")
    distinct = {tuple(sorted((text_key(row.text_a), text_key(row.text_b)))): row.label for row in pairs.rows}
    nums = Counter(distinct.values())
    few = min((0, 1), key=lambda label: nums[label])
    if nums[few] < NUM_FOLDS:
        got = f"{pairs.name}: got {nums[few]} different pairs with label {few}"
        raise InputError(f"{got}, need at least {NUM_FOLDS} of each label to judge one by the others")
    return pairs.target_P.astype(np.int64)


def _reason(pair: Pair, suspicion: float, feature_F: NDArray[np.float64]) -> str:
    """Return the sentence that names the plainest evidence against the label."""
    if suspicion < 0.5:
        return "More speaks for this label than against it."
    is_same = pair.label == 1
    if pair.group_a is not None and pair.group_b is not None:
        share = group_key(pair.group_a) == group_key(pair.group_b)
        if share != is_same:
            return f"The label says {'same' if is_same else 'different'}, but the two texts are in " + (
                "the same group." if share else "different groups."
            )
    said = "different" if is_same else "same"
    if (-feature_F[VOTE] if is_same else feature_F[VOTE]) > _CLEAR_VOTE:
        return f"Pairs of texts like these two are mostly labelled {said}."
    return f"The bundle and the other labels together make {said} more probable."
