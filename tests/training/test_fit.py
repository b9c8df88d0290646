"""What the trainer gives to the loss."""

import torch

from simile.artifacts import Pair
from training.config import TrainConfig
from training.fit import Fit, dataset_of, encoder_to_train, trainer_of
from training.losses import loss_label


def test_numbers_of_texts_and_groups_reach_the_loss_exactly(settings, tmp_path):
    pairs = [Pair(f"a card {number}", f"a fee {number}", number % 2, group_a=f"g{number}") for number in range(20)]
    config = TrainConfig(**settings(method="full"))
    fit = Fit(config, [range(20)], dataset_of(pairs, tmp_path / "pairs.arrow"), None, tmp_path, None)
    trainer = trainer_of(fit, encoder_to_train(config))
    batches = [batch["label"] for batch in trainer.get_train_dataloader()]
    given = torch.tensor([loss_label(pair) for pair in pairs], dtype=torch.float64)
    # float32 has no odd numbers above 2**24.
    assert given[:, 2:5].min() > 2**24
    assert sorted(torch.cat(batches).tolist()) == sorted(given.tolist())


def test_teachers_numbers_are_those_of_its_embeddings(tmp_path):
    index = {"a card": 2**24 + 1, "a fee": 0}
    dataset = dataset_of([Pair("A  card", "a fee")], tmp_path / "pairs.arrow", index)
    assert dataset[0]["label"][2:4].tolist() == [2**24 + 1, 0]
