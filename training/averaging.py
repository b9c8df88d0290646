"""Means of weights: over the steps of a training, and over several trainings.

A training that sees ever more pairs of the same groups learns those groups by heart: groups that it has not seen get
worse again, and more of what the base knew is forgotten. Many pairs are therefore dealt out to several trainings from
the same base, each of which stops early, and the mean of their weights is kept (model soups: Wortsman et al. 2022,
arXiv:2203.05482), in the time that one training over all pairs takes. Where `average_from` says so, the mean of the
weights over the steps of each counts (stochastic weight averaging: Izmailov et al. 2018, arXiv:1803.05407).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from simile.artifacts import Pair

_FILE, _NUM_STEPS = "mean.safetensors", "num_steps"


class StepMean:
    """The mean of a model's weights after each step from one on.

    Args:
        model: whose weights that are trained are averaged.
        first_step: the first that counts; until then, the weights stand for themselves. None: always.
    """

    def __init__(self, model: nn.Module, first_step: int | None) -> None:
        self.model = model
        self._first_step = first_step
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._mean: dict[str, torch.Tensor] = {}
        self._num_steps = 0

    def add(self, step: int) -> None:
        """Count in the weights as they stand after the step."""
        if self._first_step is None or step < self._first_step:
            return
        self._num_steps += 1
        if not self._mean:
            self._mean = {name: weight.detach().clone() for name, weight in self._weights.items()}
        for name, mean in self._mean.items():
            mean.lerp_(self._weights[name].detach(), 1 / self._num_steps)

    def save_own(self, checkpoint: Path) -> None:
        """Add the mean so far to the checkpoint."""
        if self._mean:
            save_file(self._mean | {_NUM_STEPS: torch.tensor(self._num_steps)}, checkpoint / _FILE)

    def load_own(self, checkpoint: Path) -> None:
        """Go on from the mean in the checkpoint, if it has one."""
        if (file := checkpoint / _FILE).is_file():
            found = load_file(file)
            self._num_steps = int(found.pop(_NUM_STEPS))
            self._mean = {name: found[name].to(weight) for name, weight in self._weights.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean so far in the place of the model's weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, mean in self._mean.items():
            weight = self._weights[name]
            weight.data, self._mean[name] = mean, weight.data


def deal(files: Sequence[Sequence[Pair]], most: int | None, seed: int) -> list[list[list[Pair]]]:
    """Return each training's pairs, file by file: of all files together about as many for each, ``most`` at most.

    One training gets all pairs as they stand where they are no more than that, or where ``most`` is None.
    """
    num_pairs = sum(map(len, files))
    num_trainings = max(1, ceil(num_pairs / most)) if most else 1
    if num_trainings == 1:
        return [[list(rows) for rows in files]]
    # Files may be sorted by class; with the same seed everybody gets the same again.
    orders = [np.random.default_rng(seed).permutation(len(rows)) for rows in files]
    return [
        [[rows[i] for i in order[number::num_trainings]] for rows, order in zip(files, orders, strict=True)]
        for number in range(num_trainings)
    ]


def set_to_mean(first: nn.Module, others: Iterable[nn.Module]) -> None:
    """Set the first module's weights to the mean of all the modules' weights; they are of one shape."""
    weights = {name: value for name, value in first.state_dict().items() if value.is_floating_point()}
    with torch.no_grad():
        for number, other in enumerate(others, 2):
            theirs = other.state_dict()
            for name, value in weights.items():
                value.lerp_(theirs[name].to(value), 1 / number)
