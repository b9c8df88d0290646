"""Similarity of the mined pairs to the target's: adversarial validation, and the joint distribution of the features.

Shape suffixes: P = pairs, F = features, D = dimensions; C = pairs in a view.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from mining.corpus.embeddings import Vectors
from mining.matching.target import Target
from mining.report.adversarial import Sample, adversarial_auc
from mining.sampling.features import Candidates, Floats, Indices, codes
from simile.artifacts import AdversarialAuc, CellShare, JointCell, MatchReport, Pair

_NUM_COMPONENTS = 8
"""Number of principal components of the embeddings' differences that serve as features."""
_NGRAM = 3
_NUM_BINS = {"tfidf": 3, "length_ratio": 2, "baseline": 3}
"""Number of bins of each feature in the joint distribution."""
_CLASSES = ("positive", "negative", "all")


@dataclass(frozen=True, slots=True)
class View(Candidates):
    """Pairs with their texts; a and b number these."""

    pairs: NDArray[np.object_]

    def matched_features(self) -> Floats:
        """Return the features that matching uses, shape ``(P, F)``."""
        columns = [self.tfidf_C, self.length_ratio_C, self.is_same_category_C.astype(np.float64)]
        return np.stack([*columns, self.baseline_C] if self.has_baseline else columns, axis=1)


def view_of(pairs: Sequence[Pair], vectors: Vectors | None) -> View:
    """Return mined pairs with their features."""
    lengths = np.sort([(len(pair.text_a), len(pair.text_b)) for pair in pairs], axis=1)
    texts = [(pair.text_a, pair.text_b) for pair in pairs]
    a_C, b_C = _text_numbers(pairs).T
    return View(
        a_C,
        b_C,
        np.array([pair.tfidf for pair in pairs], dtype=np.float64),
        lengths[:, 0] / lengths[:, 1],
        vectors.cosines(texts).astype(np.float64) if vectors else np.full(len(pairs), np.nan),
        np.array([pair.label == 1 for pair in pairs]),
        np.array([bool(pair.same_category) for pair in pairs]),
        np.array(pairs, dtype=object),
    )


def view_of_target(target: Target) -> View:
    """Return the target's pairs with the features that matching uses."""
    columns = {field.name: getattr(target.as_candidates, field.name) for field in fields(Candidates)}
    # Mined pairs have rounded cosines; a classifier would recognize the target's by their digits.
    columns["tfidf_C"] = columns["tfidf_C"].round(4)
    return View(**columns, pairs=np.array(target.pairs, dtype=object))


def match_report(mined: View, target: Target, vectors: Vectors | None, *, seed: int) -> MatchReport:
    """Return how similar the mined pairs are to the target's, per class (or over all, where labels are imputed).

    The adversarial AUC is measured with the matched features, and again with those of `_other_features` as well.
    """
    # The target as it is followed: each pair is kept with a probability proportional to its weight.
    random_T = np.random.default_rng(seed).random(len(target.weight_T))
    wanted = view_of_target(target).take(random_T < target.weight_T / target.weight_T.max())
    cells = _joint_cells(mined, wanted)
    adversarial: dict[str, AdversarialAuc] = {}
    distance: dict[str, float] = {}
    for name in ("positive", "negative") if target.is_labelled else ("all",):
        of_mined, of_target = (view.take(_of_class(view, name)) for view in (mined, wanted))
        if len(of_mined) and len(of_target):
            adversarial[name] = _adversarial(of_mined, of_target, vectors, seed)
            shares = [cell.share(name) for cell in cells]
            distance[name] = 0.5 * sum(abs(share.target - share.mined) for share in shares)
    return MatchReport(adversarial=adversarial, distance=distance, joint=tuple(cells))


def _of_class(view: View, name: str) -> Indices:
    """Return the indices of the ``positive``, the ``negative`` or ``all`` pairs."""
    return np.arange(len(view)) if name == "all" else np.flatnonzero(view.is_positive_C == (name == "positive"))


def _adversarial(mined: View, wanted: View, vectors: Vectors | None, seed: int) -> AdversarialAuc:
    texts = [_text_numbers(view.pairs) for view in (mined, wanted)]
    matched = [view.matched_features() for view in (mined, wanted)]
    others = _other_features(mined.pairs, wanted.pairs, vectors)
    everything = [np.hstack(both) for both in zip(matched, others, strict=True)]
    auc_matched, auc_all = (
        adversarial_auc(*map(Sample, features, texts), seed=seed) for features in (matched, everything)
    )
    return AdversarialAuc(matched=auc_matched, all=auc_all)


def _text_numbers(pairs: Collection[Pair]) -> Indices:
    return codes([text for pair in pairs for text in (pair.text_a, pair.text_b)]).reshape(-1, 2)


def _other_features(mined: Collection[Pair], wanted: Collection[Pair], vectors: Vectors | None) -> list[Floats]:
    """Return features that matching does not use, for mined and for target pairs."""
    pairs = [*mined, *wanted]
    feature_PF = np.array([_words_and_ngrams(pair) for pair in pairs])
    if vectors:
        a_PD, b_PD = vectors.of([pair.text_a for pair in pairs]), vectors.of([pair.text_b for pair in pairs])
        num = min(_NUM_COMPONENTS, *a_PD.shape)
        feature_PF = np.hstack([feature_PF, PCA(num, random_state=0).fit_transform(np.abs(a_PD - b_PD))])
    return np.split(feature_PF, [len(mined)])


def _words_and_ngrams(pair: Pair) -> tuple[float, ...]:
    """Return the word counts of the shorter and the longer text, and the Jaccard similarity of their n-grams."""
    fewer, more = sorted(len(text.split()) for text in (pair.text_a, pair.text_b))
    texts = pair.text_a.lower(), pair.text_b.lower()
    a, b = ({text[i : i + _NGRAM] for i in range(max(1, len(text) - _NGRAM + 1))} for text in texts)
    return float(fewer), float(more), len(a & b) / len(a | b)


def _joint_cells(mined: View, wanted: View) -> list[JointCell]:
    """Return the cells of the joint distribution that hold a pair; their edges are quantiles of the target's pairs."""
    edges = {
        name: np.unique(np.quantile(getattr(wanted, f"{name}_C"), np.arange(1, num) / num).round(3))
        for name, num in _NUM_BINS.items()
        if name != "baseline" or wanted.has_baseline
    }
    sizes = [*(len(inner) + 1 for inner in edges.values()), 2]
    wanted_shares, mined_shares = (_shares(view, edges, sizes) for view in (wanted, mined))
    cells = []
    for i, place in enumerate(np.ndindex(*sizes)):
        in_cell = {name: CellShare(target=wanted_shares[name][i], mined=mined_shares[name][i]) for name in _CLASSES}
        if in_cell["all"].target or in_cell["all"].mined:
            # The ends of a bin are None where it is open.
            ends = {
                name: ([None, *inner.tolist()][bin_], [*inner.tolist(), None][bin_])
                for (name, inner), bin_ in zip(edges.items(), place, strict=False)
            }
            cells.append(JointCell(**ends, same_category=bool(place[-1]), **in_cell))
    return cells


def _shares(view: View, edges: Mapping[str, Floats], sizes: Sequence[int]) -> dict[str, list[float]]:
    """Return the share of the pairs of each class that lie in each cell."""
    digits = [np.searchsorted(inner, getattr(view, f"{name}_C"), side="right") for name, inner in edges.items()]
    cell_C = np.ravel_multi_index([*digits, view.is_same_category_C.astype(np.int64)], sizes)
    indices = {name: _of_class(view, name) for name in _CLASSES}
    counts = {name: np.bincount(cell_C[index], minlength=int(np.prod(sizes))) for name, index in indices.items()}
    return {name: (counts[name] / max(1, len(index))).tolist() for name, index in indices.items()}
