"""Batches of training pairs, in an order that the seed determines."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import ceil
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers.base.sampler import DefaultBatchSampler

BATCHES_SORTED_TOGETHER = 20


def epochs_of(epochs: Sequence[int], num_pairs: Sequence[int]) -> list[range]:
    """Return the indices of the pairs of each epoch, given the numbers of epochs and of pairs of each file."""
    starts = [0, *accumulate(num_pairs)]
    files = [range(start, start + num) for start, num in zip(starts, num_pairs, strict=False)]
    return [file for file, num in zip(files, epochs, strict=True) for _ in range(num)]


def last_steps(epochs: Sequence[range], batch_size: int) -> list[int]:
    """Return the number of steps done at the end of each epoch."""
    return list(accumulate(ceil(len(epoch) / batch_size) for epoch in epochs))


def pair_lengths(dataset: Dataset) -> NDArray[np.int32]:
    """Return the length of each pair's longer text, in characters."""
    # The texts themselves stay in the dataset's file.
    both = [pc.utf8_length(dataset.data.column(name)) for name in ("text_a", "text_b")]
    lengths: NDArray[np.int32] = pc.max_element_wise(*both).to_numpy()
    return lengths


class LengthBatchSampler(DefaultBatchSampler):  # type: ignore[misc]
    """Batches of pairs of similar length: less padding and so less time, in an order that is still random.

    For each epoch, it shuffles the pairs, sorts each stretch of some batches by length, and shuffles the batches. The
    trainer sees all epochs as one.
    """

    def __init__(self, dataset: Dataset, *args: Any, epochs: Sequence[range], **keywords: Any) -> None:
        super().__init__(dataset, *args, **keywords)
        self._lengths, self._epochs = pair_lengths(dataset), epochs

    def __len__(self) -> int:
        """Return the number of batches over all epochs."""
        return last_steps(self._epochs, self.batch_size)[-1]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of indices."""
        for number, pairs in enumerate(self._epochs):
            self.generator.manual_seed(self.seed + number)
            order = torch.randperm(len(pairs), generator=self.generator).numpy() + pairs.start
            stretch, size = self.batch_size * BATCHES_SORTED_TOGETHER, self.batch_size
            for start in range(0, len(order), stretch):
                part = order[start : start + stretch]
                order[start : start + stretch] = part[np.argsort(self._lengths[part], kind="stable")]
            for index in torch.randperm(ceil(len(order) / size), generator=self.generator).tolist():
                yield order[index * size : (index + 1) * size].tolist()
