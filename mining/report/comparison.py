"""Similarity of the mined pairs to the target's: adversarial validation, and the joint distribution of the features.

Shape suffixes: P = pairs, F = features, D = dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from mining.corpus.embeddings import Vectors
from mining.matching.target import Target
from mining.report.adversarial import Sample, adversarial_auc
from simile.artifacts import AdversarialAuc, CellShare, JointCell, MatchReport, Pair

_NUM_COMPONENTS = 8
"""Number of principal components of the embeddings' differences that serve as features."""
_NGRAM = 3


@dataclass(frozen=True, slots=True)
class View:
    """Pairs with their features, each of shape ``(P,)``."""

    pairs: Sequence[Pair]
    is_positive_P: NDArray[np.bool_]
    tfidf_P: NDArray[np.float64]
    length_ratio_P: NDArray[np.float64]
    is_same_category_P: NDArray[np.bool_]
    baseline_P: NDArray[np.float64] | None
    """The baseline's score; None without a baseline."""

    def matched_features(self) -> NDArray[np.float64]:
        """Return the features that matching uses, shape ``(P, F)``."""
        columns = [self.tfidf_P, self.length_ratio_P, self.is_same_category_P.astype(np.float64)]
        return np.stack([*columns, self.baseline_P] if self.baseline_P is not None else columns, axis=1)

    def take(self, index: NDArray[np.int64]) -> "View":
        """Return some of the pairs."""
        return View(
            [self.pairs[i] for i in index.tolist()],
            self.is_positive_P[index],
            self.tfidf_P[index],
            self.length_ratio_P[index],
            self.is_same_category_P[index],
            None if self.baseline_P is None else self.baseline_P[index],
        )


def view_of(pairs: Sequence[Pair], vectors: Vectors | None) -> View:
    """Return mined pairs with their features."""
    return View(
        pairs,
        np.array([pair.label == 1 for pair in pairs], dtype=bool),
        np.array([pair.tfidf for pair in pairs], dtype=np.float64),
        np.array([length_ratio(pair) for pair in pairs], dtype=np.float64),
        np.array([bool(pair.same_category) for pair in pairs], dtype=bool),
        vectors.cosines([(pair.text_a, pair.text_b) for pair in pairs]).astype(np.float64) if vectors else None,
    )


def view_of_target(target: Target) -> View:
    """Return the target's pairs with the features that matching uses."""
    pairs = target.as_candidates
    return View(
        target.pairs,
        pairs.is_positive_C,
        # Mined pairs have rounded cosines; a classifier would recognize the target's by their digits.
        pairs.tfidf_C.round(4),
        pairs.length_ratio_C,
        pairs.is_same_category_C,
        None if np.isnan(pairs.baseline_C).any() else pairs.baseline_C,
    )


def length_ratio(pair: Pair) -> float:
    """Return the shorter text's length divided by the longer one's, in characters."""
    lengths = sorted((len(pair.text_a), len(pair.text_b)))
    return lengths[0] / lengths[1]


def match_report(mined: View, target: Target, vectors: Vectors | None, *, seed: int) -> MatchReport:
    """Return how similar the mined pairs are to the target's, per class (or over all, where labels are imputed).

    The adversarial AUC is measured once with the matched features and once with further ones as well: token counts,
    common character n-grams, differences of embeddings.
    """
    wanted = _thinned(view_of_target(target), target.weight_T, np.random.default_rng(seed))
    cells = _joint_cells(mined, wanted)
    adversarial: dict[str, AdversarialAuc] = {}
    distance: dict[str, float] = {}
    for name in ("positive", "negative") if target.is_labelled else ("all",):
        of_mined, of_target = _of_class(mined, name), _of_class(wanted, name)
        if not len(of_mined) or not len(of_target):
            continue
        adversarial[name] = _adversarial(mined.take(of_mined), wanted.take(of_target), vectors, seed)
        shares = [cell.share(name) for cell in cells]
        distance[name] = 0.5 * sum(abs(share.target - share.mined) for share in shares)
    return MatchReport(adversarial=adversarial, distance=distance, joint=tuple(cells))


def _thinned(view: View, weight_T: NDArray[np.float64], rng: np.random.Generator) -> View:
    """Return the target as it is followed: each pair is kept with a probability proportional to its weight."""
    return view.take(np.flatnonzero(rng.random(len(weight_T)) < weight_T / weight_T.max()))


def _of_class(view: View, name: str) -> NDArray[np.int64]:
    """Return the indices of the ``positive``, the ``negative`` or ``all`` pairs."""
    if name == "all":
        return np.arange(len(view.pairs))
    return np.flatnonzero(view.is_positive_P == (name == "positive"))


def _adversarial(mined: View, wanted: View, vectors: Vectors | None, seed: int) -> AdversarialAuc:
    texts = [_text_numbers(view.pairs) for view in (mined, wanted)]
    matched = [view.matched_features() for view in (mined, wanted)]
    others = _other_features(mined.pairs, wanted.pairs, vectors)
    everything = [np.hstack(both) for both in zip(matched, others, strict=True)]
    auc_matched, auc_all = (
        adversarial_auc(*(Sample(*both) for both in zip(features, texts, strict=True)), seed=seed)
        for features in (matched, everything)
    )
    return AdversarialAuc(matched=auc_matched, all=auc_all)


def _text_numbers(pairs: Sequence[Pair]) -> NDArray[np.int64]:
    number: dict[str, int] = {}
    ends = [number.setdefault(text, len(number)) for pair in pairs for text in (pair.text_a, pair.text_b)]
    return np.array(ends, dtype=np.int64).reshape(-1, 2)


def _other_features(
    mined: Sequence[Pair], wanted: Sequence[Pair], vectors: Vectors | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features that matching does not use, for mined and for target pairs."""
    pairs = [*mined, *wanted]
    feature_PF = np.array([_words_and_ngrams(pair) for pair in pairs])
    if vectors:
        a_PD, b_PD = vectors.of([pair.text_a for pair in pairs]), vectors.of([pair.text_b for pair in pairs])
        num = min(_NUM_COMPONENTS, *a_PD.shape)
        feature_PF = np.hstack([feature_PF, PCA(num, random_state=0).fit_transform(np.abs(a_PD - b_PD))])
    return feature_PF[: len(mined)], feature_PF[len(mined) :]


def _words_and_ngrams(pair: Pair) -> tuple[float, ...]:
    """Return the word counts of the shorter and the longer text, and the Jaccard similarity of their n-grams."""
    fewer, more = sorted(len(text.split()) for text in (pair.text_a, pair.text_b))
    a, b = (
        {text[i : i + _NGRAM] for i in range(max(1, len(text) - _NGRAM + 1))}
        for text in (pair.text_a.lower(), pair.text_b.lower())
    )
    return float(fewer), float(more), len(a & b) / len(a | b)


def _joint_cells(mined: View, wanted: View) -> list[JointCell]:
    """Return the cells of the joint distribution that hold a pair; their edges are quantiles of the target's pairs."""
    edges = {"tfidf": _edges(wanted.tfidf_P, 3), "length_ratio": _edges(wanted.length_ratio_P, 2)}
    if mined.baseline_P is not None and wanted.baseline_P is not None:
        edges["baseline"] = _edges(wanted.baseline_P, 3)
    sizes = [*(len(inner) + 1 for inner in edges.values()), 2]
    cell_of = [_cell_numbers(view, edges, sizes) for view in (wanted, mined)]
    shares = {
        name: [
            np.bincount(cell_P[index], minlength=int(np.prod(sizes))) / max(1, len(index))
            for cell_P, index in zip(cell_of, (_of_class(wanted, name), _of_class(mined, name)), strict=True)
        ]
        for name in ("positive", "negative", "all")
    }
    cells = []
    for number, place in enumerate(product(*(range(size) for size in sizes))):
        in_cell = {
            name: CellShare(target=float(target[number]), mined=float(mined_[number]))
            for name, (target, mined_) in shares.items()
        }
        if in_cell["all"].target or in_cell["all"].mined:
            ends = {name: _ends(inner, bin_) for (name, inner), bin_ in zip(edges.items(), place, strict=False)}
            cells.append(JointCell(**ends, same_category=bool(place[-1]), **in_cell))
    return cells


def _edges(values: NDArray[np.float64], num_bins: int) -> NDArray[np.float64]:
    return np.unique(np.quantile(values, np.arange(1, num_bins) / num_bins).round(3))


def _ends(edges: NDArray[np.float64], bin_: int) -> tuple[float | None, float | None]:
    """Return the ends of a bin; None where it is open."""
    ends = [None, *edges.tolist(), None]
    return ends[bin_], ends[bin_ + 1]


def _cell_numbers(view: View, edges: Mapping[str, NDArray[np.float64]], sizes: Sequence[int]) -> NDArray[np.int64]:
    values = {"tfidf": view.tfidf_P, "length_ratio": view.length_ratio_P, "baseline": view.baseline_P}
    digits = [np.searchsorted(inner, np.asarray(values[name]), side="right") for name, inner in edges.items()]
    cell_P: NDArray[np.int64] = np.ravel_multi_index([*digits, view.is_same_category_P.astype(np.int64)], sizes)
    return cell_P
