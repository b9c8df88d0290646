import random

import pytest
import torch
from datasets import Dataset

from training.sampler import GroupBatchSampler, LengthBatchSampler


def made(sampler, dataset, batch_size, seed):
    """As the trainer makes it."""
    return sampler(dataset, batch_size=batch_size, drop_last=False, generator=torch.Generator(), seed=seed)


def by_length(lengths, *, batch_size=8, seed=0):
    texts = {"text_a": ["a" * length for length in lengths], "text_b": ["b"] * len(lengths)}
    return made(LengthBatchSampler, Dataset.from_dict(texts), batch_size, seed)


def by_group(groups, *, batch_size=8, seed=0):
    return made(GroupBatchSampler, Dataset.from_dict({"label": groups}), batch_size, seed)


@pytest.fixture
def lengths():
    return random.Random(0).choices(range(1, 100), k=203)


@pytest.fixture
def groups():
    return random.Random(0).choices(range(12), k=203)


def test_every_pair_is_in_one_batch_of_like_length(lengths):
    batches = list(by_length(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert len(batches) == len(by_length(lengths)) == 26
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert sum(spread) / len(spread) < 15


def test_no_batch_of_the_ranking_loss_has_two_pairs_of_a_group(groups):
    batches = list(by_group(groups))
    assert all(len({groups[i] for i in batch}) == len(batch) for batch in batches)
    assert len(batches) == len(by_group(groups)) == 25
    indices = [index for batch in batches for index in batch]
    assert len(set(indices)) == len(indices) > 190


def test_batch_is_no_larger_than_there_are_groups():
    batches = list(by_group([0, 1, 2] * 5, batch_size=8))
    assert [len(batch) for batch in batches] == [3] * 5


@pytest.mark.parametrize("make", [by_length, by_group])
def test_same_seed_and_epoch_give_the_same_batches_and_others_do_not(make, groups):
    def batches(seed, epoch):
        sampler = make(groups, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert batches(0, 0) == batches(0, 0)
    assert batches(0, 0) != batches(0, 1)
    assert batches(0, 0) != batches(5, 0)
