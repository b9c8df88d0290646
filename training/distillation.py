"""Distillation: the embeddings of a teacher bundle, which the student's similarities are trained to match.

The teacher may be any bundle of encoders. An ensemble's embedding concatenates its encoders' weighted embeddings, so
that dot products are the ensemble's scores. In each batch, the student's cosines of all pairs of texts follow the
teacher's (`losses.teacher_loss`), which needs no labels: unlabelled texts, and general sentences, whose order a
training on labels alone forgets, are learned from as well.

Shape suffixes: S = sides (one, or two where they differ), N = texts, R = unlabelled texts of a block, D = dimensions,
K = neighbours.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from simile.artifacts import Bundle, Pair, PairSet, read_training_texts, text_key
from simile.errors import InputError
from simile.files import sha256_bytes
from simile.progress import Progress, say
from simile.scoring import Side, load
from training.interpolation import general_clusters

_NEAREST, _NEIGHBOURS_PER_TEXT = 10, 2
"""Number of a text's nearest neighbours by the teacher, and how many of them, drawn at random, it is paired with: such
pairs are hard."""
_MAX_SCORES = 2**25
"""Scores that are computed at once."""


@dataclass(frozen=True)
class Distillation:
    """The teacher, and the texts on which its scores alone are learned."""

    bundle: Bundle
    unlabelled: Sequence[str] = ()

    @property
    def texts_sha256(self) -> str | None:
        """The hash of the unlabelled texts; None where there are none."""
        return sha256_bytes(json.dumps([*self.unlabelled]).encode()) if self.unlabelled else None


@dataclass(frozen=True)
class Teacher:
    """The teacher's embeddings of all texts that the student is trained on, and the pairs without labels among them."""

    index: dict[str, int]
    """Row of each text, by its key."""
    embedding_SND: NDArray[np.float32]
    """One embedding per text or, of a teacher with two sides, one as a first and one as a second text."""
    pairs: tuple[Pair, ...]
    trained_hashes: frozenset[str]
    """Hashes of the texts that the teacher was trained on, whose labels reach the student through its scores."""


def embed_with_teacher(
    distillation: Distillation, files: Sequence[PairSet], held_out: Sequence[PairSet], seed: int
) -> Teacher:
    """Return the teacher's embeddings of the pairs' texts, of the unlabelled texts and of our own general sentences.

    Unlabelled texts that are in ``held_out`` pairs are left out. Each other one is paired with near texts, and the
    general sentences of a cluster with each other.

    Raises:
        InputError: the texts that the teacher was trained on are unknown, or it has a lexical member.
    """
    bundle = distillation.bundle
    trained = read_training_texts(bundle)
    if trained is None:
        raise InputError(f"{bundle.path}: its training texts are unknown, need a bundle with its texts.sha256")
    excluded = set(map(text_key, _texts(held_out)))
    unlabelled = [text for text in distillation.unlabelled if text_key(text) not in excluded]
    if num := len(distillation.unlabelled) - len(unlabelled):
        say(f"note: {num:,} unlabelled texts are in dev or calibration pairs and left out")
    labelled = {text_key(text): text for text in _texts(files)}
    own = {text_key(text): text for text in unlabelled} | labelled
    # The other half of the clusters measures the agreement with the base.
    clusters = general_clusters()[::2]
    by_key = own | {text_key(text): text for cluster in clusters for text in cluster}
    scorer = load(bundle.path)
    sides: tuple[Side, ...] = (0, 1) if scorer.has_sides else (0,)
    with Progress("embedding with the teacher", len(sides) * len(by_key) * len(scorer.members), "texts") as progress:
        embedding_SND = np.stack([scorer.embed(by_key.values(), progress.advance, side=side) for side in sides])
    texts = list(own.values())
    rows = [row for row, key in enumerate(own) if key not in labelled]
    pairs = [Pair(texts[i], texts[j]) for i, j in near_pairs(embedding_SND[0, : len(own)], rows, seed)]
    pairs += [Pair(*both) for cluster in clusters for both in combinations(cluster, 2)]
    num_labelled = sum(len(file.rows) for file in files)
    say(f"{num_labelled:,} labelled pairs and {len(pairs):,} without labels, in the same batches")
    return Teacher({key: row for row, key in enumerate(by_key)}, embedding_SND, tuple(pairs), trained)


def near_pairs(embedding_ND: NDArray[np.float32], rows: Sequence[int], seed: int) -> list[tuple[int, int]]:
    """Return pairs of the texts in these rows with some of their nearest texts among all, no pair twice."""
    rng, nearest = np.random.default_rng(seed), min(_NEAREST, len(embedding_ND) - 1)
    step = max(1, _MAX_SCORES // max(1, len(embedding_ND)))
    pairs: dict[tuple[int, int], None] = {}
    for start in range(0, len(rows) if nearest else 0, step):
        block_R = np.array(rows[start : start + step])
        score_RN = embedding_ND[block_R] @ embedding_ND.T
        score_RN[np.arange(len(block_R)), block_R] = -np.inf
        near_RK = np.argpartition(score_RN, -nearest, axis=1)[:, -nearest:]
        for row, near_K in zip(block_R.tolist(), near_RK, strict=True):
            for other in rng.choice(near_K, min(_NEIGHBOURS_PER_TEXT, nearest), replace=False).tolist():
                pairs[min(row, other), max(row, other)] = None
    return list(pairs)


def _texts(pair_sets: Iterable[PairSet]) -> list[str]:
    return [text for pairs in pair_sets for both in pairs.texts for text in both]
