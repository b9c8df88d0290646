"""Weight averaging over several trainings (model soups: Wortsman et al. 2022, arXiv:2203.05482).

A training that sees ever more pairs of the same groups memorises those groups: unseen groups get worse again, and more
of what the base knew is forgotten. Many pairs are therefore dealt out to several trainings from the same base, each of
which stops early, and their weights are averaged. This takes the time of one training over all pairs.
"""

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np
import torch
from torch import nn

from simile.artifacts import Pair


def num_trainings(files: Sequence[Sequence[Pair]], max_pairs: int | None) -> int:
    """Return the fewest trainings of which none sees more than ``max_pairs`` pairs."""
    return max(1, ceil(sum(map(len, files)) / max_pairs)) if max_pairs else 1


def share_of(files: Sequence[Sequence[Pair]], number: int, num: int, seed: int) -> Sequence[Sequence[Pair]]:
    """Return the pairs of one of ``num`` trainings, numbered from 1, file by file.

    Each pair is dealt to one training, and all get about equally many. A single training gets all pairs in their order.
    """
    if num == 1:
        return files
    # Files may be sorted by class, so their rows are shuffled; the same seed deals the same pairs.
    orders = [np.random.default_rng(seed).permutation(len(rows)) for rows in files]
    return [[rows[i] for i in order[number - 1 :: num]] for rows, order in zip(files, orders, strict=True)]


@torch.no_grad()
def set_to_mean(first: nn.Module, others: Iterable[nn.Module]) -> None:
    """Set the weights of the first module to the mean over all modules, which have the same architecture."""
    weights = {name: value for name, value in first.state_dict().items() if value.is_floating_point()}
    for number, other in enumerate(others, 2):
        others_weights = other.state_dict()
        for name, value in weights.items():
            value.lerp_(others_weights[name].to(value), 1 / number)
