"""How like the target the mined pairs are: a classifier that tries to tell them apart, and the joint table.

Shape suffixes: P = pairs, T = pairs of the target, F = features, D = dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from mining.corpus.embeddings import Vectors
from mining.matching.target import Target
from mining.report.adversarial import Sample, adversarial_auc
from simile.artifacts import Pair

_DIFFERENCES = 8
"""Principal components of the embeddings' differences."""
_NGRAM = 3


@dataclass(frozen=True, slots=True)
class View:
    """Pairs by their features, each of shape ``(P,)``."""

    pairs: Sequence[Pair]
    is_positive_P: NDArray[np.bool_]
    tfidf_P: NDArray[np.float64]
    length_ratio_P: NDArray[np.float64]
    is_same_category_P: NDArray[np.bool_]
    baseline_P: NDArray[np.float64] | None
    """The baseline's score, where there is one."""

    def matched_features(self) -> NDArray[np.float64]:
        """Return what matching goes by, shape ``(P, F)``."""
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
    """Return mined pairs by their features."""
    return View(
        pairs,
        np.array([pair.label == 1 for pair in pairs], dtype=bool),
        np.array([pair.tfidf for pair in pairs], dtype=np.float64),
        np.array([length_ratio(pair) for pair in pairs], dtype=np.float64),
        np.array([bool(pair.same_category) for pair in pairs], dtype=bool),
        vectors.cosines([(pair.text_a, pair.text_b) for pair in pairs]).astype(np.float64) if vectors else None,
    )


def view_of_target(target: Target) -> View:
    """Return the target's pairs by their features, as matching sees them."""
    baseline_T = target.like.baseline_C
    return View(
        target.pairs,
        target.like.is_positive_C,
        # As mined pairs have it: a classifier would know them by their digits.
        target.like.tfidf_C.round(4),
        target.like.length_ratio_C,
        target.like.is_same_category_C,
        None if np.isnan(baseline_T).any() else baseline_T,
    )


def length_ratio(pair: Pair) -> float:
    """Return the shorter text's length by the longer one's, in characters."""
    lengths = sorted((len(pair.text_a), len(pair.text_b)))
    return lengths[0] / lengths[1]


def proof(mined: View, target: Target, vectors: Vectors | None, *, seed: int) -> dict[str, Any]:
    """Return how far mined pairs can be told from the target's, per class (or over all, where labels are imputed).

    ``adversarial``: AUC on the features that are matched, and on these and others (token counts, common character
    n-grams, differences of embeddings). ``joint``: each cell's share of the target and of the mined pairs, and
    ``distance``, the total variation distance between them, in [0, 1].
    """
    wanted = _thinned(view_of_target(target), target.weight_T, np.random.default_rng(seed))
    found: dict[str, Any] = {"adversarial": {}, "distance": {}}
    joint = _joint(mined, wanted)
    for name, of_mined, of_target in _classes(mined, wanted, is_labelled=target.is_labelled):
        if not len(of_mined) or not len(of_target):
            continue
        found["adversarial"][name] = _adversarial(mined.take(of_mined), wanted.take(of_target), vectors, seed)
        shares = [(cell[name]["target"], cell[name]["mined"]) for cell in joint]
        found["distance"][name] = 0.5 * sum(abs(a - b) for a, b in shares)
    return found | {"joint": joint}


def _thinned(view: View, weight_T: NDArray[np.float64], rng: np.random.Generator) -> View:
    """Return the target as it is followed: a pair of less weight is there with less probability."""
    return view.take(np.flatnonzero(rng.random(len(weight_T)) < weight_T / weight_T.max()))


def _classes(mined: View, wanted: View, *, is_labelled: bool) -> list[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    if not is_labelled:
        return [("all", np.arange(len(mined.pairs)), np.arange(len(wanted.pairs)))]
    return [
        (name, np.flatnonzero(mined.is_positive_P == label), np.flatnonzero(wanted.is_positive_P == label))
        for name, label in (("positive", True), ("negative", False))
    ]


def _adversarial(mined: View, wanted: View, vectors: Vectors | None, seed: int) -> dict[str, float | None]:
    texts = [_text_numbers(view.pairs) for view in (mined, wanted)]
    matched = [view.matched_features() for view in (mined, wanted)]
    others = _other_features(mined.pairs, wanted.pairs, vectors)
    everything = [np.hstack(both) for both in zip(matched, others, strict=True)]
    return {
        name: adversarial_auc(*(Sample(*both) for both in zip(features, texts, strict=True)), seed=seed)
        for name, features in (("matched", matched), ("all", everything))
    }


def _text_numbers(pairs: Sequence[Pair]) -> NDArray[np.int64]:
    number: dict[str, int] = {}
    ends = [number.setdefault(text, len(number)) for pair in pairs for text in (pair.text_a, pair.text_b)]
    return np.array(ends, dtype=np.int64).reshape(-1, 2)


def _other_features(
    mined: Sequence[Pair], wanted: Sequence[Pair], vectors: Vectors | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features that matching does not go by, for mined and for target pairs."""
    pairs = [*mined, *wanted]
    plain = np.array([_words_and_ngrams(pair) for pair in pairs])
    if vectors:
        a_PD, b_PD = vectors.of([pair.text_a for pair in pairs]), vectors.of([pair.text_b for pair in pairs])
        num = min(_DIFFERENCES, *a_PD.shape)
        plain = np.hstack([plain, PCA(num, random_state=0).fit_transform(np.abs(a_PD - b_PD))])
    return plain[: len(mined)], plain[len(mined) :]


def _words_and_ngrams(pair: Pair) -> tuple[float, ...]:
    """Return the words of the shorter and of the longer text, and the Jaccard similarity of their character n-grams."""
    fewer, more = sorted(len(text.split()) for text in (pair.text_a, pair.text_b))
    a, b = (
        {text[i : i + _NGRAM] for i in range(max(1, len(text) - _NGRAM + 1))}
        for text in (pair.text_a.lower(), pair.text_b.lower())
    )
    return float(fewer), float(more), len(a & b) / len(a | b)


def _joint(mined: View, wanted: View) -> list[dict[str, Any]]:
    """Return the cells of the joint table that hold a pair, each with the shares of either class it holds.

    The edges are quantiles of the target's.
    """
    edges = {"tfidf": _edges(wanted.tfidf_P, 3), "length_ratio": _edges(wanted.length_ratio_P, 2)}
    if mined.baseline_P is not None and wanted.baseline_P is not None:
        edges["baseline"] = _edges(wanted.baseline_P, 3)
    cell_of = [_cell_numbers(view, edges) for view in (wanted, mined)]
    sizes = [*(len(of) + 1 for of in edges.values()), 2]
    groups = {"positive": True, "negative": False, "all": None}
    shares = {
        name: [
            _shares(cells, view, label, int(np.prod(sizes)))
            for cells, view in zip(cell_of, (wanted, mined), strict=True)
        ]
        for name, label in groups.items()
    }
    found = []
    for number, place in enumerate(product(*(range(size) for size in sizes))):
        if shares["all"][0][number] or shares["all"][1][number]:
            ends = {name: _ends(of, bin_) for (name, of), bin_ in zip(edges.items(), place, strict=False)}
            found.append(
                {
                    **ends,
                    "same_category": bool(place[-1]),
                    **{
                        name: {"target": float(of[0][number]), "mined": float(of[1][number])}
                        for name, of in shares.items()
                    },
                }
            )
    return found


def _edges(values: NDArray[np.float64], num_bins: int) -> NDArray[np.float64]:
    return np.unique(np.quantile(values, np.arange(1, num_bins) / num_bins).round(3))


def _ends(edges: NDArray[np.float64], bin_: int) -> list[float | None]:
    """Return the ends of a bin; None where it is open."""
    ends = [None, *edges.tolist(), None]
    return [ends[bin_], ends[bin_ + 1]]


def _cell_numbers(view: View, edges: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int64]:
    values = {"tfidf": view.tfidf_P, "length_ratio": view.length_ratio_P, "baseline": view.baseline_P}
    digits = [np.searchsorted(of, np.asarray(values[name]), side="right") for name, of in edges.items()]
    sizes = [*(len(of) + 1 for of in edges.values()), 2]
    found: NDArray[np.int64] = np.ravel_multi_index([*digits, view.is_same_category_P.astype(np.int64)], sizes)
    return found


def _shares(cell_P: NDArray[np.int64], view: View, label: bool | None, num: int) -> NDArray[np.float64]:
    of_class = cell_P if label is None else cell_P[view.is_positive_P == label]
    return np.bincount(of_class, minlength=num) / max(1, len(of_class))
