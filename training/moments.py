"""What the linear layers of an encoder are given to multiply: second moments of their inputs.

Shape suffixes: L = tokens of a batch, I = inputs of a layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.base import Base, linear_layers

_BATCH_SIZE = 64


def input_moments(encoder: Base, texts: Sequence[str], prompt: str) -> dict[str, Tensor]:
    """Return the mean of ``x xᵀ`` over the inputs ``x`` of each linear layer, one for each token of the texts.

    Returns:
        By the layer's name, shape ``(I, I)``.
    """
    sums: dict[str, Tensor] = {}
    num_tokens = 0
    by_length = sorted(texts, key=len)
    encoder.model.eval()
    with torch.inference_mode(), _inputs_kept(encoder) as inputs:
        for begin in range(0, len(by_length), _BATCH_SIZE):
            batch = by_length[begin : begin + _BATCH_SIZE]
            features = encoder.model.preprocess([prompt + text for text in batch])
            features = {
                name: value.to(encoder.model.device) if isinstance(value, Tensor) else value
                for name, value in features.items()
            }
            encoder.model(features)
            is_token = features["attention_mask"].flatten().bool()
            num_tokens += int(is_token.sum())
            for name, given in inputs.items():
                input_LI = given.flatten(0, -2)[is_token].float()
                moment_II = input_LI.T @ input_LI
                sums[name] = sums[name] + moment_II if name in sums else moment_II
    return {name: moment_II / num_tokens for name, moment_II in sums.items()}


@contextmanager
def _inputs_kept(encoder: Base) -> Iterator[dict[str, Tensor]]:
    """Keep what each linear layer is given in the last forward pass, by its name."""
    inputs: dict[str, Tensor] = {}
    transformer = encoder.transformer.model

    def keeper(name: str) -> Any:
        def keep(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            inputs[name] = given[0]

        return keep

    with ExitStack() as hooks:
        for name in linear_layers(transformer):
            handle = transformer.get_submodule(name).register_forward_pre_hook(keeper(name))
            hooks.callback(handle.remove)
        yield inputs
