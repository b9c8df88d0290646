"""Documents -> hard pairs: split, draw candidates, choose, write, and say how hard they are.

Shape suffixes: N = documents, W = words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from mining.candidates import BIN_WIDTH, Candidates, sample_candidates
from mining.config import MineConfig
from mining.recipes import Wanted, bands, matched, shape_of
from mining.split import split_documents
from simile.artifacts import Document, Documents, Pair, PairSet, write_pairs
from simile.errors import InputError
from simile.progress import Progress

HELD_OUT_SHARE = 0.2
"""Pairs of each held-out set, as a share of the training pairs."""
MIN_HELD_OUT = 4000
"""... and at least this many, where the documents give them: small sets make wide intervals."""
_CELL_SURPLUS = 3
"""Candidates kept of each cell, over the pairs wanted on average: caps and uneven cells need a choice."""


@dataclass(frozen=True, slots=True)
class Mined:
    """The pairs of each set and what is known of them."""

    sets: dict[str, list[Pair]]
    """``pairs`` (for training) and the held-out sets."""
    facts: dict[str, Any]
    """For the report: documents, groups, what was dropped, the band, shortfalls."""


def fit_tfidf(texts: list[str]) -> TfidfVectorizer:
    """Return the TF-IDF of these texts, sublinear in the term frequency, as every lexical figure here uses it.

    Raises:
        InputError: there is no word in them.
    """
    try:
        return TfidfVectorizer(sublinear_tf=True).fit(texts)
    except ValueError as error:
        raise InputError(
            f"got {len(texts)} texts without a single word of two letters, need words for TF-IDF"
        ) from error


def mine(
    documents: Documents, config: MineConfig, target: PairSet | None = None, *, held_out: Iterable[str] = ()
) -> Mined:
    """Return pairs mined from the documents, for training and held out.

    Args:
        documents: with groups (or, noisily, with categories).
        config: what to mine.
        target: pairs whose TF-IDF distribution the mined ones follow; its texts are kept out.
        held_out: more texts to keep out, those of test pairs say.

    Raises:
        InputError: the documents cannot give the pairs.
    """
    target_texts = [text for pair in target.texts for text in pair] if target else []
    split = split_documents(
        documents,
        dev_share=config.dev_share,
        test_share=config.test_share,
        held_out_texts=[*target_texts, *held_out],
        seed=config.seed,
    )
    vectorizer = fit_tfidf([row.text for row in documents.rows])
    shape, band = _target_shape(vectorizer, target, config)
    sets: dict[str, list[Pair]] = {}
    with Progress("mining", sum(map(len, split.sets.values())), "documents") as progress:
        for name, rows in split.sets.items():
            num = config.pairs if name == "train" else max(MIN_HELD_OUT, round(HELD_OUT_SHARE * config.pairs))
            tfidf_NW = vectorizer.transform([row.text for row in rows])
            found = _mine_set(rows, tfidf_NW, config, _Job(num, band, shape), progress)
            progress.advance(0, note=name)
            sets["pairs" if name == "train" else name] = found
    _require_both_classes(sets["pairs"], config, band)
    # A held-out set too small for two classes judges nothing.
    sets = {name: pairs for name, pairs in sets.items() if len({pair.label for pair in pairs}) == 2}
    facts = {
        "documents": len(documents.rows),
        "groups": len({row.group for rows in split.sets.values() for row in rows}),
        "cut": documents.num_cut,
        "dropped": split.dropped,
        "labels_are_noisy": split.labels_are_noisy,
        "target_is_followed": shape is not None if target else None,
        "distance_to_target": _distance(shape, sets["pairs"]) if shape else None,
        "band": list(band),
        "wanted": config.pairs,
        "split": {
            name: {"documents": len(rows), "groups": len({row.group for row in rows})}
            for name, rows in split.sets.items()
        },
    }
    return Mined(sets, facts)


@dataclass(frozen=True, slots=True)
class _Job:
    num_pairs: int
    band: tuple[float, float]
    shape: dict[int, float] | None


def _target_shape(
    vectorizer: TfidfVectorizer, target: PairSet | None, config: MineConfig
) -> tuple[dict[int, float] | None, tuple[float, float]]:
    """Return the share of pairs by TF-IDF bin (None: what the candidates can fill) and the band they lie in."""
    if config.recipe == "bands":
        ends = (*config.positive_band, *config.negative_band)
        return None, (min(ends), max(ends))
    if target is None:
        return None, config.band
    tfidf_P = tfidf_cosines(vectorizer, target)
    shape = shape_of(tfidf_P)
    return shape, (min(shape) * BIN_WIDTH, min(1.0, (max(shape) + 1) * BIN_WIDTH))


def _distance(shape: Mapping[int, float], pairs: Sequence[Pair]) -> float:
    """Return the total variation distance of the pairs' TF-IDF histogram from this one, in [0, 1]."""
    found = shape_of([float(pair.tfidf or 0) for pair in pairs])
    return 0.5 * sum(abs(shape.get(bin_, 0) - found.get(bin_, 0)) for bin_ in {*shape, *found})


def tfidf_cosines(vectorizer: TfidfVectorizer, pairs: PairSet) -> NDArray[np.float64]:
    """Return the TF-IDF cosine of each pair, shape ``(P,)``."""
    a_PW = vectorizer.transform([a for a, _ in pairs.texts])
    b_PW = vectorizer.transform([b for _, b in pairs.texts])
    return np.asarray(a_PW.multiply(b_PW).sum(axis=1), dtype=np.float64).ravel()


def _mine_set(
    rows: tuple[Document, ...], tfidf_NW: csr_matrix, config: MineConfig, job: _Job, progress: Progress
) -> list[Pair]:
    num_bins = max(1, round((job.band[1] - job.band[0]) / BIN_WIDTH))
    shares = job.shape or dict.fromkeys(range(round(1 / BIN_WIDTH) + 1), 1 / num_bins)
    candidates = sample_candidates(
        rows,
        tfidf_NW,
        band=job.band,
        per_cell={bin_: max(64, round(_CELL_SURPLUS * share * job.num_pairs)) for bin_, share in shares.items()},
        seed=config.seed,
        on_progress=progress.advance,
    )
    wanted = Wanted(job.num_pairs, config.same_category, config.max_uses)
    if config.recipe == "bands":
        chosen = bands(candidates, wanted, config.positive_band, config.negative_band)
    else:
        chosen = matched(candidates, wanted, job.shape)
    # The recipes take what comes first of each cell: only now is the order free of the classes.
    return _pairs(rows, candidates.take(np.random.default_rng(config.seed).permutation(chosen)))


def _pairs(rows: tuple[Document, ...], chosen: Candidates) -> list[Pair]:
    return [
        Pair(
            text_a=rows[a].text,
            text_b=rows[b].text,
            label=int(is_positive),
            group_a=rows[a].group,
            group_b=rows[b].group,
            tfidf=round(float(tfidf), 4),
            same_category=bool(is_same) if None not in (rows[a].category, rows[b].category) else None,
        )
        for a, b, tfidf, is_positive, is_same in zip(
            chosen.a_C, chosen.b_C, chosen.tfidf_C, chosen.is_positive_C, chosen.is_same_category_C, strict=True
        )
    ]


def _require_both_classes(pairs: list[Pair], config: MineConfig, band: tuple[float, float]) -> None:
    if len({pair.label for pair in pairs}) < 2:
        raise InputError(
            f"got no pairs of both classes with a TF-IDF cosine in {band[0]:.3g}-{band[1]:.3g} ({config.recipe}), "
            "need a wider band, more documents a group, or more groups"
        )


def write_mined(mined: Mined, folder: Path) -> None:
    """Write each set as ``<name>.jsonl`` into the folder."""
    for name, pairs in mined.sets.items():
        write_pairs(folder / f"{name}.jsonl", pairs)
