"""The target: pairs whose difficulty the mined pairs should match, with the features of candidates.

Shape suffixes: T = pairs of the target, F = features, C = candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.random import Generator
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.corpus.embeddings import Vectors
from mining.sampling.candidates import Band, is_in_band
from mining.sampling.cells import BIN_WIDTH, tfidf_bins
from mining.sampling.features import Candidates, Features, Flags, Floats
from simile.artifacts import Document, Pair, PairSet, group_key
from simile.errors import InputError
from simile.scoring.metrics import spearman

CategorySource = Literal["categories", "labels", "nothing"]
"""The evidence that a mined pair is of one category: the documents' categories, the pairs' labels, or nothing."""
SHORTCUT_LIMIT = 0.05
"""The highest Spearman that TF-IDF alone may reach on matched pairs."""
_MAX_WEIGHT = 3.0
"""Upper bound of an importance weight, so that one rare pair is not over-sampled."""
_BINS_PER_STRETCH = 2
"""Number of adjacent TF-IDF bins within which labels are imputed together."""


@dataclass(frozen=True, slots=True)
class Target:
    """The pairs to follow, each with an importance weight."""

    pairs: tuple[Pair, ...]
    """The pairs inside the band, in the order of ``as_candidates``."""
    as_candidates: Candidates
    """The same pairs with their features; a and b number the target's texts."""
    weight_T: Floats
    band: Band
    is_labelled: bool
    """Whether the labels are the target's own; otherwise they are imputed."""
    num_outside: int
    """Number of the target's pairs outside the band that was asked for."""
    shortcut: float | None
    """Spearman that the TF-IDF cosines of ``as_candidates`` reach on the target's own labels; None if unknown."""
    knows_category_T: Flags
    """Whether the pair or its groups state if it is of one category."""


def check_target(pairs: PairSet) -> None:
    """Refuse pairs that no documents can follow: with graded scores, or all with the same label."""
    if pairs.is_graded:
        raise InputError(f"target {pairs.name}: got graded scores, need label 0|1 or no label")
    if pairs.is_labelled and len({pair.label for pair in pairs.rows}) < 2:
        raise InputError(f"target {pairs.name}: got pairs of one label only, need both")


def read_target(
    pairs: PairSet,
    tfidf: TfidfVectorizer,
    vectors: Vectors | None,
    category_of_group: Mapping[str, str | None],
    *,
    band: Band | None,
) -> Target:
    """Return the target: those of its pairs that are in the band, if there is one, with their features.

    The pairs have to pass `check_target`. Pairs without labels all count as negative until `impute` labels them; pairs
    that name only their groups get the groups' categories.
    """
    is_labelled = pairs.is_labelled
    same = [_same_category(pair, category_of_group) for pair in pairs.rows]
    candidates = _as_candidates(pairs, tfidf, vectors, same)
    low, high = band or (0.0, 1.0)
    is_in_T = is_in_band(candidates.tfidf_C, (low, high))
    if not is_in_T.any():
        got = f"TF-IDF cosines of {candidates.tfidf_C.min():.3f}-{candidates.tfidf_C.max():.3f}"
        raise InputError(f"target {pairs.name}: got {got}, need some in the band {low:g}-{high:g}")
    candidates = candidates.take(is_in_T)
    if is_labelled and (candidates.is_positive_C.all() or not candidates.is_positive_C.any()):
        raise InputError(f"target {pairs.name}: got pairs of one label only in the band {low:g}-{high:g}, need both")
    shortcut = spearman(candidates.tfidf_C, candidates.is_positive_C.astype(np.float64)) if is_labelled else None
    bins = tfidf_bins(candidates.tfidf_C)
    return Target(
        pairs=tuple(pairs.rows[int(i)] for i in np.flatnonzero(is_in_T)),
        as_candidates=candidates,
        weight_T=np.ones(len(candidates)),
        band=(max(low, float(bins.min()) * BIN_WIDTH), min(high, 1.0, float(bins.max() + 1) * BIN_WIDTH)),
        is_labelled=is_labelled,
        num_outside=int((~is_in_T).sum()),
        shortcut=None if shortcut is None or np.isnan(shortcut) else shortcut,
        knows_category_T=np.array([value is not None for value in same], dtype=bool)[is_in_T],
    )


def without_shortcut(target: Target) -> Target:
    """Return the target with weights that give both classes the same distribution of TF-IDF cosines."""
    if target.shortcut is None or abs(target.shortcut) <= SHORTCUT_LIMIT:
        return target
    bin_T = tfidf_bins(target.as_candidates.tfidf_C)
    is_positive_T = target.as_candidates.is_positive_C
    classes = is_positive_T, ~is_positive_T
    share = [np.bincount(bin_T[in_class_T], minlength=bin_T.max() + 1) / in_class_T.sum() for in_class_T in classes]
    common = np.minimum(np.add(*share) / 2, _MAX_WEIGHT * np.minimum(*share))
    if common.sum() == 0:
        raise InputError(
            "got a target whose classes have no TF-IDF cosine in common, need some overlap: "
            "word overlap alone gives every label away"
        )
    own_T = np.where(is_positive_T, share[0][bin_T], share[1][bin_T])
    return replace(target, weight_T=common[bin_T] / own_T)


def impute(target: Target, candidates: Candidates, rng: Generator) -> Target:
    """Return an unlabelled target with labels: the likelier half of every stretch of TF-IDF is positive.

    The odds of each pair come from comparing its category relation and its baseline cosine with those of the
    candidates of both classes. Labels are drawn by these odds, so that the classes overlap as the candidates' do.
    """
    odds_T = _log_odds(target, candidates)
    noisy_T = odds_T + rng.logistic(size=len(odds_T))
    stretch_T = tfidf_bins(target.as_candidates.tfidf_C) // _BINS_PER_STRETCH
    order = np.lexsort((-noisy_T, stretch_T))
    place_T = np.arange(len(order)) - np.searchsorted(stretch_T[order], stretch_T[order], side="left")
    size_T = np.bincount(stretch_T)[stretch_T[order]]
    is_positive_T = np.zeros(len(order), dtype=bool)
    is_positive_T[order] = 2 * place_T + rng.integers(2) < size_T
    return replace(target, as_candidates=replace(target.as_candidates, is_positive_C=is_positive_T))


def settle_same_category(target: Target, source: CategorySource, same_category: float, rng: Generator) -> Target:
    """Return the target with category relations that pairs of the documents can have.

    Where a pair does not state its relation, positives are of one category, and so is the share ``same_category`` of
    the negatives. If categories label the pairs, exactly the positives are of one category; without categories, none.
    """
    candidates = target.as_candidates
    if source == "labels":
        is_same_T = candidates.is_positive_C
    elif source == "nothing":
        is_same_T = np.zeros(len(candidates), dtype=bool)
    else:
        guess_T = candidates.is_positive_C | (rng.random(len(candidates)) < same_category)
        is_same_T = np.where(target.knows_category_T, candidates.is_same_category_C, guess_T)
    return replace(target, as_candidates=replace(candidates, is_same_category_C=is_same_T))


def categories_of_groups(rows: Sequence[Document]) -> dict[str, str | None]:
    """Return the category of each group's first document, by the group's key."""
    return {group_key(row.group): row.category for row in reversed(rows) if row.group is not None}


def _same_category(pair: Pair, category_of_group: Mapping[str, str | None]) -> bool | None:
    if pair.same_category is not None or pair.group_a is None or pair.group_b is None:
        return pair.same_category
    a, b = (category_of_group.get(group_key(group)) for group in (pair.group_a, pair.group_b))
    return None if a is None or b is None else a == b


def _as_candidates(
    pairs: PairSet, tfidf: TfidfVectorizer, vectors: Vectors | None, same: Sequence[bool | None]
) -> Candidates:
    texts = list(dict.fromkeys(text for pair in pairs.texts for text in pair))
    number = {text: i for i, text in enumerate(texts)}
    rows = [Document(str(i), text) for i, text in enumerate(texts)]
    features = Features(rows, tfidf.transform(texts), vectors.of(texts) if vectors else None)
    a_T, b_T = np.array([[number[text] for text in pair] for pair in pairs.texts], dtype=np.int64).T
    return replace(
        features.candidates(features.with_tfidf(a_T, b_T), is_positive=False),
        is_positive_C=np.array([pair.label == 1 for pair in pairs.rows], dtype=bool),
        is_same_category_C=np.array(same, dtype=bool),
    )


def _log_odds(target: Target, candidates: Candidates) -> Floats:
    """Return for each pair of the target the log odds that it is positive, judged by the candidates of both classes."""
    odds_T = np.zeros(len(target.as_candidates))
    positive, negative = candidates.take(candidates.is_positive_C), candidates.take(~candidates.is_positive_C)
    if target.knows_category_T.all() and len(positive) and len(negative):
        share = [np.clip(pairs.is_same_category_C.mean(), 0.01, 0.99) for pairs in (positive, negative)]
        is_same_T = target.as_candidates.is_same_category_C
        odds_T += np.where(is_same_T, np.log(share[0] / share[1]), np.log((1 - share[0]) / (1 - share[1])))
    if target.as_candidates.has_baseline and len(positive) > 1 and len(negative) > 1:
        mean = [pairs.baseline_C.mean() for pairs in (positive, negative)]
        spread = max(0.02, float(np.sqrt(np.mean([pairs.baseline_C.var() for pairs in (positive, negative)]))))
        odds_T += (target.as_candidates.baseline_C - np.mean(mean)) * (mean[0] - mean[1]) / spread**2
    # The small constant keeps every probability away from 0 and 1.
    return np.asarray(np.log(expit(odds_T) + 1e-3) - np.log(expit(-odds_T) + 1e-3))
