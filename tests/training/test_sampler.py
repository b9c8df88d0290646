import random

import pytest
import torch
from datasets import Dataset

from training.config import TrainConfig, epochs_by_file
from training.sampler import LengthBatchSampler, epochs_of, last_steps


def made(lengths, epochs=None, *, seed=0):
    """Return the sampler as the trainer creates it."""
    texts = {"text_a": ["a" * length for length in lengths], "text_b": ["b"] * len(lengths)}
    return LengthBatchSampler(
        Dataset.from_dict(texts),
        batch_size=8,
        drop_last=False,
        generator=torch.Generator(),
        seed=seed,
        epochs=epochs or [range(len(lengths))],
    )


@pytest.fixture
def lengths():
    return random.Random(0).choices(range(1, 100), k=203)


def test_every_pair_is_in_one_batch_of_similar_length(lengths):
    batches = list(made(lengths))
    assert sorted(index for batch in batches for index in batch) == list(range(203))
    assert len(batches) == len(made(lengths)) == 26
    spread = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert sum(spread) / len(spread) < 15


def test_same_seed_gives_the_same_batches_and_another_epoch_or_seed_does_not(lengths):
    whole = range(203)
    first, second = (list(made(lengths, [whole, whole]))[i : i + 26] for i in (0, 26))
    assert list(made(lengths)) == first
    assert second not in (first, list(made(lengths, seed=5)))


def test_epochs_are_in_order_and_each_has_its_own_pairs(lengths):
    epochs = [range(5), range(5), range(5, 203)]
    batches = list(made(lengths, epochs))
    assert last_steps(epochs, 8) == [1, 2, 27]
    assert len(made(lengths, epochs)) == len(batches) == 27
    assert [sorted(batch) for batch in batches[:2]] == [list(range(5))] * 2
    assert sorted(index for batch in batches[2:] for index in batch) == list(range(5, 203))


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (2, [range(3), range(3), range(3, 7), range(3, 7)]),
        ((0, 2), [range(3, 7), range(3, 7)]),
        ((1, 1), [range(3), range(3, 7)]),
    ],
)
def test_number_of_epochs_is_for_all_files_or_per_file(epochs, expected):
    config = TrainConfig(base="bundled:minilm", epochs=epochs)
    assert epochs_of(epochs_by_file(config, [3, 4]), [3, 4]) == expected


@pytest.mark.parametrize(
    ("num_pairs", "epochs"),
    [([15_000], 1), ([4800], 1), ([3200], 2), ([1600], 4), ([800], 8), ([400], 10), ([2], 10), ([800, 800], 4)],
)
def test_few_pairs_get_more_epochs_but_not_too_many(num_pairs, epochs):
    assert epochs_by_file(TrainConfig(base="bundled:minilm"), num_pairs) == (epochs,) * len(num_pairs)


@pytest.mark.parametrize(
    ("learning_rate", "num_pairs", "epochs"),
    [(2e-5, 15_000, 2), (2e-5, 10_000, 3), (2e-5, 2200, 10), (5e-5, 3200, 4), (1e-4, 3200, 2), (2e-4, 3200, 2)],
)
def test_low_learning_rates_get_more_epochs(learning_rate, num_pairs, epochs):
    config = TrainConfig(base="bundled:mpnet", learning_rate=learning_rate)
    assert epochs_by_file(config, [num_pairs]) == (epochs,)


def test_epochs_for_another_number_of_files_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        epochs_of((1, 2), [3])
