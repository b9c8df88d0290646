"""Checks what the recipes that come with the package say, and that each of them trains and exports."""

import functools
import json
import random
from pathlib import Path

import pytest

from pipeline.presets import PRESETS, read_train_config, recipes, run_values
from pipeline.run_config import read_run_config
from simile.artifacts import Pair, read_labelled_pairs, read_training_history, work_folder, write_pairs
from simile.errors import InputError
from simile.scoring import load
from training.config import TrainConfig
from training.train import train

DOCUMENTS = "documents=documents.jsonl"
ARCHITECTURES = {
    "minilm": "bert",
    "mpnet": "mpnet",
    "nomic": "nomic_bert",
    "gte": "modernbert",
    "e5": "xlm_roberta",
    "gemma": "gemma3",
}
"""Architecture of each preset's encoder."""
NUM_PAIRS = 40
"""Pairs per file: two steps per epoch."""
HUB = {"ensemble", "original"}
"""Recipes whose encoders come from the model hub."""


def run_config(recipe, *overrides):
    """Return the run that a recipe describes."""
    return read_run_config(Path(recipe), [DOCUMENTS, *overrides])


def members(recipe, *overrides):
    """Return the members' settings in a recipe."""
    return run_config(recipe, *overrides).train


@pytest.fixture(scope="module")
def pair_files(tmp_path_factory, helpdesk):
    """Three small files of labelled pairs, as a curriculum has them."""
    folder, chosen = tmp_path_factory.mktemp("phases"), random.Random(0)
    groups: dict[str, list[str]] = {}
    for row in helpdesk:
        groups.setdefault(str(row.group), []).append(row.text)
    paths = [folder / f"phase{number}.jsonl" for number in (1, 2, 3)]
    for path in paths:
        rows = []
        for number in range(NUM_PAIRS):
            a, b = chosen.sample(sorted(groups), 2)
            texts = chosen.sample(groups[a], 2) if number % 2 else [chosen.choice(groups[group]) for group in (a, b)]
            rows.append(Pair(*texts, label=number % 2))
        write_pairs(path, rows)
    return [read_labelled_pairs(path) for path in paths]


@pytest.fixture(scope="module")
def train_tiny(make_base, pair_files, tmp_path_factory):
    """Trains a tiny encoder of an architecture with a member's settings, once per settings and architecture.

    Interpolation, which takes most of the time, is left out but for the tests that name every architecture.
    """

    @functools.cache
    def trained(settings, architecture, interpolates):
        config = TrainConfig.model_validate_json(settings)
        tiny = {"base": str(make_base(architecture)), "revision": None, "max_length": 32}
        tiny |= {} if isinstance(config.epochs, tuple) else {"epochs": _epochs_of(config)}
        tiny |= {} if interpolates else {"min_base_agreement": 0}
        # The tiny encoder has 32 dimensions.
        tiny |= {"matryoshka": (16, 8)} if config.matryoshka else {}
        files = pair_files if isinstance(config.epochs, tuple) else pair_files[:1]
        out = tmp_path_factory.mktemp("members") / config.name
        return train(config.model_copy(update=tiny), files, [], out)

    def train_one(config, architecture, *, interpolates=False):
        return trained(config.model_dump_json(), architecture, interpolates)

    return train_one


def _epochs_of(config):
    """Return the number of epochs that a recipe is tried with: ``auto`` would give these few pairs ten."""
    return 1 if config.epochs == "auto" else config.epochs


def check_bundle(bundle, config):
    """Check that the bundle has the configured member and history, and gives the scores that its manifest states."""
    (member,) = bundle.manifest.members
    assert (member.name, member.prompt) == (config.name, config.prompt)
    history = read_training_history(work_folder(bundle.path))
    num_epochs = sum(config.epochs) if isinstance(config.epochs, tuple) else _epochs_of(config)
    assert [entry.epoch for entry in history.epochs] == list(range(num_epochs + 1))
    assert load(bundle.path, device="cpu", precision="fp32").check_golden() < 1e-5


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("recipe", recipes())
def test_recipe_takes_every_preset(recipe, preset):
    for member in members(recipe, f"train.preset={preset}"):
        assert (member.base, member.prompt) == (read_train_config(preset).base, read_train_config(preset).prompt)


def test_only_the_named_recipes_need_the_hub():
    bases = {recipe: {member.base for member in members(recipe)} for recipe in recipes()}
    assert bases.pop("ensemble") == {read_train_config(name).base for name in ("mpnet", "nomic")}
    assert bases.pop("original") == {read_train_config("mpnet").base}
    assert set().union(*bases.values()) == {"bundled:minilm"}


def test_recipe_wins_over_the_preset():
    (member,) = members("lora-16", "train.preset=mpnet")
    assert (member.lora.rank, member.lora.alpha, member.lora.dropout, member.learning_rate) == (16, 32, 0.05, 2e-4)
    assert [member.seed for member in members("seeds", "train.preset=mpnet")] == [0, 1, 2]


def test_recipes_differ():
    configs = [run_config(recipe, "out=same").model_dump_json() for recipe in recipes()]
    assert len(set(configs)) == len(configs)


@pytest.mark.parametrize("recipe", recipes())
def test_recipe_is_valid_and_states_its_question(recipe):
    assert recipes()[recipe]["question"].count("?") == 1
    assert run_config(recipe).out == Path(f"runs/{recipe}")


def test_original_recipe_is_the_original_experiments():
    (config,) = members("original")
    assert (config.method, config.lora.rank, config.lora.alpha, config.lora.dropout) == ("lora", 32, 64, 0.05)
    assert (config.learning_rate, config.warmup_share, config.epochs) == (1e-4, 0.1, (0, 0, 10))


def test_recipe_leaves_paths_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_run_config(Path("lora-32"), ["documents=my.jsonl"]).documents == Path("my.jsonl")


def test_unknown_recipe_is_refused_with_the_names_of_all():
    with pytest.raises(InputError, match=r"^lora: no such file, nor a recipe \(.*lora-16, lora-32"):
        run_values("lora")


def differing_in_more_than_numbers(names):
    """Return one recipe for each set of settings that differ in more than the size of numbers, such as a rank."""

    def without_sizes(value):
        if isinstance(value, dict):
            return {key: without_sizes(entry) for key, entry in value.items() if key not in ("name", "seed")}
        if isinstance(value, list):
            return [without_sizes(entry) for entry in value]
        return bool(value) if isinstance(value, (int, float)) else value

    settings = {
        name: json.dumps([without_sizes(one.model_dump(mode="json")) for one in members(name)]) for name in names
    }
    return sorted({text: name for name, text in settings.items()}.values())


@pytest.mark.parametrize("recipe", differing_in_more_than_numbers(sorted(set(recipes()) - HUB)))
def test_recipe_trains_and_exports(recipe, train_tiny):
    for config in members(recipe):
        check_bundle(train_tiny(config, "bert"), config)


@pytest.mark.parametrize(
    "config", [member for recipe in sorted(HUB) for member in members(recipe)], ids=lambda config: config.name
)
def test_recipe_from_the_hub_trains_and_exports(config, train_tiny):
    check_bundle(train_tiny(config, ARCHITECTURES[config.name.partition("-")[0]]), config)


@pytest.mark.parametrize("preset", PRESETS)
def test_recipe_trains_and_exports_every_architecture(preset, train_tiny):
    (config,) = members("lora-16", f"train.preset={preset}")
    check_bundle(train_tiny(config, ARCHITECTURES[preset.partition("-")[0]], interpolates=True), config)
