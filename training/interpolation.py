"""How much of what was learned is kept: interpolation between the base's weights and the tuned ones.

Training on hard pairs forgets something of everything else. Part of the way back, most of the gain is still there and
most of the loss is not (Wortsman et al. 2022, arXiv:2109.01903), the more so where each linear layer goes back for what
general text gives it to multiply, and stays for what the training texts do (regression mean: Jin et al. 2023,
arXiv:2212.09849). How far to go is measured on sentences of our own: ``general.txt`` has clusters of five, from a
paraphrase to a loosely related one, and the tuned encoder is to order the pairs in them as the base does. Every other
cluster shows the layers what general text is, those between are asked.

Shape suffixes: G = pairs of sentences of one cluster, O, I = outputs and inputs of a linear layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simile.artifacts import PairSet
from simile.progress import Progress, say
from simile.scoring import cosines
from simile.scoring.metrics import spearman
from training.base import Base
from training.moments import input_moments
from training.watch import dev_scores, encode, heard

FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Parts of the way from the base that are tried, farthest first."""
_MOST_TOKENS = 40_000
"""Of training texts, that show the layers what they are given."""
_WORSE_IN_A_ROW = 2
"""After so many that win less than an earlier one, those nearer to the base are not tried."""


@dataclass(frozen=True, slots=True)
class Point:
    """What the weights are worth at one part of the way."""

    factor: float
    """0: the base; 1: the tuned weights."""
    agreement: float
    """Spearman of the base's cosines and these weights' on general sentences."""
    dev: Mapping[str, float] | None
    """Spearman on each dev set; None where the agreement is too low to ask."""

    @property
    def mean(self) -> float:
        """Mean Spearman over the dev sets; without any, the factor."""
        return float(np.mean(list(self.dev.values()))) if self.dev else self.factor

    def is_nowhere_below(self, other: "Point") -> bool:
        """Return whether no dev set is ordered worse than by the other."""
        return all(found >= (other.dev or {})[name] for name, found in (self.dev or {}).items())


def interpolate(
    base: Base, tuned: Base, texts: Sequence[str], dev_sets: Sequence[PairSet], prompt: str, *, keep: float
) -> list[Point]:
    """Return the points that were tried, the chosen one last, with the tuned encoder's weights set to it.

    The texts are those that it was tuned on.

    Chosen is the point that is best on the dev sets among those whose agreement is at least ``keep`` and that are not
    below the base on any dev set. Sets of fewer than 100 pairs have no say; where there is one, the farthest such point
    is chosen: the others would speak for unseen groups alone, say, and give away what was learned of those trained on.
    """
    num_given, dev_sets = len(dev_sets), heard(dev_sets)
    takes_farthest = not dev_sets or len(dev_sets) < num_given
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for encoder in (base, tuned):
        encoder.model.to(device)
    clusters = general_clusters()
    way = Way(
        base.transformer.model,
        tuned.transformer.model,
        input_moments(base, [text for cluster in clusters[::2] for text in cluster], prompt),
        input_moments(tuned, _some(texts, tuned), prompt),
    )
    general = _General(base, clusters[1::2], prompt)
    start = Point(0.0, 1.0, _dev_spearmans(base, dev_sets, prompt))
    tried: list[Point] = []
    best, worse = start, 0
    with Progress("interpolating", None, "points") as progress:
        for factor in FACTORS:
            way.go_to(factor)
            agreement = general.agreement_of(tuned)
            wanted = agreement >= keep or factor == 1
            point = Point(factor, agreement, _dev_spearmans(tuned, dev_sets, prompt) if wanted else None)
            tried.append(point)
            progress.advance(note=f"agreement {agreement:.3f}")
            if agreement < keep or not point.is_nowhere_below(start):
                continue
            best, worse = (point, 0) if best is start or point.mean > best.mean else (best, worse + 1)
            if worse == _WORSE_IN_A_ROW or takes_farthest:
                break
    way.go_to(best.factor)
    tuned.model.to("cpu")
    _tell(best, tried[0], keep)
    return [*(point for point in (start, *reversed(tried)) if point is not best), best]


def as_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the points as they are written down."""
    return [asdict(point) for point in points]


def general_clusters() -> list[list[str]]:
    """Return our own general sentences, those of a cluster together."""
    text = Path(__file__).with_name("general.txt").read_text(encoding="utf-8")
    return [cluster.splitlines() for cluster in text.strip().split("\n\n")]


class Way:
    """The way from one module's weights to another's, which moves along it.

    At part ``f`` of it, a linear layer's weights are those whose outputs differ least, in squares, from the start's on
    the start's inputs, weighted ``1 - f``, and from the end's on the end's inputs, weighted ``f``. For inputs of
    neither kind, as for all other weights, the way is straight.

    Args:
        start: where the way starts.
        moving: the module at the way's end, whose weights are set.
        at_start: moments of the inputs that `start`'s linear layers have there, by name (`input_moments`).
        at_end: the same of `moving`'s.
    """

    _RIDGE = 0.1
    """Of the inputs' mean square, in every direction. Without it rare directions decide, and weights get long."""

    def __init__(
        self, start: nn.Module, moving: nn.Module, at_start: Mapping[str, Tensor], at_end: Mapping[str, Tensor]
    ) -> None:
        self._moving = moving
        self._start: dict[str, Tensor] = dict(start.state_dict())
        self._end = {name: value.clone() for name, value in moving.state_dict().items()}
        self._moments = {f"{name}.weight": (at_start[name], at_end[name]) for name in at_start}

    def go_to(self, factor: float) -> None:
        """Set the weights to those at this part of the way."""
        with torch.no_grad():
            for name, value in self._moving.state_dict().items():
                if not value.is_floating_point() or name not in self._start:
                    continue
                start, end = self._start[name].to(value), self._end[name]
                if name in self._moments and 0 < factor < 1:
                    value.copy_(start + self._part(name, end - start, factor))
                else:
                    value.copy_(torch.lerp(start, end, factor))

    def _part(self, name: str, change_OI: Tensor, factor: float) -> Tensor:
        """Return the part of a linear layer's change that is made."""
        start_II, end_II = (moment_II.double() for moment_II in self._moments[name])
        ridge_II = self._RIDGE * end_II.diagonal().mean() * torch.eye(len(end_II)).to(end_II)
        start_II, end_II = start_II + ridge_II, end_II + ridge_II
        both_II = torch.lerp(start_II, end_II, factor)
        part_IO: Tensor = torch.linalg.solve(both_II, factor * end_II @ change_OI.double().T)
        return part_IO.T.to(change_OI)


class _General:
    """The base's cosines of the general sentences' pairs, and how far another encoder's agree with them."""

    def __init__(self, base: Base, clusters: Sequence[Sequence[str]], prompt: str) -> None:
        starts = np.cumsum([0, *map(len, clusters)])
        self._texts = [text for cluster in clusters for text in cluster]
        self._pair_G2 = np.array([pair for ends in pairwise(starts) for pair in combinations(range(*ends), 2)])
        self._prompt = prompt
        self._base_G = self._cosines(base)

    def agreement_of(self, encoder: Base) -> float:
        return spearman(self._cosines(encoder), self._base_G)

    def _cosines(self, encoder: Base) -> NDArray[np.float32]:
        return cosines(encode(encoder, self._texts, self._prompt), self._pair_G2)


def _some(texts: Sequence[str], encoder: Base) -> list[str]:
    """Return the different texts, or as many of them as it takes, evenly spread."""
    different = list(dict.fromkeys(texts))
    tokens = encoder.model.tokenizer(different, truncation=True, max_length=encoder.max_length)["input_ids"]
    return different[:: ceil(sum(map(len, tokens)) / _MOST_TOKENS)]


def _dev_spearmans(encoder: Base, dev_sets: Sequence[PairSet], prompt: str) -> dict[str, float]:
    scores = dev_scores(encoder, dev_sets, prompt)
    return {pairs.name: spearman(score_P, pairs.target_P) for pairs, score_P in zip(dev_sets, scores, strict=True)}


def _tell(best: Point, whole: Point, keep: float) -> None:
    dev = ", ".join(f"{name} {found:.4f}" for name, found in (best.dev or {}).items())
    shown = f"; dev Spearman {dev}" if dev else ""
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
