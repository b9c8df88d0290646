"""Which pairs go into a batch together. The same seed and epoch give the same batches."""

from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers.base.sampler import DefaultBatchSampler

_BATCHES_SORTED_TOGETHER = 20


class LengthBatchSampler(DefaultBatchSampler):  # type: ignore[misc]
    """Batches of pairs of like length: less padding, and so less time, with the order still random.

    Shuffles the pairs, sorts each stretch of some batches by length, and shuffles the batches. For a dataset with the
    columns ``text_a`` and ``text_b``.
    """

    def __init__(self, dataset: Dataset, *args: Any, **keywords: Any) -> None:
        super().__init__(dataset, *args, **keywords)
        self._lengths = [max(map(len, texts)) for texts in zip(dataset["text_a"], dataset["text_b"], strict=True)]

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches of indices."""
        self.generator.manual_seed(self.seed + self.epoch)
        order: list[int] = torch.randperm(len(self._lengths), generator=self.generator).tolist()
        stretch = self.batch_size * _BATCHES_SORTED_TOGETHER
        batches = []
        for start in range(0, len(order), stretch):
            part = sorted(order[start : start + stretch], key=lambda i: self._lengths[i])
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        for index in torch.randperm(len(batches), generator=self.generator).tolist():
            yield batches[index]
