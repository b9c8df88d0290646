import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simile.artifacts import read_labelled_pairs
from simile.scoring import load
from simile.scoring.metrics import spearman
from training.config import TrainConfig
from training.interpolation import FACTORS, general_clusters
from training.train import train


def frontier(run):
    return json.loads((run.work / "frontier.json").read_text())


def test_general_sentences_are_many_and_each_is_there_once():
    clusters = general_clusters()
    texts = [text.casefold() for cluster in clusters for text in cluster]
    assert {len(cluster) for cluster in clusters} == {5}
    assert len(texts) == len(set(texts)) >= 1500
    assert all(text == text.strip() for text in texts)


@pytest.fixture
def kept(trained):
    """Tiny random encoders turn round within a few steps: what is asked of them has to be little."""
    return trained(keep=0.6, method="full", learning_rate=2e-3)


def test_chosen_is_the_best_of_those_that_agree_and_lose_nowhere(kept):
    start, *points = frontier(kept)
    allowed = [
        point
        for point in points
        if point["agreement"] >= 0.6 and all(point["dev"][name] >= start["dev"][name] for name in point["dev"])
    ]
    assert (start["factor"], start["agreement"]) == (0, 1)
    assert 0 < points[-1]["factor"] < 1
    assert all(point["dev"] for point in points if point["agreement"] >= 0.6)
    assert points[-1]["dev"]["dev"] == max(point["dev"]["dev"] for point in allowed)
    assert kept.bundle.manifest.made["kept"] == points[-1]["factor"]


def test_agreement_falls_with_the_way_from_the_base(kept):
    by_factor = sorted((point["factor"], point["agreement"]) for point in frontier(kept))
    assert {factor for factor, _ in by_factor} <= {0, *FACTORS}
    agreements = [agreement for _, agreement in by_factor]
    assert np.mean(np.diff(agreements) < 0.02) > 0.9


def test_bundle_has_the_weights_of_the_chosen_point(kept, trained, make_base, material):
    point = frontier(kept)[-1]
    whole = trained(keep=0, method="full", learning_rate=2e-3)
    folders = (make_base("bert"), whole.weights, kept.weights)
    before, learned, found = (load_file(folder / "model.safetensors") for folder in folders)
    for name in found:
        torch.testing.assert_close(found[name], torch.lerp(before[name], learned[name], point["factor"]))
    dev = read_labelled_pairs(material.dev)
    score_P = load(kept.out, device="cpu", precision="fp32").score(dev.texts)
    assert spearman(score_P, dev.target_P) == pytest.approx(point["dev"]["dev"], abs=1e-3)


def test_training_that_loses_on_a_dev_set_gives_the_base(trained, make_base):
    run = trained(keep=0.01, dev="upside_down", method="full", loss="cosent", epochs=2)
    assert run.bundle.manifest.made["kept"] == 0
    before, found = (load_file(folder / "model.safetensors") for folder in (make_base("bert"), run.weights))
    assert all(torch.equal(before[name], found[name]) for name in found)


def test_small_dev_set_has_no_say(settings, material, tmp_path):
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.upside_down))
    small = dataclasses.replace(dev, rows=dev.rows[:80])
    config = TrainConfig(**settings(keep=0.01, method="full", loss="cosent", epochs=2))
    bundle = train(config, [pairs], [small], tmp_path / "bundle")
    assert bundle.manifest.made["kept"] == 1
    assert [point["dev"] for point in json.loads((tmp_path / "bundle.work" / "frontier.json").read_text())] == [{}, {}]


def test_adapters_are_interpolated_as_all_weights_are(trained):
    run = trained(keep=0.9)
    assert frontier(run)[-1]["agreement"] >= 0.9


def test_keep_of_zero_keeps_all(trained):
    run = trained()
    assert "kept" not in run.bundle.manifest.made
    assert not (run.work / "frontier.json").exists()
