"""The target: pairs as hard as which to mine, seen as candidates are.

Shape suffixes: T = pairs of the target, F = features, C = candidates.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.corpus.embeddings import Vectors
from mining.sampling.candidates import is_in_band
from mining.sampling.cells import BIN_WIDTH, tfidf_bins
from mining.sampling.features import Candidates, Features
from simile.artifacts import Document, Pair, PairSet
from simile.errors import InputError
from simile.scoring.metrics import spearman

KindSource = Literal["categories", "labels", "nothing"]
"""What says of the mined pairs whether they are of one category."""
SHORTCUT_LIMIT = 0.05
"""TF-IDF alone may order matched pairs no better than this."""
_MOST_WEIGHT = 3.0
"""Of one pair against another: a rare one is not to stand for a multitude."""
_IMPUTED_BIN = 2
"""TF-IDF bins that are taken together where labels are imputed."""


@dataclass(frozen=True, slots=True)
class Target:
    """Labelled pairs to follow, each with a weight."""

    pairs: tuple[Pair, ...]
    """Those inside the band, in the order of ``like``."""
    like: Candidates
    """The same pairs with their features; a and b are numbers of their texts."""
    weight_T: NDArray[np.float64]
    band: tuple[float, float]
    is_labelled: bool
    """Whether the labels are the target's own; else they are imputed."""
    num_outside: int
    """Pairs of the target outside the band that was asked for."""
    shortcut: float | None
    """Spearman of TF-IDF alone on the target's labels."""
    knows_category_T: NDArray[np.bool_]
    """Whether the pair says, or its groups say, if it is of one category."""


def check_target(pairs: PairSet) -> None:
    """Refuse pairs that cannot be followed, whatever the documents are.

    Raises:
        InputError: they are graded, or all have the same label.
    """
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
    band: tuple[float, float] | None,
) -> Target:
    """Return the target's pairs and their features; where it has no labels, none are there yet (see `impute`).

    Args:
        pairs: labelled, or not; such as pass `check_target`.
        tfidf: of the documents.
        vectors: of the baseline, where that is to be followed too.
        category_of_group: of the documents, for pairs that name their groups only.
        band: TF-IDF cosines to keep; None for all.

    Raises:
        InputError: no pair lies in the band, or all there have the same label.
    """
    is_labelled = pairs.is_labelled
    same = [_same_category(pair, category_of_group) for pair in pairs.rows]
    like = _as_candidates(pairs, tfidf, vectors, is_labelled=is_labelled, same=same)
    low, high = band or (0.0, 1.0)
    is_in_T = is_in_band(like.tfidf_C, (low, high))
    if not is_in_T.any():
        found = f"{like.tfidf_C.min():.3f}-{like.tfidf_C.max():.3f}"
        raise InputError(f"target {pairs.name}: got TF-IDF cosines of {found}, need some in the band {low:g}-{high:g}")
    like, rows = like.take(is_in_T), tuple(pair for pair, is_in in zip(pairs.rows, is_in_T, strict=True) if is_in)
    if is_labelled and (like.is_positive_C.all() or not like.is_positive_C.any()):
        raise InputError(f"target {pairs.name}: got pairs of one label only in the band {low:g}-{high:g}, need both")
    shortcut = spearman(like.tfidf_C, like.is_positive_C.astype(np.float64)) if is_labelled else None
    bins = tfidf_bins(like.tfidf_C)
    return Target(
        pairs=rows,
        like=like,
        weight_T=np.ones(len(like)),
        band=(max(low, float(bins.min()) * BIN_WIDTH), min(high, 1.0, float(bins.max() + 1) * BIN_WIDTH)),
        is_labelled=is_labelled,
        num_outside=int((~is_in_T).sum()),
        shortcut=None if shortcut is None or np.isnan(shortcut) else shortcut,
        knows_category_T=np.array([value is not None for value in same], dtype=bool)[is_in_T],
    )


def without_shortcut(target: Target) -> Target:
    """Return the target weighted so that words do not tell the classes apart: both have all pairs' TF-IDF.

    Raises:
        InputError: the classes have no TF-IDF bin in common.
    """
    if target.shortcut is None or abs(target.shortcut) <= SHORTCUT_LIMIT:
        return target
    bin_T = tfidf_bins(target.like.tfidf_C)
    is_positive_T = target.like.is_positive_C
    share = [np.bincount(bin_T[of], minlength=bin_T.max() + 1) / of.sum() for of in (is_positive_T, ~is_positive_T)]
    both = np.minimum(np.add(*share) / 2, _MOST_WEIGHT * np.minimum(*share))
    if both.sum() == 0:
        raise InputError("the target's classes have no TF-IDF cosine in common: any pair's label is known by its words")
    own_T = np.where(is_positive_T, share[0][bin_T], share[1][bin_T])
    return replace(target, weight_T=both[bin_T] / own_T)


def impute(target: Target, candidates: Candidates, rng: np.random.Generator) -> Target:
    """Return an unlabelled target with labels: in every stretch of TF-IDF the half that is more like the positives.

    How much each pair is like the candidates of either class is judged by category and by the baseline's cosine, and
    drawn by its odds, so that the classes overlap as the candidates do.
    """
    odds_T = _log_odds(target, candidates)
    noisy_T = odds_T + rng.logistic(size=len(odds_T))
    stretch_T = tfidf_bins(target.like.tfidf_C) // _IMPUTED_BIN
    order = np.lexsort((-noisy_T, stretch_T))
    place_T = np.arange(len(order)) - np.searchsorted(stretch_T[order], stretch_T[order], side="left")
    size_T = np.bincount(stretch_T)[stretch_T[order]]
    is_positive_T = np.zeros(len(order), dtype=bool)
    is_positive_T[order] = 2 * place_T + rng.integers(2) < size_T
    return replace(target, like=replace(target.like, is_positive_C=is_positive_T))


def settle_kinds(target: Target, source: KindSource, same_category: float, rng: np.random.Generator) -> Target:
    """Return the target with pairs of one category as the documents can have them.

    Where a pair does not say its kind, positives are of one category, and so is a share of the negatives. Where the
    category is what labels the documents, the positives are, and no other; where there are none, no pair is.
    """
    like = target.like
    if source == "labels":
        is_same_T = like.is_positive_C
    elif source == "nothing":
        is_same_T = np.zeros(len(like), dtype=bool)
    else:
        guess_T = like.is_positive_C | (rng.random(len(like)) < same_category)
        is_same_T = np.where(target.knows_category_T, like.is_same_category_C, guess_T)
    return replace(target, like=replace(like, is_same_category_C=is_same_T))


def categories_of_groups(rows: Iterable[Document]) -> dict[str, str | None]:
    """Return the category of each group's first document."""
    found: dict[str, str | None] = {}
    for row in rows:
        if row.group is not None:
            found.setdefault(row.group, row.category)
    return found


def _same_category(pair: Pair, category_of_group: Mapping[str, str | None]) -> bool | None:
    if pair.same_category is not None:
        return pair.same_category
    if pair.group_a is None or pair.group_b is None:
        return None
    a, b = category_of_group.get(pair.group_a), category_of_group.get(pair.group_b)
    return None if a is None or b is None else a == b


def _as_candidates(
    pairs: PairSet, tfidf: TfidfVectorizer, vectors: Vectors | None, *, is_labelled: bool, same: Sequence[bool | None]
) -> Candidates:
    texts = list(dict.fromkeys(text for pair in pairs.texts for text in pair))
    number = {text: i for i, text in enumerate(texts)}
    features = Features(
        [Document(str(i), text) for i, text in enumerate(texts)],
        tfidf.transform(texts),
        vectors.of(texts) if vectors else None,
    )
    a_T, b_T = (np.array([number[pair[side]] for pair in pairs.texts], dtype=np.int64) for side in (0, 1))
    found = features.candidates(a_T, b_T, features.tfidf(a_T, b_T), is_positive=False)
    return replace(
        found,
        is_positive_C=np.array([is_labelled and pair.label == 1 for pair in pairs.rows], dtype=bool),
        is_same_category_C=np.array([bool(value) for value in same], dtype=bool),
    )


def _log_odds(target: Target, candidates: Candidates) -> NDArray[np.float64]:
    """Return how much more likely each pair of the target is among positive candidates than among negative ones."""
    odds_T = np.zeros(len(target.like))
    positive, negative = candidates.take(candidates.is_positive_C), candidates.take(~candidates.is_positive_C)
    if target.knows_category_T.all() and len(positive) and len(negative):
        share = [np.clip(of.is_same_category_C.mean(), 0.01, 0.99) for of in (positive, negative)]
        is_same_T = target.like.is_same_category_C
        odds_T += np.where(is_same_T, np.log(share[0] / share[1]), np.log((1 - share[0]) / (1 - share[1])))
    baseline_T = target.like.baseline_C
    if not np.isnan(baseline_T).any() and len(positive) > 1 and len(negative) > 1:
        mean = [of.baseline_C.mean() for of in (positive, negative)]
        spread = max(0.02, float(np.sqrt(np.mean([of.baseline_C.var() for of in (positive, negative)]))))
        odds_T += (baseline_T - np.mean(mean)) * (mean[0] - mean[1]) / spread**2
    # No pair is taken for sure.
    return np.asarray(np.log(expit(odds_T) + 1e-3) - np.log(expit(-odds_T) + 1e-3))
