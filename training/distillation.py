"""Distillation: what a teacher's scores say about the training texts, and about further texts without labels.

The teacher may be any bundle. It embeds every text once: the embeddings of an ensemble join those of its encoders, so
that their dot product is its score. In each batch, the student's cosines of all pairs of texts follow the teacher's
(`losses.teacher_loss`), which needs no labels: pairs of unlabelled texts and of general sentences, whose order a
training on labels alone forgets, are learned from as well.

Shape suffixes: N = texts, D = dimensions, K = neighbours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from simile.artifacts import Pair, PairSet, read_training_texts, text_key
from simile.errors import InputError
from simile.progress import Progress, say
from simile.scoring import Scorer
from training.interpolation import general_clusters

_NEAREST, _DRAWN = 10, 2
"""Each text is paired with some of its nearest texts by the teacher, so that every batch has pairs that are hard."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Lesson:
    """A teacher, and the texts without labels that it teaches besides those of the student's pairs."""

    scorer: Scorer
    unlabelled: Sequence[str] = ()
    sha256: tuple[str, ...] = ()
    """Digests of the files of unlabelled texts."""

    @property
    def digest(self) -> str:
        """Digest of the teacher's bundle."""
        return self.scorer.bundle.manifest.digest


@dataclass(frozen=True)
class Teacher:
    """A teacher's embeddings of all texts that a student trains on, and the pairs without labels among them."""

    index: dict[str, int]
    """Row of each text, by its key."""
    embedding_ND: NDArray[np.float32]
    pairs: tuple[Pair, ...]
    """Pairs of the student's further training texts, without labels."""
    trained_hashes: frozenset[str]
    """Hashes of the texts that the teacher was trained on, whose labels reach the student through its scores."""

    def of(self, keys: Sequence[str]) -> Tensor:
        """Return the embeddings of the texts with these keys, shape ``(N, D)``."""
        return torch.from_numpy(self.embedding_ND[[self.index[key] for key in keys]])


def teach(lesson: Lesson, files: Sequence[PairSet], held_out: Sequence[PairSet], seed: int) -> Teacher:
    """Return the teacher of the pairs, of the unlabelled texts and of our own general sentences.

    Unlabelled texts that are in ``held_out`` pairs are left out.

    Raises:
        InputError: the texts that the teacher was trained on are unknown, or it has a lexical member.
    """
    scorer, bundle = lesson.scorer, lesson.scorer.bundle
    trained = read_training_texts(bundle)
    if trained is None:
        raise InputError(f"{bundle.path}: its training texts are unknown, need a bundle with its texts.sha256")
    labelled, excluded = (
        [text for pairs in sets for both in pairs.texts for text in both] for sets in (files, held_out)
    )
    keys = set(map(text_key, excluded))
    unlabelled = [text for text in lesson.unlabelled if text_key(text) not in keys]
    if num := len(lesson.unlabelled) - len(unlabelled):
        say(
            f"note: {num:,} of {len(lesson.unlabelled):,} unlabelled texts are in dev or calibration pairs and left out"
        )
    # The other half of the clusters measures the agreement with the base.
    clusters = general_clusters()[::2]
    general = [text for cluster in clusters for text in cluster]
    by_key = {text_key(text): text for text in [*labelled, *unlabelled]}
    own = list(by_key.values())
    by_key |= {text_key(text): text for text in general}
    with Progress("embedding by the teacher", len(by_key) * len(scorer.members), "texts") as progress:
        embedding_ND = scorer.embed(by_key.values(), progress.advance)
    pairs = [Pair(own[i], own[j], None) for i, j in _near_pairs(embedding_ND[: len(own)], seed)]
    pairs += [Pair(*both, None) for cluster in clusters for both in combinations(cluster, 2)]
    index = {key: row for row, key in enumerate(by_key)}
    return Teacher(index, embedding_ND, tuple(pairs), trained)


def _near_pairs(embedding_ND: NDArray[np.float32], seed: int) -> list[tuple[int, int]]:
    """Return pairs of each text with some of its nearest ones, without the same pair twice."""
    rng, num = np.random.default_rng(seed), len(embedding_ND)
    nearest = min(_NEAREST, num - 1)
    found: dict[tuple[int, int], None] = {}
    for start in range(0, num, _ROWS_AT_ONCE):
        score_RN = embedding_ND[start : start + _ROWS_AT_ONCE] @ embedding_ND.T
        rows = np.arange(len(score_RN))
        score_RN[rows, start + rows] = -np.inf
        near_RK = np.argpartition(-score_RN, nearest - 1, axis=1)[:, :nearest]
        for row, near_K in zip(rows.tolist(), near_RK, strict=True):
            for other in rng.choice(near_K, min(_DRAWN, nearest), replace=False).tolist():
                found[min(start + row, other), max(start + row, other)] = None
    return list(found)
