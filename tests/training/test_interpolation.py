import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simile.artifacts import InterpolationPoint, read_labelled_pairs, read_training_history
from simile.scoring import load
from simile.scoring.metrics import spearman
from training.config import TrainConfig
from training.interpolation import ALPHAS, WeightInterpolation, _search, general_clusters, input_moments, interpolate
from training.torch_encoder import linear_layers, load_encoder
from training.train import train


def test_general_sentences_are_many_and_each_is_there_once():
    clusters = general_clusters()
    texts = [text.casefold() for cluster in clusters for text in cluster]
    assert {len(cluster) for cluster in clusters} == {5}
    assert len(texts) == len(set(texts)) >= 1500
    assert all(text == text.strip() for text in texts)


@pytest.fixture
def interpolated(trained):
    """The tuned weights reach an agreement of about 0.955, less than required."""
    return trained(min_base_agreement=0.965, method="full", learning_rate=2e-3)


def test_chosen_is_the_best_of_those_that_agree_and_lose_nothing(interpolated):
    start, *points = interpolated.history.interpolation
    allowed = [
        point
        for point in points
        if point.agreement >= 0.965 and all(point.dev[name] >= start.dev[name] for name in point.dev)
    ]
    assert (start.alpha, start.agreement) == (0, 1)
    assert 0 < points[-1].alpha < 1
    assert all(point.dev for point in points if point.agreement >= 0.965)
    assert points[-1].dev["dev"] == max(point.dev["dev"] for point in allowed)
    assert interpolated.bundle.manifest.made.alpha == points[-1].alpha


def test_agreement_falls_with_alpha(interpolated):
    by_alpha = sorted((point.alpha, point.agreement) for point in interpolated.history.interpolation)
    assert {alpha for alpha, _ in by_alpha} <= {0, *ALPHAS}
    agreements = [agreement for _, agreement in by_alpha]
    assert np.mean(np.diff(agreements) < 0.02) > 0.9


def test_bundle_has_the_weights_of_the_chosen_point(interpolated, trained, make_base, material):
    point = interpolated.history.interpolation[-1]
    whole = trained(min_base_agreement=0, method="full", learning_rate=2e-3)
    folders = (make_base("bert"), whole.weights, interpolated.weights)
    before, learned, after = (load_file(folder / "model.safetensors") for folder in folders)
    layers = {f"{name}.weight" for name in linear_layers(load_encoder(str(make_base("bert"))).transformer.model)}
    for name in after.keys() - layers:
        torch.testing.assert_close(after[name], torch.lerp(before[name], learned[name], point.alpha))
    for name in after.keys() & layers:
        straight = torch.lerp(before[name], learned[name], point.alpha)
        assert 1e-3 < (after[name] - straight).norm() / (learned[name] - before[name]).norm() < 2
    dev = read_labelled_pairs(material.dev)
    score_P = load(interpolated.out, device="cpu", precision="fp32").score(dev.texts)
    assert spearman(score_P, dev.target_P) == pytest.approx(point.dev["dev"], abs=1e-3)


@pytest.fixture
def layers():
    """Two linear layers to interpolate: the first two of six inputs are the base's, the next two the tuned layer's."""
    torch.manual_seed(0)
    base, tuned, module = (torch.nn.Sequential(torch.nn.Linear(6, 3)).double() for _ in range(3))
    module.load_state_dict(tuned.state_dict())
    at_base, at_tuned = torch.diag(torch.tensor([1.0, 1, 0, 0, 0, 0])), torch.diag(torch.tensor([0.0, 0, 1, 1, 0, 0]))
    return base, tuned, module, WeightInterpolation(base, module, {"0": at_base}, {"0": at_tuned})


@torch.no_grad()
def test_linear_layer_returns_to_the_base_on_its_inputs_only(layers):
    base, tuned, module, interpolation = layers
    interpolation.set_alpha(0.3)
    weights = [layer[0].weight for layer in (base, tuned, module)]
    torch.testing.assert_close(weights[2][:, :2], weights[0][:, :2], atol=0.06, rtol=0)
    torch.testing.assert_close(weights[2][:, 2:4], weights[1][:, 2:4], atol=0.06, rtol=0)
    torch.testing.assert_close(weights[2][:, 4:], torch.lerp(weights[0], weights[1], 0.3)[:, 4:])
    torch.testing.assert_close(module[0].bias, torch.lerp(base[0].bias, tuned[0].bias, 0.3))


def test_alpha_0_is_the_base_and_1_the_tuned_layer(layers):
    base, tuned, module, interpolation = layers
    for alpha, expected in ((0, base), (1, tuned)):
        interpolation.set_alpha(alpha)
        assert torch.equal(module[0].weight, expected[0].weight)


@torch.no_grad()
def test_no_other_weights_are_nearer_to_the_outputs_of_both(layers, monkeypatch):
    monkeypatch.setattr(WeightInterpolation, "_RIDGE", 0)
    base, tuned, module, _ = layers
    base_inputs, tuned_inputs = torch.randn(50, 6).double(), torch.randn(50, 6).double() * torch.arange(6)
    moments = [{"0": inputs.T @ inputs / len(inputs)} for inputs in (base_inputs, tuned_inputs)]
    WeightInterpolation(base, module, *moments).set_alpha(0.4)

    def missed(weight):
        at_base = base_inputs @ (weight - base[0].weight).T
        at_tuned = tuned_inputs @ (weight - tuned[0].weight).T
        return 0.6 * at_base.square().mean() + 0.4 * at_tuned.square().mean()

    least = missed(module[0].weight)
    for _ in range(100):
        assert missed(module[0].weight + 0.05 * torch.randn(3, 6)) > least


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "mpnet", "nomic_bert"])
def test_moments_leave_out_padding(make_base, kind):
    base = load_encoder(str(make_base(kind)))
    texts = ["a short text", "another text that is far longer than the first one, by many words", "a short text"]
    together = input_moments(base, texts, ("", ""))
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


@pytest.mark.parametrize(("max_tokens", "num_texts"), [(10_000, 64), (400, 16)])
def test_moments_of_many_training_texts_come_from_an_even_part_of_them(make_base, monkeypatch, max_tokens, num_texts):
    given = []

    def spy(encoder, texts, prompt):
        given.append(texts)
        return input_moments(encoder, texts, prompt)

    monkeypatch.setattr("training.interpolation.input_moments", spy)
    monkeypatch.setattr("training.interpolation._MAX_TOKENS", max_tokens)
    base, tuned = (load_encoder(str(make_base("bert")), max_length=24) for _ in range(2))
    texts = [f"{i} " + "word " * 100 for i in range(64)]
    interpolate(base, tuned, [*texts, *texts], [], ("", ""), min_base_agreement=0.9, unseen={})
    assert given[1] == texts[:: 64 // num_texts]


@pytest.mark.parametrize(("loss", "chosen"), [(0.005, 1), (0.009, 1), (0.04, 0.2), (0.3, 0)])
@pytest.mark.parametrize("takes_highest", [False, True])
def test_a_dev_set_may_lose_a_little_where_the_mean_gains(loss, chosen, takes_highest):
    def point(alpha: float) -> InterpolationPoint:
        return InterpolationPoint(alpha=alpha, agreement=1, dev={"dev": 0.5 + 0.2 * alpha, "other": 0.8 - loss * alpha})

    _, best = _search(point(0), point, 0.95, takes_highest=takes_highest)
    assert best.alpha == pytest.approx(chosen)


def test_no_alpha_qualifies_whose_mean_is_below_the_base():
    def point(alpha: float) -> InterpolationPoint:
        return InterpolationPoint(
            alpha=alpha, agreement=1, dev={"dev": 0.5 + 0.004 * alpha, "other": 0.8 - 0.005 * alpha}
        )

    assert _search(point(0), point, 0.95, takes_highest=False)[1].alpha == 0


def test_training_that_loses_on_a_dev_set_gives_the_base(trained, make_base):
    run = trained(min_base_agreement=0.01, dev="upside_down", method="full", loss="cosent", epochs=2)
    assert run.bundle.manifest.made.alpha == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (make_base("bert"), run.weights))
    assert all(torch.equal(before[name], after[name]) for name in after)


def test_small_dev_set_does_not_choose(settings, material, tmp_path):
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.upside_down))
    small = dataclasses.replace(dev, rows=dev.rows[:80])
    config = TrainConfig(**settings(min_base_agreement=0.01, method="full", loss="cosent", epochs=2))
    bundle = train(config, [pairs], [small], tmp_path / "bundle")
    assert bundle.manifest.made.alpha == 1
    points = read_training_history(tmp_path / "bundle.work").interpolation
    assert [point.dev for point in points] == [{}, {}]


@pytest.mark.parametrize(("beside", "chosen"), [((), 0.05), (("small",), 1)])
def test_beside_a_small_dev_set_the_others_do_not_choose(make_base, material, monkeypatch, beside, chosen):
    # On the large set, every lower alpha is better.
    spearmans = iter(np.arange(1, 50) / 100)
    monkeypatch.setattr("training.interpolation.dev_spearmans", lambda *_: {"dev": next(spearmans)})
    dev = read_labelled_pairs(material.dev)
    sets = [dev, *(dataclasses.replace(dev, name=name, rows=dev.rows[:80]) for name in beside)]
    base, tuned = (load_encoder(str(make_base("bert"))) for _ in range(2))
    assert interpolate(base, tuned, ["a text"], sets, ("", ""), min_base_agreement=0.5, unseen={})[-1].alpha == chosen


def test_adapters_are_interpolated_as_all_weights_are(trained):
    run = trained(min_base_agreement=0.9)
    assert run.history.interpolation[-1].agreement >= 0.9


def test_min_base_agreement_of_zero_disables_interpolation(trained):
    run = trained()
    assert run.bundle.manifest.made.alpha is None
    assert run.history.interpolation == ()


def test_moments_come_from_the_texts_that_were_trained_on(settings, material, tmp_path, monkeypatch):
    given = []

    def spy(base, tuned, texts, *rest, **named):
        given.extend(texts)
        return [InterpolationPoint(alpha=1, agreement=1, dev=None)]

    monkeypatch.setattr("training.bundling.interpolate", spy)
    pairs = read_labelled_pairs(material.pairs)
    left_out, trained_on = (dataclasses.replace(pairs, rows=rows) for rows in (pairs.rows[:32], pairs.rows[32:64]))
    config = TrainConfig(**settings(min_base_agreement=0.1, epochs=(0, 1)))
    train(config, [left_out, trained_on], [pairs], tmp_path / "bundle")
    assert given == [text for pair in trained_on.texts for text in pair]
