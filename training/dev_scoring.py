"""Dev scoring: the scores and figures of an encoder's current weights on the dev sets.

Shape suffixes: N = texts, D = dimensions, P = pairs.
"""

import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from simile.artifacts import MIN_DEV_PAIRS, ClassCounts, EpochEntry, Figures, PairSet
from simile.artifacts.bundle import Prompts, have_sides
from simile.progress import say
from simile.scoring import Pairs, cosines, distinct_texts
from simile.scoring.metrics import class_counts, figures, known, spearman
from training.torch_encoder import TorchEncoder


def encode(encoder: TorchEncoder, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
    """Return the unit-length embeddings of the texts, shape ``(N, D)``."""
    with torch.autocast(encoder.model.device.type, torch.bfloat16, enabled=encoder.is_bf16):
        embedding_ND: NDArray[np.float32] = encoder.model.encode(
            list(texts), prompt=prompt or None, normalize_embeddings=True, batch_size=64, show_progress_bar=False
        )
    return embedding_ND


def large_enough(dev_sets: Sequence[PairSet]) -> list[PairSet]:
    """Return the dev sets that weights are chosen by: figures of smaller ones depend more on chance than on weights."""
    return [dev for dev in dev_sets if len(dev.rows) >= MIN_DEV_PAIRS]


def dev_spearmans(encoder: TorchEncoder, dev_sets: Sequence[PairSet], prompts: Prompts) -> dict[str, float | None]:
    """Return the Spearman correlation on each dev set by name; None where the scores are constant."""
    return known({dev.name: spearman(pair_cosines(encoder, dev.texts, prompts), dev.target_P) for dev in dev_sets})


def score_epoch(
    encoder: TorchEncoder, dev_sets: Sequence[PairSet], prompts: Prompts, epoch: int, name: str
) -> EpochEntry:
    """Return the history entry of the current weights, and print their dev figures under ``name``."""
    start = time.monotonic()
    scores = {dev.name: pair_cosines(encoder, dev.texts, prompts) for dev in dev_sets}
    # A resumed run estimates from it how long scoring will take.
    seconds = time.monotonic() - start
    by_set, histograms = {}, {}
    for dev in dev_sets:
        score_P, target_P = scores[dev.name], dev.target_P
        by_set[dev.name] = Figures.model_validate(known(figures(score_P, target_P, is_graded=dev.is_graded)))
        if not dev.is_graded:
            counts = {name: of_class.tolist() for name, of_class in class_counts(score_P, target_P).items()}
            histograms[dev.name] = ClassCounts.model_validate(counts)
    spearmans = [by_set[dev.name].spearman for dev in large_enough(dev_sets)]
    if by_set:
        say(f"{name}: dev Spearman {shown({of_set: dev.spearman for of_set, dev in by_set.items()})}")
    defined = [value for value in spearmans if value is not None]
    # Without a dev set that is large enough there is nothing to choose by: the last epoch is then the best.
    mean = float(epoch) if not spearmans else float(np.mean(defined)) if len(defined) == len(spearmans) else None
    return EpochEntry(epoch=epoch, seconds=seconds, mean=mean, dev=by_set, histograms=histograms)


def shown(spearmans: dict[str, float | None]) -> str:
    """Return the Spearman correlations by dev set as a message shows them."""
    return ", ".join(f"{name} {'undefined' if value is None else f'{value:.4f}'}" for name, value in spearmans.items())


def pair_cosines(encoder: TorchEncoder, pairs: Pairs, prompts: Prompts) -> NDArray[np.float32]:
    """Return the cosine of each pair, shape ``(P,)``, with each text encoded once per prompt."""
    texts, sides, pair_P2 = distinct_texts(pairs, have_sides=have_sides(prompts))
    embedding_ND = np.empty((len(texts), encoder.dimension), dtype=np.float32)
    for side in sorted(set(sides)):
        rows = [row for row, of_row in enumerate(sides) if of_row == side]
        embedding_ND[rows] = encode(encoder, [texts[row] for row in rows], prompts[side])
    return cosines(embedding_ND, pair_P2)
