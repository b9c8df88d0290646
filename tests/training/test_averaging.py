import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from simile.artifacts import read_labelled_pairs
from training.averaging import StepMean, deal, set_to_mean
from training.config import TrainConfig
from training.train import train
from training.watch import Watch

MOST = 40


def rows(num, *, start=0):
    """Stand-ins for pairs: dealing looks at nothing but their places."""
    return [SimpleNamespace(number=number) for number in range(start, start + num)]


def numbers(shares):
    return [[[row.number for row in file] for file in share] for share in shares]


@pytest.mark.parametrize("most", [None, 10, 11])
def test_few_pairs_stay_as_they_stand(most):
    assert numbers(deal([rows(6), rows(4, start=6)], most, 0)) == [[[*range(6)], [*range(6, 10)]]]


@pytest.mark.parametrize(("most", "num_trainings"), [(9, 2), (5, 2), (4, 3), (1, 10)])
def test_every_pair_is_dealt_once_and_nobody_gets_more_than_the_most(most, num_trainings):
    shares = [share for (share,) in numbers(deal([rows(10)], most, 0))]
    assert sorted(number for share in shares for number in share) == [*range(10)]
    assert len(shares) == num_trainings
    assert max(map(len, shares)) <= most
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_each_training_gets_of_every_file_and_of_both_ends_of_a_sorted_one():
    shares = numbers(deal([rows(100), rows(20, start=100)], 60, 0))
    assert [[len(file) for file in share] for share in shares] == [[50, 10], [50, 10]]
    for first, second in shares:
        assert 10 <= sum(number < 50 for number in first) <= 40
        assert min(second) >= 100


def test_pairs_that_no_epoch_goes_over_are_not_dealt_out(settings, material, tmp_path, capfd):
    files = [read_labelled_pairs(getattr(material, name)) for name in ("pairs", "upside_down", "pairs")]
    few = [replace(pairs, rows=pairs.rows[:32]) for pairs in files]
    train(TrainConfig(**settings(epochs=[0, 0, 1], most_pairs=MOST)), few, [], tmp_path / "bundle")
    assert "training 1 of" not in capfd.readouterr().err


def test_same_seed_deals_the_same():
    dealt = [numbers(deal([rows(50)], 20, seed)) for seed in (0, 0, 1)]
    assert dealt[0] == dealt[1] != dealt[2]


def test_mean_of_weights():
    modules = [nn.BatchNorm1d(1) for _ in range(3)]
    for module, weight in zip(modules, (1.0, 2.0, 6.0), strict=True):
        nn.init.constant_(module.weight, weight)
        module.num_batches_tracked.fill_(int(weight))
    set_to_mean(modules[0], modules[1:])
    assert modules[0].weight.item() == pytest.approx(3)
    assert modules[0].num_batches_tracked == 1


def stepped(mean, model, weights, *, start=1):
    for step, weight in enumerate(weights, start):
        nn.init.constant_(model.weight, weight)
        mean.add(step)


@pytest.mark.parametrize(("first_step", "expected"), [(None, 6.0), (1, 3.0), (2, 4.0), (3, 6.0), (4, 6.0)])
def test_mean_over_the_steps_stands_for_the_weights_and_leaves_them_again(first_step, expected):
    model = nn.Linear(1, 1)
    mean = StepMean(model, first_step)
    stepped(mean, model, (1.0, 2.0, 6.0))
    with mean.in_place():
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 6
    with mean.in_place():
        assert model.weight.item() == pytest.approx(expected)


def test_weights_that_are_not_trained_are_no_business_of_the_mean():
    model = nn.Linear(1, 1)
    model.weight.requires_grad = False
    mean = StepMean(model, 1)
    stepped(mean, model, (1.0, 3.0))
    with mean.in_place():
        assert model.weight.item() == 3


def test_mean_over_the_steps_goes_on_from_a_checkpoint(tmp_path):
    model = nn.Linear(1, 1)
    before, after = StepMean(model, 1), StepMean(model, 1)
    before.save_own(tmp_path)
    assert not list(tmp_path.iterdir())
    stepped(before, model, (1.0, 2.0))
    before.save_own(tmp_path)
    after.load_own(tmp_path)
    stepped(after, model, (6.0,), start=3)
    with after.in_place():
        assert model.weight.item() == pytest.approx(3)


def test_bundle_has_the_mean_of_the_trainings_weights(trained):
    run = trained(method="full", most_pairs=MOST)
    parts = sorted(run.work.glob("part-*"))
    assert len(parts) > 1
    saved = [load_file(part / "best" / "model.safetensors") for part in parts]
    kept = load_file(run.weights / "model.safetensors")
    assert all(torch.allclose(kept[name], sum(own[name] for own in saved) / len(saved), atol=1e-6) for name in kept)
    assert not torch.allclose(
        saved[0]["embeddings.word_embeddings.weight"], saved[1]["embeddings.word_embeddings.weight"]
    )


def test_bundle_has_the_mean_over_the_steps_which_the_rate_does_not_end(settings, material, tmp_path, monkeypatch):
    weights, rates = {}, []
    add, log = StepMean.add, Watch.on_log

    def noting_weights(mean, step):
        add(mean, step)
        weights[step] = mean.model[0].auto_model.embeddings.word_embeddings.weight.detach().clone()

    def noting_rates(watch, args, state, control, logs, **options):
        rates.extend(logs[name] for name in logs if name == "learning_rate")
        log(watch, args, state, control, logs=logs, **options)

    monkeypatch.setattr(StepMean, "add", noting_weights)
    monkeypatch.setattr(Watch, "on_log", noting_rates)
    files = [read_labelled_pairs(material.pairs)]
    config = TrainConfig(**settings(method="full", average_from=0.5, epochs=3, warmup_steps=0))
    train(config, files, [], tmp_path / "bundle")
    counted = [weights[step] for step in weights if step >= max(weights) / 2]
    kept = load_file(tmp_path / "bundle.weights" / config.name / "model.safetensors")[
        "embeddings.word_embeddings.weight"
    ]
    assert 1 < len(counted) < len(weights)
    assert torch.allclose(kept, sum(counted) / len(counted), atol=1e-6)
    assert not torch.allclose(kept, counted[-1], atol=1e-4)
    assert len(rates) > 1
    assert set(rates) == {config.learning_rate}


def test_history_and_losses_are_of_all_trainings(trained):
    # Losses are logged every ten steps.
    run = trained(method="full", most_pairs=MOST, epochs=4)
    assert [entry["epoch"] for entry in run.history] == [0, 1]
    steps = [entry["step"] for entry in json.loads((run.work / "losses.json").read_text())]
    of_parts = [json.loads((part / "losses.json").read_text()) for part in sorted(run.work.glob("part-*"))]
    assert len(steps) == sum(map(len, of_parts)) > len(of_parts[0])
    assert steps == sorted(set(steps))


def test_finished_trainings_are_not_done_again(settings, material, tmp_path, monkeypatch, capsys):
    files = [read_labelled_pairs(material.pairs)]
    config = TrainConfig(**settings(method="full", most_pairs=MOST))

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("training.train._to_bundle", stop)
        with pytest.raises(KeyboardInterrupt):
            train(config, files, [], tmp_path / "bundle")
    capsys.readouterr()
    train(config, files, [], tmp_path / "bundle")
    said = capsys.readouterr().err
    assert "steps to go" not in said
    assert "exporting" in said
