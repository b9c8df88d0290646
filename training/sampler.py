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
        order = _shuffled(self, len(self._lengths))
        stretch = self.batch_size * _BATCHES_SORTED_TOGETHER
        batches = []
        for start in range(0, len(order), stretch):
            part = sorted(order[start : start + stretch], key=lambda i: self._lengths[i])
            batches += [part[i : i + self.batch_size] for i in range(0, len(part), self.batch_size)]
        for index in torch.randperm(len(batches), generator=self.generator).tolist():
            yield batches[index]


class GroupBatchSampler(DefaultBatchSampler):  # type: ignore[misc]
    """Batches of positive pairs of different groups: in-batch negatives are then true negatives.

    For a dataset with the column ``label``, the number of each pair's group.
    """

    def __init__(self, dataset: Dataset, *args: Any, **keywords: Any) -> None:
        super().__init__(dataset, *args, **keywords)
        self._groups: list[int] = list(dataset["label"])
        # With few groups a batch cannot be larger than they are many.
        self.batch_size: int = min(self.batch_size, len(set(self._groups)))

    def __iter__(self) -> Iterator[list[int]]:
        """Yield full batches of indices, and at the end what did not fill one, as many as `len` says."""
        missing = len(self)
        open_batches: list[dict[int, int]] = []
        for index in _shuffled(self, len(self._groups)):
            group = self._groups[index]
            batch = next((batch for batch in open_batches if group not in batch), None)
            if batch is None:
                open_batches.append(batch := {})
            batch[group] = index
            if len(batch) == self.batch_size:
                # Its place in the list goes with it: searching for an equal batch would be slow.
                open_batches = [other for other in open_batches if other is not batch]
                missing -= 1
                yield list(batch.values())
        for batch in sorted(open_batches, key=len, reverse=True)[:missing]:
            yield list(batch.values())

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return max(1, len(self._groups) // self.batch_size)


def _shuffled(sampler: DefaultBatchSampler, num: int) -> list[int]:
    sampler.generator.manual_seed(sampler.seed + sampler.epoch)
    order: list[int] = torch.randperm(num, generator=sampler.generator).tolist()
    return order
