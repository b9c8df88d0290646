from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from simile.artifacts import read_labelled_pairs, read_training_history
from training.averaging import num_trainings, set_to_mean, share_of
from training.config import TrainConfig
from training.train import train

SEVERAL = {"method": "full", "most_pairs": 80, "batch_size": 8}
"""Two trainings of ten steps each."""


def rows(num, *, start=0):
    """Stand-ins for pairs: dealing depends on their places only."""
    return [SimpleNamespace(number=number) for number in range(start, start + num)]


def dealt(files, max_pairs, seed=0):
    """The numbers of the pairs of each training, file by file."""
    num = num_trainings(files, max_pairs)
    shares = [share_of(files, number, num, seed) for number in range(1, num + 1)]
    return [[[row.number for row in file] for file in share] for share in shares]


@pytest.mark.parametrize("max_pairs", [None, 10, 11])
def test_few_pairs_stay_in_one_training(max_pairs):
    assert dealt([rows(6), rows(4, start=6)], max_pairs) == [[[*range(6)], [*range(6, 10)]]]


@pytest.mark.parametrize(("max_pairs", "num_trainings"), [(9, 2), (5, 2), (4, 3), (1, 10)])
def test_every_pair_is_dealt_once_and_none_gets_more_than_the_maximum(max_pairs, num_trainings):
    shares = [share for (share,) in dealt([rows(10)], max_pairs)]
    assert sorted(number for share in shares for number in share) == [*range(10)]
    assert len(shares) == num_trainings
    assert max(map(len, shares)) <= max_pairs
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_each_training_gets_pairs_of_every_file_and_of_both_ends_of_a_sorted_one():
    shares = dealt([rows(100), rows(20, start=100)], 60)
    assert [[len(file) for file in share] for share in shares] == [[50, 10], [50, 10]]
    for first, second in shares:
        assert 10 <= sum(number < 50 for number in first) <= 40
        assert min(second) >= 100


@pytest.mark.usefixtures("without_export")
def test_pairs_without_an_epoch_are_not_dealt_out(settings, material, tmp_path, capfd):
    files = [read_labelled_pairs(getattr(material, name)) for name in ("pairs", "upside_down", "pairs")]
    few = [replace(pairs, rows=pairs.rows[:32]) for pairs in files]
    train(TrainConfig(**settings(epochs=[0, 0, 1], most_pairs=40)), few, [], tmp_path / "bundle")
    assert "training 1 of" not in capfd.readouterr().err


def test_same_seed_deals_the_same():
    first, same, other = (dealt([rows(50)], 20, seed) for seed in (0, 0, 1))
    assert first == same != other


def test_mean_of_weights():
    modules = [nn.BatchNorm1d(1) for _ in range(3)]
    for module, weight in zip(modules, (1.0, 2.0, 6.0), strict=True):
        nn.init.constant_(module.weight, weight)
        module.num_batches_tracked.fill_(int(weight))
    set_to_mean(modules[0], modules[1:])
    assert modules[0].weight.item() == pytest.approx(3)
    assert modules[0].num_batches_tracked == 1


def test_bundle_has_the_mean_of_the_trainings_weights(trained):
    run = trained(**SEVERAL)
    parts = sorted(run.work.glob("part-*"))
    assert len(parts) > 1
    saved = [load_file(part / "best" / "model.safetensors") for part in parts]
    mean = load_file(run.weights / "model.safetensors")
    assert all(torch.allclose(mean[name], sum(own[name] for own in saved) / len(saved), atol=1e-6) for name in mean)
    assert not torch.allclose(
        saved[0]["embeddings.word_embeddings.weight"], saved[1]["embeddings.word_embeddings.weight"]
    )


def test_history_and_losses_cover_all_trainings(trained):
    # Losses are logged every ten steps.
    run = trained(**SEVERAL)
    assert [entry.epoch for entry in run.history.epochs] == [0, 1]
    steps = [loss.step for loss in run.history.losses]
    of_parts = [read_training_history(part).losses for part in sorted(run.work.glob("part-*"))]
    assert len(steps) == sum(map(len, of_parts)) > len(of_parts[0])
    assert steps == sorted(set(steps))


def test_finished_trainings_are_not_repeated(settings, material, tmp_path, monkeypatch, capsys):
    files = [read_labelled_pairs(material.pairs)]
    config = TrainConfig(**settings(**SEVERAL))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("training.train.to_bundle", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, files, [], tmp_path / "bundle")
    capsys.readouterr()
    train(config, files, [], tmp_path / "bundle")
    said = capsys.readouterr().err
    assert "steps to go" not in said
    assert "exporting" in said
