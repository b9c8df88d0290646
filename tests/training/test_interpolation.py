import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simile.artifacts import read_labelled_pairs
from simile.scoring import load
from simile.scoring.metrics import spearman
from training.base import linear_layers, load_base
from training.config import TrainConfig
from training.interpolation import FACTORS, Way, general_clusters, interpolate
from training.moments import input_moments
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
    """More is asked than is left at the end of the way: about 0.955."""
    return trained(keep=0.965, method="full", learning_rate=2e-3)


def test_chosen_is_the_best_of_those_that_agree_and_lose_nowhere(kept):
    start, *points = frontier(kept)
    allowed = [
        point
        for point in points
        if point["agreement"] >= 0.965 and all(point["dev"][name] >= start["dev"][name] for name in point["dev"])
    ]
    assert (start["factor"], start["agreement"]) == (0, 1)
    assert 0 < points[-1]["factor"] < 1
    assert all(point["dev"] for point in points if point["agreement"] >= 0.965)
    assert points[-1]["dev"]["dev"] == max(point["dev"]["dev"] for point in allowed)
    assert kept.bundle.manifest.made.alpha == points[-1]["factor"]


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
    layers = {f"{name}.weight" for name in linear_layers(load_base(str(make_base("bert"))).transformer.model)}
    for name in found.keys() - layers:
        torch.testing.assert_close(found[name], torch.lerp(before[name], learned[name], point["factor"]))
    for name in found.keys() & layers:
        straight = torch.lerp(before[name], learned[name], point["factor"])
        assert 1e-3 < (found[name] - straight).norm() / (learned[name] - before[name]).norm() < 2
    dev = read_labelled_pairs(material.dev)
    score_P = load(kept.out, device="cpu", precision="fp32").score(dev.texts)
    assert spearman(score_P, dev.target_P) == pytest.approx(point["dev"]["dev"], abs=1e-3)


@pytest.fixture
def layers():
    """The way from one linear layer to another: the first two of six inputs are the start's, the next two the end's."""
    torch.manual_seed(0)
    start, end, moving = (torch.nn.Sequential(torch.nn.Linear(6, 3)).double() for _ in range(3))
    moving.load_state_dict(end.state_dict())
    at_start, at_end = torch.diag(torch.tensor([1.0, 1, 0, 0, 0, 0])), torch.diag(torch.tensor([0.0, 0, 1, 1, 0, 0]))
    return start, end, moving, Way(start, moving, {"0": at_start}, {"0": at_end})


@torch.no_grad()
def test_a_linear_layer_goes_back_for_what_the_base_is_given_only(layers):
    start, end, moving, way = layers
    way.go_to(0.3)
    weights = [layer[0].weight for layer in (start, end, moving)]
    torch.testing.assert_close(weights[2][:, :2], weights[0][:, :2], atol=0.06, rtol=0)
    torch.testing.assert_close(weights[2][:, 2:4], weights[1][:, 2:4], atol=0.06, rtol=0)
    torch.testing.assert_close(weights[2][:, 4:], torch.lerp(weights[0], weights[1], 0.3)[:, 4:])
    torch.testing.assert_close(moving[0].bias, torch.lerp(start[0].bias, end[0].bias, 0.3))


def test_the_way_has_both_ends(layers):
    start, end, moving, way = layers
    for factor, there in ((0, start), (1, end)):
        way.go_to(factor)
        assert torch.equal(moving[0].weight, there[0].weight)


@torch.no_grad()
def test_no_other_weights_are_nearer_to_both_ends_outputs(layers, monkeypatch):
    monkeypatch.setattr(Way, "_RIDGE", 0)
    start, end, moving, _ = layers
    inputs_start, inputs_end = torch.randn(50, 6).double(), torch.randn(50, 6).double() * torch.arange(6)
    moments = [{"0": inputs.T @ inputs / len(inputs)} for inputs in (inputs_start, inputs_end)]
    Way(start, moving, *moments).go_to(0.4)

    def missed(weight):
        at_start = inputs_start @ (weight - start[0].weight).T
        at_end = inputs_end @ (weight - end[0].weight).T
        return 0.6 * at_start.square().mean() + 0.4 * at_end.square().mean()

    found = missed(moving[0].weight)
    for _ in range(100):
        assert missed(moving[0].weight + 0.05 * torch.randn(3, 6)) > found


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "mpnet", "nomic_bert"])
def test_moments_are_of_the_texts_tokens_alone(make_base, kind):
    base = load_base(str(make_base(kind)))
    texts = ["a short text", "another text that is far longer than the first one, by many words", "a short text"]
    together = input_moments(base, texts, "")
    inputs = {name: [] for name in linear_layers(base.transformer.model)}
    assert set(together) == set(inputs)
    for name, seen in inputs.items():
        layer = base.transformer.model.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].flatten(0, -2).clone()))
    for text in texts:
        base.model(base.model.preprocess([text]))
    for name, moment_II in together.items():
        input_LI = torch.cat(inputs[name])
        torch.testing.assert_close(moment_II, input_LI.T @ input_LI / len(input_LI), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("most", "asked"), [(10_000, 64), (400, 16)])
def test_of_many_tokens_of_training_texts_an_even_part_shows_what_layers_are_given(make_base, monkeypatch, most, asked):
    given = []

    def spy(encoder, texts, prompt):
        given.append(texts)
        return input_moments(encoder, texts, prompt)

    monkeypatch.setattr("training.interpolation.input_moments", spy)
    monkeypatch.setattr("training.interpolation._MOST_TOKENS", most)
    base, tuned = (load_base(str(make_base("bert")), max_length=24) for _ in range(2))
    texts = [f"{i} " + "word " * 100 for i in range(64)]
    interpolate(base, tuned, [*texts, *texts], [], "", keep=0.9)
    assert given[1] == texts[:: 64 // asked]


def test_training_that_loses_on_a_dev_set_gives_the_base(trained, make_base):
    run = trained(keep=0.01, dev="upside_down", method="full", loss="cosent", epochs=2)
    assert run.bundle.manifest.made.alpha == 0
    before, found = (load_file(folder / "model.safetensors") for folder in (make_base("bert"), run.weights))
    assert all(torch.equal(before[name], found[name]) for name in found)


def test_small_dev_set_has_no_say(settings, material, tmp_path):
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.upside_down))
    small = dataclasses.replace(dev, rows=dev.rows[:80])
    config = TrainConfig(**settings(keep=0.01, method="full", loss="cosent", epochs=2))
    bundle = train(config, [pairs], [small], tmp_path / "bundle")
    assert bundle.manifest.made.alpha == 1
    assert [point["dev"] for point in json.loads((tmp_path / "bundle.work" / "frontier.json").read_text())] == [{}, {}]


@pytest.mark.parametrize(("beside", "chosen"), [((), 0.1), (("small",), 1)])
def test_where_a_set_has_no_say_the_others_do_not_choose(make_base, material, monkeypatch, beside, chosen):
    # On the set that is heard every step back wins.
    spearmans = iter(np.arange(1, 50) / 100)
    monkeypatch.setattr("training.interpolation._dev_spearmans", lambda *_: {"dev": next(spearmans)})
    dev = read_labelled_pairs(material.dev)
    sets = [dev, *(dataclasses.replace(dev, name=name, rows=dev.rows[:80]) for name in beside)]
    base, tuned = (load_base(str(make_base("bert"))) for _ in range(2))
    assert interpolate(base, tuned, ["a text"], sets, "", keep=0.5)[-1].factor == chosen


def test_adapters_are_interpolated_as_all_weights_are(trained):
    run = trained(keep=0.9)
    assert frontier(run)[-1]["agreement"] >= 0.9


def test_keep_of_zero_keeps_all(trained):
    run = trained()
    assert run.bundle.manifest.made.alpha is None
    assert not (run.work / "frontier.json").exists()


def test_way_back_is_asked_about_the_texts_that_were_trained_on(settings, material, tmp_path, monkeypatch):
    given = []

    def spy(base, tuned, texts, *rest, **named):
        given.extend(texts)
        return interpolate(base, tuned, texts, *rest, **named)

    monkeypatch.setattr("training.train.interpolate", spy)
    pairs = read_labelled_pairs(material.pairs)
    left_out, trained_on = (dataclasses.replace(pairs, rows=rows) for rows in (pairs.rows[:32], pairs.rows[32:64]))
    config = TrainConfig(**settings(keep=0.1, epochs=(0, 1)))
    train(config, [left_out, trained_on], [pairs], tmp_path / "bundle")
    assert given == [text for pair in trained_on.texts for text in pair]
