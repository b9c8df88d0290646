"""Batches of training pairs, in an order that the seed determines."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import ceil
from typing import Any

import torch
from datasets import Dataset
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


def pair_lengths(dataset: Dataset) -> list[int]:
    """Return the length of each pair's longer text, in characters."""
    return [max(map(len, texts)) for texts in zip(dataset["text_a"], dataset["text_b"], strict=True)]


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
            order: list[int] = [pairs[i] for i in torch.randperm(len(pairs), generator=self.generator).tolist()]
            stretch, batches = self.batch_size * BATCHES_SORTED_TOGETHER, []
            for start in range(0, len(order), stretch):
                part = sorted(order[start : start + stretch], key=lambda i: self._lengths[i])
                batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
            for index in torch.randperm(len(batches), generator=self.generator).tolist():
                yield batches[index]
