"""How much of what was learned is kept: interpolation between the base's weights and the tuned ones.

Training on hard pairs forgets something of everything else. Part of the way back, most of the gain is still there and
most of the loss is not (Wortsman et al. 2022, arXiv:2109.01903). How far to go is measured on sentences of our own:
``general.txt`` has clusters of five, from a paraphrase to a loosely related one, and the tuned encoder is to order the
pairs in them as the base does.

Shape suffixes: N = sentences, D = dimensions, G = pairs of sentences of one cluster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simile.artifacts import PairSet
from simile.progress import say
from simile.scoring.encoder import cosines
from simile.scoring.metrics import spearman
from training.base import Base
from training.watch import dev_scores

FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Parts of the way from the base that are tried, farthest first."""
_WORSE_IN_A_ROW = 2
"""After so many that win less than an earlier one, those nearer to the base are not tried."""


@dataclass(frozen=True, slots=True)
class Point:
    """What the weights are worth at one part of the way."""

    factor: float
    """0: the base; 1: the tuned weights."""
    agreement: float
    """Spearman of the base's cosines and these weights' on general sentences."""
    dev: Mapping[str, float]
    """Spearman on each dev set."""

    @property
    def mean(self) -> float:
        """Mean Spearman over the dev sets; without any, the factor."""
        return float(np.mean(list(self.dev.values()))) if self.dev else self.factor


def interpolate(base: Base, tuned: Base, dev_sets: Sequence[PairSet], prompt: str, *, keep: float) -> list[Point]:
    """Return the points that were tried, the chosen one last, with the tuned encoder's weights set to it.

    Chosen is the point that is best on the dev sets among those whose agreement is at least ``keep`` and that are not
    below the base on any dev set.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for encoder in (base, tuned):
        encoder.model.to(device)
    way = _Way(base.transformer.model, tuned.transformer.model)
    base_G = _general_cosines(base, prompt)
    start = _measured(0.0, base, base_G, dev_sets, prompt)
    tried: list[Point] = []
    best, worse = start, 0
    for factor in FACTORS:
        way.go_to(factor)
        point = _measured(factor, tuned, base_G, dev_sets, prompt)
        tried.append(point)
        if point.agreement < keep or any(point.dev[name] < start.dev[name] for name in point.dev):
            continue
        if best is start or point.mean > best.mean:
            best, worse = point, 0
        else:
            worse += 1
        if worse == _WORSE_IN_A_ROW or not point.dev:
            break
    way.go_to(best.factor)
    tuned.model.to("cpu")
    _tell(best, tried[0], keep)
    return [start, *(point for point in reversed(tried) if point is not best), best]


def as_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the points as they are written down."""
    return [asdict(point) for point in points]


def general_clusters() -> list[list[str]]:
    """Return our own general sentences, those of a cluster together."""
    text = Path(__file__).with_name("general.txt").read_text(encoding="utf-8")
    return [cluster.splitlines() for cluster in text.strip().split("\n\n")]


class _Way:
    """The way from one module's weights to another's, which moves along it."""

    def __init__(self, start: nn.Module, moving: nn.Module) -> None:
        self._moving = moving
        self._start: dict[str, Tensor] = dict(start.state_dict())
        self._end = {name: value.clone() for name, value in moving.state_dict().items()}

    def go_to(self, factor: float) -> None:
        with torch.no_grad():
            for name, value in self._moving.state_dict().items():
                if value.is_floating_point() and name in self._start:
                    value.copy_(torch.lerp(self._start[name].to(value), self._end[name], factor))


def _measured(
    factor: float, encoder: Base, base_G: NDArray[np.float32], dev_sets: Sequence[PairSet], prompt: str
) -> Point:
    agreement = 1.0 if factor == 0 else spearman(_general_cosines(encoder, prompt), base_G)
    scores = dev_scores(encoder, dev_sets, prompt)
    dev = {pairs.name: spearman(score_P, pairs.target_P) for pairs, score_P in zip(dev_sets, scores, strict=True)}
    return Point(factor, agreement, dev)


def _general_cosines(encoder: Base, prompt: str) -> NDArray[np.float32]:
    clusters = general_clusters()
    starts = np.cumsum([0, *map(len, clusters)])
    pair_G2 = [pair for start, end in pairwise(starts) for pair in combinations(range(start, end), 2)]
    embedding_ND = encoder.model.encode(
        [text for cluster in clusters for text in cluster],
        prompt=prompt or None,
        normalize_embeddings=True,
        batch_size=64,
        show_progress_bar=False,
    )
    return cosines(embedding_ND, np.array(pair_G2))


def _tell(best: Point, whole: Point, keep: float) -> None:
    shown = "".join(f", dev Spearman {name} {found:.4f}" for name, found in best.dev.items())
    if best.factor == 1:
        say(f"agreement with the base on general sentences: {best.agreement:.3f}; all that was learned is kept")
    elif best.factor == 0:
        say(
            f"nothing that was learned is kept: no weights between the base and the tuned ones agree with the base by "
            f"{keep:g} and are above it on every dev set (keep=0 keeps all)"
        )
    else:
        say(
            f"kept {best.factor:.0%} of the way from the base: agreement with it on general sentences "
            f"{best.agreement:.3f} (all of it: {whole.agreement:.3f}){shown}"
        )
