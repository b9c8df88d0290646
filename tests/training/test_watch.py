import dataclasses
import json
import re
import time

import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import TrainerState

import training.train
from simile.artifacts import read_labelled_pairs
from simile.progress import Progress
from simile.scoring.metrics import EDGES, overlap
from training.config import TrainConfig
from training.estimate import seconds_a_step
from training.train import train
from training.watch import Watch
from training.work import Work


@pytest.fixture
def few(material):
    pairs = read_labelled_pairs(material.pairs)
    return dataclasses.replace(pairs, rows=pairs.rows[:32])


@pytest.fixture
def notes(monkeypatch):
    """What stands beside the bar, one after the other."""
    found = []
    advance = Progress.advance

    def remembering(progress, num=1, note=None):
        if note is not None:
            found.append(note)
        advance(progress, num, note)

    monkeypatch.setattr(Progress, "advance", remembering)
    return found


def test_line_shows_the_loss_and_what_the_dev_sets_said_last(settings, few, tmp_path, notes):
    other = dataclasses.replace(few, name="other", rows=few.rows[:20])
    train(TrainConfig(**settings(batch_size=2)), [few], [few, other], tmp_path / "bundle")
    work = tmp_path / "bundle.work"
    history, losses = (json.loads((work / f"{name}.json").read_text()) for name in ("history", "losses"))
    base, tuned = (
        ", ".join(
            f"{label} {np.mean([found[name] for found in entry['dev'].values()]):.3f}"
            for name, label in (("spearman", "dev Spearman"), ("separability", "separability"))
        )
        for entry in history
    )
    loss = f"loss {losses[0]['total']:.3f}"
    assert notes == [base, f"{loss}, {base}", f"{loss}, {tuned}"]


def test_line_of_a_graded_dev_set_has_no_separability(settings, material, tmp_path, notes):
    graded = read_labelled_pairs(material.graded)
    few = dataclasses.replace(graded, rows=graded.rows[:32])
    train(TrainConfig(**settings()), [few], [few], tmp_path / "bundle")
    assert len(notes) == 2
    assert all(re.fullmatch(r"dev Spearman -?0\.\d{3}", note) for note in notes)
    history = json.loads((tmp_path / "bundle.work" / "history.json").read_text())
    assert [entry["histograms"] for entry in history] == [{}, {}]


def test_line_without_dev_sets_shows_the_loss(settings, few, tmp_path, notes):
    train(TrainConfig(**settings(batch_size=2)), [few], [], tmp_path / "bundle")
    assert notes[0] == ""
    assert re.fullmatch(r"loss \d\.\d{3}", notes[1])


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
    bundle = train(config, [few], [few], tmp_path / "with" / "bundle")

    def checked(trainer):
        earlier = torch.get_rng_state()
        assert seconds_a_step(trainer) > 0
        assert torch.equal(torch.get_rng_state(), earlier)
        assert all(parameter.grad is None for parameter in trainer.loss.parameters())
        return 1.0

    monkeypatch.setattr(training.train, "seconds_a_step", checked)
    train(config, [few], [few], tmp_path / "checked" / "bundle")
    monkeypatch.setattr(training.train, "seconds_a_step", lambda trainer: 1.0)
    without = train(config, [few], [few], tmp_path / "without" / "bundle")
    assert without.manifest.members == bundle.manifest.members


def test_estimate_counts_the_optimizer(settings, few, tmp_path, monkeypatch):
    found = []

    def with_a_slow_optimizer(trainer):
        hook = register_optimizer_step_pre_hook(lambda *_: time.sleep(1))
        found.append(seconds_a_step(trainer))
        hook.remove()
        return found[0]

    monkeypatch.setattr(training.train, "seconds_a_step", with_a_slow_optimizer)
    train(TrainConfig(**settings()), [few], [], tmp_path / "bundle")
    assert found[0] > 1


def test_estimate_of_a_run_that_goes_on_counts_judging(tmp_path, capsys):
    work = Work(tmp_path / "bundle")
    work.write_history([{"epoch": epoch, "seconds": 100.0, "dev": {}, "mean": epoch} for epoch in (0, 1)])
    watch = Watch(None, None, work, [10, 20, 30], step_s=1.0, log=lambda figures, step: None)
    watch.on_train_begin(None, TrainerState(global_step=10, max_steps=30), None)
    assert "steps to go: 20, epochs: 2; about 3 min 40 s" in capsys.readouterr().err


def test_history_has_the_histograms_behind_its_figures(trained, material):
    label_P = read_labelled_pairs(material.dev).target_P
    for entry in trained().history:
        counts = {name: np.array(found) for name, found in entry["histograms"]["dev"].items()}
        assert {name: found.sum() for name, found in counts.items()} == {
            "positive": (label_P == 1).sum(),
            "negative": (label_P == 0).sum(),
        }
        middles = (EDGES[:-1] + EDGES[1:]) / 2
        score_P = np.concatenate([np.repeat(middles, counts[name]) for name in ("positive", "negative")])
        assert overlap(score_P, np.sort(label_P)[::-1]) == pytest.approx(entry["dev"]["dev"]["overlap"])


def test_losses_of_all_steps_are_kept_with_their_parts(trained):
    losses = json.loads((trained(epochs=4).work / "losses.json").read_text())
    assert [entry["step"] for entry in losses] == [10, 20, 30, 40]
    for entry in losses:
        assert set(entry) == {"step", "total", "ranking", "cosent"}
        assert entry["total"] == pytest.approx(entry["ranking"] + entry["cosent"], abs=2e-4)
