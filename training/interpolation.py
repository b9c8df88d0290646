"""Interpolation between the base encoder's weights and the tuned ones, so that training forgets less.

Training on hard pairs forgets something of everything else. Between the two, most of the gain is still there and most
of the loss is not (Wortsman et al. 2022, arXiv:2109.01903), the more so if each linear layer is weighted by the second
moments of its inputs: it returns to the base's outputs on general text and keeps its own on the training texts
(regression mean: Jin et al. 2023, arXiv:2212.09849). The interpolation coefficient alpha is chosen on sentences of our
own: ``general.txt`` has clusters of five, from a paraphrase to a loosely related sentence, and the tuned encoder must
order the pairs within them as the base does. The clusters alternate: one provides the moments, the next one measures
the agreement.

Shape suffixes: G = pairs of sentences of one cluster, L = tokens of a batch, O, I = outputs and inputs of a linear
layer.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import combinations
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simile.artifacts import InterpolationPoint, PairSet
from simile.artifacts.bundle import Prompts
from simile.progress import Progress, say
from simile.scoring.metrics import spearman
from training.dev_scoring import dev_spearmans, encode, large_enough, pair_cosines, shown
from training.torch_encoder import TorchEncoder, linear_layers

ALPHAS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
"""Interpolation coefficients in the order in which they are tried."""
Curve = Mapping[float, float]
"""Spearman by interpolation coefficient, that of the base encoder (alpha 0) included."""
_CURVE_ALPHAS = (1.0, 0.6, 0.3, 0.1, 0.05)
UNSEEN = "unseen groups, cross-fitted"
"""Name of the cross-fitted curve among the dev sets."""
_MAX_LOSS = 0.01
"""Spearman that a dev set may lose, where the others gain more: that of 100 pairs differs by more between samples."""
_MAX_TOKENS, _MAX_CURVE_TOKENS = 40_000, 10_000
"""Limits of the training texts' tokens for the moments, when weights are chosen and when a curve is measured."""
_MAX_CONSECUTIVE_WORSE = 2
"""Most consecutive points that are worse than earlier ones."""
_MAX_TEXTS = 500_000
"""Most texts that are tokenized to choose some for the moments."""


def interpolate(
    base: TorchEncoder,
    tuned: TorchEncoder,
    texts: Iterable[str],
    dev_sets: Sequence[PairSet],
    prompts: Prompts,
    *,
    min_base_agreement: float,
    unseen: Curve,
) -> list[InterpolationPoint]:
    """Set the tuned encoder to the best interpolated weights; return the points that were tried, the chosen one last.

    The chosen point has the best mean Spearman on the dev sets among those whose agreement is at least
    ``min_base_agreement``, whose mean is not below the base's, and that lose at most 0.01 on every dev set. Dev sets
    that are not `large_enough` are ignored. Where there is one, the highest such alpha is chosen: the remaining sets
    may cover unseen groups only, and would give away what was learned of the trained ones. ``texts`` are those that the
    tuned encoder was trained on.

    The curve of cross-fitting, ``unseen``, counts like a dev set. Where it alone loses more everywhere, the lowest
    alpha is chosen, not the base.
    """
    num_given, dev_sets = len(dev_sets), large_enough(dev_sets)
    takes_highest = not dev_sets or len(dev_sets) < num_given
    clusters = general_clusters()
    weights = _weights(base, tuned, general_moments(base, prompts), texts, _MAX_TOKENS, prompts)
    base_cosine_G = _general_cosines(base, clusters[1::2], prompts)

    def point_at(alpha: float) -> InterpolationPoint:
        weights.set_alpha(alpha)
        agreement = spearman(_general_cosines(tuned, clusters[1::2], prompts), base_cosine_G)
        is_scored = alpha == 1 or agreement >= min_base_agreement
        dev = dev_spearmans(tuned, dev_sets, prompts) | _at(unseen, alpha) if is_scored else None
        return InterpolationPoint(alpha=alpha, agreement=agreement if np.isfinite(agreement) else None, dev=dev)

    start = InterpolationPoint(alpha=0, agreement=1, dev=dev_spearmans(base, dev_sets, prompts) | _at(unseen, 0))
    tried, best = _search(start, point_at, min_base_agreement, takes_highest=takes_highest)
    weights.set_alpha(best.alpha)
    tuned.model.to("cpu")
    _report(best, tried[0], min_base_agreement)
    return [*(point for point in (start, *reversed(tried)) if point is not best), best]


def spearman_by_alpha(
    base: TorchEncoder,
    tuned: TorchEncoder,
    base_moments: Mapping[str, Tensor],
    texts: Iterable[str],
    held_out: PairSet,
    prompts: Prompts,
) -> dict[float, float]:
    """Return the Spearman on the pairs at some interpolation coefficients; it is 0 where the scores are constant.

    The tuned encoder, which was trained on these texts, is left at one of them. The moments are `general_moments`.
    """
    weights = _weights(base, tuned, base_moments, texts, _MAX_CURVE_TOKENS, prompts)
    curve = {0.0: dev_spearmans(base, [held_out], prompts)}
    for alpha in _CURVE_ALPHAS:
        weights.set_alpha(alpha)
        curve[alpha] = dev_spearmans(tuned, [held_out], prompts)
    return {alpha: by_set[held_out.name] or 0.0 for alpha, by_set in sorted(curve.items())}


def general_moments(base: TorchEncoder, prompts: Prompts) -> dict[str, Tensor]:
    """Return the base encoder's `input_moments` on general sentences."""
    _to_device(base)
    return input_moments(base, [text for cluster in general_clusters()[::2] for text in cluster], prompts)


def _weights(
    base: TorchEncoder,
    tuned: TorchEncoder,
    base_moments: Mapping[str, Tensor],
    texts: Iterable[str],
    max_tokens: int,
    prompts: Prompts,
) -> "WeightInterpolation":
    _to_device(base)
    _to_device(tuned)
    tuned_moments = input_moments(tuned, _evenly_spread(texts, tuned, max_tokens), prompts)
    return WeightInterpolation(base.transformer.model, tuned.transformer.model, base_moments, tuned_moments)


def _to_device(encoder: TorchEncoder) -> None:
    encoder.model.to("cuda" if torch.cuda.is_available() else "cpu")


def _at(unseen: Curve, alpha: float) -> dict[str, float | None]:
    """Return the value of the cross-fitted curve as that of a dev set; nothing without a curve."""
    return {UNSEEN: float(np.interp(alpha, [*unseen], [*unseen.values()]))} if unseen else {}


def _search(
    start: InterpolationPoint, point_at: Callable[[float], InterpolationPoint], minimum: float, *, takes_highest: bool
) -> tuple[list[InterpolationPoint], InterpolationPoint]:
    """Return the points that were tried, and the best one: ``start`` where none is allowed."""
    tried: list[InterpolationPoint] = []
    best, gentlest, num_worse = start, start, 0
    with Progress("interpolating", None, "points") as progress:
        for alpha in ALPHAS:
            tried.append(point := point_at(alpha))
            progress.advance(note=f"agreement {_shown_agreement(point)}")
            worse = _worse_sets(start, point)
            if (point.agreement or 0) < minimum or worse - {UNSEEN}:
                continue
            if _mean(point, without=UNSEEN) < _mean(start, without=UNSEEN):
                continue
            gentlest = point
            if worse:
                continue
            is_better = best is start or _mean(point) > _mean(best)
            best, num_worse = (point, 0) if is_better else (best, num_worse + 1)
            if num_worse == _MAX_CONSECUTIVE_WORSE or takes_highest:
                break
    return tried, gentlest if best is start else best


def _worse_sets(start: InterpolationPoint, point: InterpolationPoint) -> set[str]:
    """Return the dev sets on which the point loses too much against the start."""
    before = start.dev or {}
    return {
        name
        for name, value in (point.dev or {}).items()
        if value is None or (least := before[name]) is None or value < least - _MAX_LOSS
    }


def general_clusters() -> list[list[str]]:
    """Return our own general sentences, cluster by cluster."""
    text = Path(__file__).with_name("general.txt").read_text(encoding="utf-8")
    return [cluster.splitlines() for cluster in text.strip().split("\n\n")]


class WeightInterpolation:
    """Sets a module's weights between another module's and its own.

    At ``alpha``, a linear layer has the weights whose outputs differ least, in squares, from the base layer's on the
    base's inputs, weighted ``1 - alpha``, and from the tuned layer's on the tuned module's inputs, weighted ``alpha``.
    Along directions that neither kind of input has, and for all other weights, interpolation is linear. The moments are
    those of both modules' inputs (`input_moments`); the weights that are set are those of ``tuned``.
    """

    _RIDGE = 0.1
    """Share of the inputs' mean square that is added in every direction: rare directions would else blow weights up."""

    def __init__(
        self, base: nn.Module, tuned: nn.Module, base_moments: Mapping[str, Tensor], tuned_moments: Mapping[str, Tensor]
    ) -> None:
        self._module, self._base = tuned, dict(base.state_dict())
        self._tuned = {name: value.clone() for name, value in tuned.state_dict().items()}
        self._moments = {f"{name}.weight": (base_moments[name], tuned_moments[name]) for name in base_moments}

    @torch.no_grad()
    def set_alpha(self, alpha: float) -> None:
        """Set the weights to those at this interpolation coefficient."""
        for name, value in self._module.state_dict().items():
            if not value.is_floating_point() or name not in self._base:
                continue
            base, tuned = self._base[name].to(value), self._tuned[name]
            if name in self._moments and 0 < alpha < 1:
                value.copy_(base + self._change(name, tuned - base, alpha))
            else:
                value.copy_(torch.lerp(base, tuned, alpha))

    def _change(self, name: str, change_OI: Tensor, alpha: float) -> Tensor:
        """Return the change from the base layer's weights, given the whole change that was learned."""
        base_II, tuned_II = (moment_II.double() for moment_II in self._moments[name])
        ridge = self._RIDGE * float(tuned_II.diagonal().mean())
        base_II.diagonal().add_(ridge)
        tuned_II.diagonal().add_(ridge)
        both_II = torch.lerp(base_II, tuned_II, alpha)
        part_IO = torch.cholesky_solve(alpha * (tuned_II @ change_OI.double().T), torch.linalg.cholesky(both_II))
        return part_IO.T.to(change_OI)


def _general_cosines(encoder: TorchEncoder, clusters: Sequence[Sequence[str]], prompts: Prompts) -> NDArray[np.float32]:
    """Return the cosine of each pair of sentences of one cluster, ``(G,)``."""
    return pair_cosines(encoder, [pair for cluster in clusters for pair in combinations(cluster, 2)], prompts)


def input_moments(encoder: TorchEncoder, texts: Sequence[str], prompts: Prompts) -> dict[str, Tensor]:
    """Return the mean of ``x xᵀ``, ``(I, I)``, over the inputs ``x`` of each linear layer, one input per token."""
    transformer, sums = encoder.transformer, _InputSums()
    with ExitStack() as hooks:
        hooks.callback(transformer.register_forward_pre_hook(sums.begin).remove)
        for name in linear_layers(transformer.model):
            layer = transformer.model.get_submodule(name)
            hooks.callback(layer.register_forward_pre_hook(partial(sums.add, name)).remove)
        for prompt in dict.fromkeys(prompts):
            encode(encoder, texts, prompt)
    means = {name: sum_II / sums.num_tokens for name, sum_II in sums.by_layer.items()}
    return {name: means[first] for name, first in sums.same_inputs.items()}


class _InputSums:
    """Forward hooks that sum ``x xᵀ`` over the inputs ``x`` of linear layers, without padding."""

    def __init__(self) -> None:
        self.by_layer: dict[str, Tensor] = {}
        """The sums of the layers that are the first to get their inputs."""
        self.same_inputs: dict[str, str] = {}
        """The first layer that gets the same inputs, by layer: query, key and value follow one another."""
        self.num_tokens = 0
        self._input: Tensor | None = None

    def begin(self, _: nn.Module, given: tuple[dict[str, Any]]) -> None:
        self._is_token = given[0]["attention_mask"].flatten().bool()
        self.num_tokens += int(self._is_token.sum())

    def add(self, name: str, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0] is not self._input:
            self._input, self._first = given[0], name
            input_LI = given[0].flatten(0, -2)[self._is_token].float()
            sum_II = self.by_layer.setdefault(name, input_LI.new_zeros(2 * [input_LI.shape[-1]]))
            with torch.autocast(input_LI.device.type, enabled=False):
                # Sums that are rounded to bf16 are no moments of any inputs: solving for weights would fail.
                sum_II.addmm_(input_LI.T, input_LI)
        self.same_inputs[name] = self._first


def _evenly_spread(texts: Iterable[str], encoder: TorchEncoder, max_tokens: int) -> list[str]:
    """Return the distinct texts, or every n-th of them where they have more than this number of tokens.

    Of more than `_MAX_TEXTS`, only every n-th text is considered at all.
    """
    step, some = 1, dict[str, None]()
    for number, text in enumerate(texts):
        if number % step == 0:
            some[text] = None
        if len(some) > _MAX_TEXTS:
            step, some = 2 * step, dict.fromkeys(list(some)[::2])
    distinct = list(some)
    tokens = encoder.model.tokenizer(distinct, truncation=True, max_length=encoder.max_length)["input_ids"]
    return distinct[:: ceil(sum(map(len, tokens)) / max_tokens)]


def _mean(point: InterpolationPoint, *, without: str = "") -> float:
    """Return the mean Spearman over the dev sets, except for the one of this name; without any, return alpha."""
    dev = (point.dev or {}).items()
    spearmans = [value for name, value in dev if value is not None and name != without]
    return float(np.mean(spearmans)) if spearmans else point.alpha


def _shown_agreement(point: InterpolationPoint) -> str:
    return "undefined" if point.agreement is None else f"{point.agreement:.3f}"


def _report(best: InterpolationPoint, tuned: InterpolationPoint, min_base_agreement: float) -> None:
    """Print which weights were chosen, and why."""
    agreement = f"agreement with the base on general sentences {_shown_agreement(best)}"
    dev = f"; dev Spearman {shown(best.dev)}" if best.dev else ""
    if best.alpha == 1:
        say(f"the tuned weights stay as they are (alpha 1): {agreement}")
    elif best.alpha == 0:
        reason = f"none that agree with it by {min_base_agreement:g} are at least as good on every dev set"
        say(f"the weights are the base encoder's (alpha 0): {reason}; min_base_agreement=0 keeps the tuned weights")
    else:
        share = f"interpolated to {best.alpha:.0%} of the weight change (alpha {best.alpha:g})"
        say(f"{share}: {agreement} (tuned weights: {_shown_agreement(tuned)}){dev}")
