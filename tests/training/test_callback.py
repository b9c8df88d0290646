import dataclasses
import re
import time

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import TrainerState

import training.train
from simile.artifacts import (
    EpochEntry,
    TrainingHistory,
    read_labelled_pairs,
    read_training_history,
    write_training_history,
)
from simile.errors import InputError
from simile.progress import Progress
from simile.scoring.metrics import EDGES, overlap
from training.callback import TrainingCallback
from training.config import TrainConfig
from training.dev_scoring import score_epoch
from training.estimate import seconds_per_step
from training.torch_encoder import load_encoder
from training.train import train
from training.work import Work


@pytest.fixture
def few(material):
    pairs = read_labelled_pairs(material.pairs)
    return dataclasses.replace(pairs, rows=pairs.rows[:32])


@pytest.fixture
def notes(monkeypatch):
    """The notes beside the progress bar, in order."""
    notes = []
    advance = Progress.advance

    def remembering(progress, num=1, note=None):
        if note is not None:
            notes.append(note)
        advance(progress, num, note)

    monkeypatch.setattr(Progress, "advance", remembering)
    return notes


@pytest.mark.usefixtures("without_export")
def test_line_shows_the_last_loss_and_dev_figures(settings, few, tmp_path, notes):
    other = dataclasses.replace(few, name="other", rows=few.rows[:20])
    train(TrainConfig(**settings(batch_size=2)), [few], [few, other], tmp_path / "bundle")
    history = read_training_history(tmp_path / "bundle.work")
    base, tuned = (
        ", ".join(
            f"{label} {np.mean([getattr(figures, name) for figures in entry.dev.values()]):.3f}"
            for name, label in (("spearman", "dev Spearman"), ("separability", "separability"))
        )
        for entry in history.epochs
    )
    loss = f"loss {history.losses[0].total:.3f}"
    assert notes == [base, f"{loss}, {base}", f"{loss}, {tuned}"]


@pytest.mark.usefixtures("without_export")
def test_line_of_a_graded_dev_set_has_no_separability(settings, material, tmp_path, notes):
    graded = read_labelled_pairs(material.graded)
    few = dataclasses.replace(graded, rows=graded.rows[:32])
    train(TrainConfig(**settings()), [few], [few], tmp_path / "bundle")
    assert len(notes) == 2
    assert all(re.fullmatch(r"dev Spearman -?0\.\d{3}", note) for note in notes)
    history = read_training_history(tmp_path / "bundle.work")
    assert [entry.histograms for entry in history.epochs] == [{}, {}]


@pytest.mark.usefixtures("without_export")
def test_line_without_dev_sets_shows_the_loss(settings, few, tmp_path, notes):
    train(TrainConfig(**settings(batch_size=2)), [few], [], tmp_path / "bundle")
    assert notes[0] == ""
    assert re.fullmatch(r"loss \d\.\d{3}", notes[1])


@pytest.mark.usefixtures("without_export")
def test_estimate_comes_before_the_first_step(settings, few, tmp_path, capsys):
    train(TrainConfig(**settings(epochs=2)), [few], [few], tmp_path / "bundle")
    said = capsys.readouterr().err.splitlines()
    (line,) = (number for number, text in enumerate(said) if text.startswith("steps to go"))
    assert re.fullmatch(r"steps to go: 4, epochs: 2; about \d+(\.\d)? s on this machine", said[line])
    assert said[line + 1].startswith("training ")
    assert "0%  0/4 steps" in said[line + 1]


@pytest.mark.parametrize("changed", [{}, {"method": "full", "loss": {"ranking": 1, "focal": 1}}], ids=["lora", "full"])
def test_estimate_changes_nothing(settings, few, tmp_path, monkeypatch, changed):
    config = TrainConfig(**settings(**changed))

    def checked(trainer):
        earlier = torch.get_rng_state()
        assert seconds_per_step(trainer) > 0
        assert torch.equal(torch.get_rng_state(), earlier)
        assert all(parameter.grad is None for parameter in trainer.loss.parameters())
        return 1.0

    bundles = []
    for name, estimate in (("with", checked), ("without", lambda trainer: 1.0)):
        monkeypatch.setattr(training.train, "seconds_per_step", estimate)
        bundles.append(train(config, [few], [few], tmp_path / name / "bundle"))
    assert bundles[0].manifest.members == bundles[1].manifest.members


def test_estimate_counts_the_optimizer(settings, few, tmp_path, monkeypatch):
    estimates = []

    def with_a_slow_optimizer(trainer):
        hook = register_optimizer_step_pre_hook(lambda *_: time.sleep(0.5))
        estimates.append(seconds_per_step(trainer))
        hook.remove()
        raise KeyboardInterrupt

    monkeypatch.setattr(training.train, "seconds_per_step", with_a_slow_optimizer)
    with pytest.raises(KeyboardInterrupt):
        train(TrainConfig(**settings()), [few], [], tmp_path / "bundle")
    assert estimates[0] > 0.5


def test_estimate_of_a_resumed_run_counts_dev_scoring(tmp_path, capsys):
    work = Work(tmp_path / "bundle")
    epochs = (EpochEntry(epoch=epoch, seconds=100, dev={}, histograms={}, mean=epoch) for epoch in (0, 1))
    write_training_history(work.folder, TrainingHistory(epochs=epochs))
    last_steps = [10, 20, 30]
    callback = TrainingCallback(None, None, work, last_steps, seconds_per_step=1, log=lambda figures, step: None)
    callback.on_train_begin(None, TrainerState(global_step=10, max_steps=30), None)
    assert "steps to go: 20, epochs: 2; about 3 min 40 s" in capsys.readouterr().err


def test_history_has_the_histograms_behind_its_figures(trained, material):
    label_P = read_labelled_pairs(material.dev).target_P
    for entry in trained().history.epochs:
        counts = {name: np.array(counts) for name, counts in entry.histograms["dev"]}
        assert {name: counts_B.sum() for name, counts_B in counts.items()} == {
            "positive": (label_P == 1).sum(),
            "negative": (label_P == 0).sum(),
        }
        middles = (EDGES[:-1] + EDGES[1:]) / 2
        score_P = np.concatenate([np.repeat(middles, counts[name]) for name in ("positive", "negative")])
        assert overlap(score_P, np.sort(label_P)[::-1]) == pytest.approx(entry.dev["dev"].overlap)


def test_losses_of_all_steps_are_kept_with_their_parts(trained):
    losses = trained(epochs=2).history.losses
    assert [loss.step for loss in losses] == [10, 20]
    for loss in losses:
        assert set(loss.parts) == {"ranking", "cosent"}
        assert loss.total == pytest.approx(sum(loss.parts.values()), abs=2e-4)


def test_history_that_is_damaged_or_of_another_version_is_refused_in_one_line(tmp_path):
    for content in ('{"schema_version": 2}', "[]", '{"schema_version": 1, "epoch": []}', "{"):
        (tmp_path / "history.json").write_text(content)
        with pytest.raises(InputError, match=r"^.*history\.json: .*; need a training history of version 1; .*$"):
            read_training_history(tmp_path)


def test_constant_dev_scores_have_no_figure_to_choose_by(few, make_base, capsys):
    encoder = load_encoder(str(make_base("bert")), max_length=24)
    for weights in encoder.model.parameters():
        torch.nn.init.zeros_(weights)
    many = dataclasses.replace(few, rows=few.rows * (100 // len(few.rows) + 1))
    entry = score_epoch(encoder, [many], ("", ""), 1, "epoch 1")
    assert (entry.mean, entry.dev["pairs"].spearman) == (None, None)
    assert "epoch 1: dev Spearman pairs undefined" in capsys.readouterr().err
