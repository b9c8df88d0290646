import random

import pytest
import torch
from datasets import Dataset

from training.sampler import LengthBatchSampler


def made(lengths, *, seed=0, epoch=0):
    """As the trainer makes it."""
    texts = {"text_a": ["a" * length for length in lengths], "text_b": ["b"] * len(lengths)}
    sampler = LengthBatchSampler(
        Dataset.from_dict(texts), batch_size=8, drop_last=False, generator=torch.Generator(), seed=seed
    )
    sampler.set_epoch(epoch)
    return sampler


@pytest.fixture
def lengths():
    return random.Random(0).choices(range(1, 100), k=203)


def test_every_pair_is_in_one_batch_of_like_length(lengths):
    batches = list(made(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert len(batches) == len(made(lengths)) == 26
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert sum(spread) / len(spread) < 15


def test_same_seed_and_epoch_give_the_same_batches_and_others_do_not(lengths):
    assert list(made(lengths)) == list(made(lengths))
    assert list(made(lengths)) != list(made(lengths, epoch=1))
    assert list(made(lengths)) != list(made(lengths, seed=5))
