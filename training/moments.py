"""Second moments of the inputs of an encoder's linear layers.

Shape suffixes: L = tokens of a batch, I = inputs of a layer.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from training.dev_scoring import encode
from training.torch_encoder import TorchEncoder, linear_layers


def input_moments(encoder: TorchEncoder, texts: Sequence[str], prompt: str) -> dict[str, Tensor]:
    """Return the mean of ``x xᵀ`` over the inputs ``x`` of each linear layer, one input per token of the texts.

    Returns:
        The moments by the layer's name, shape ``(I, I)``.
    """
    transformer = encoder.transformer
    sums = _Sums()
    with ExitStack() as hooks:
        hooks.callback(transformer.register_forward_pre_hook(sums.begin).remove)
        for name in linear_layers(transformer.model):
            layer = transformer.model.get_submodule(name)
            hooks.callback(layer.register_forward_pre_hook(partial(sums.add, name)).remove)
        encode(encoder, texts, prompt)
    return {name: sum_II / sums.num_tokens for name, sum_II in sums.by_layer.items()}


class _Sums:
    """Forward hooks that sum ``x xᵀ`` for each linear layer, without padding."""

    def __init__(self) -> None:
        self.by_layer: dict[str, Tensor] = {}
        self.num_tokens = 0
        self._input: Tensor | None = None

    def begin(self, _: nn.Module, given: tuple[dict[str, Any]]) -> None:
        self._is_token = given[0]["attention_mask"].flatten().bool()
        self.num_tokens += int(self._is_token.sum())

    def add(self, name: str, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        # Query, key and value get the same input, one after the other.
        if given[0] is not self._input:
            self._input = given[0]
            input_LI = given[0].flatten(0, -2)[self._is_token].float()
            self._sum_II = input_LI.T @ input_LI
        self.by_layer[name] = self.by_layer[name] + self._sum_II if name in self.by_layer else self._sum_II
