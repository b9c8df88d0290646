"""Many pairs are dealt out to several trainings from the same base, and the mean of their weights is kept.

A training that sees ever more pairs of the same groups learns those groups by heart: groups that it has not seen get
worse again, and more of what the base knew is forgotten. Trainings that each stop early, averaged, do neither (model
soups: Wortsman et al. 2022, arXiv:2203.05482), in the time that one training over all pairs takes.
"""

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np
import torch
from torch import nn

from simile.artifacts import Pair


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
