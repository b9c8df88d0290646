"""The recipes that come with the package: what they say, and that each trains and exports."""

import functools
import random
from pathlib import Path

import pytest

from pipeline.embedded import PRESETS, recipe_path, recipes
from pipeline.presets import read_train_config
from pipeline.run_config import read_run_config
from simile.artifacts import Pair, read_labelled_pairs, read_training_history, work_folder, write_pairs
from simile.scoring import load
from training.config import TrainConfig
from training.train import train

ROOT = Path(__file__).parents[2]
DOCUMENTS = "documents=documents.jsonl"
ARCHITECTURES = {"minilm": "bert", "mpnet": "mpnet", "nomic": "nomic_bert"}
"""Of each preset's encoder."""
NUM_PAIRS = 40
"""Of a file: two steps an epoch."""


def members(recipe, *overrides):
    """The members' settings in a recipe."""
    return read_run_config(recipe_path(recipe), [DOCUMENTS, *overrides]).train


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
    """Trains a member's settings on a tiny encoder of an architecture, once for the same ones."""

    @functools.cache
    def trained(settings, architecture):
        config = TrainConfig.model_validate_json(settings)
        tiny = {"base": str(make_base(architecture)), "revision": None, "max_length": 32}
        # Of its 32 dimensions.
        tiny |= {"matryoshka": (16, 8)} if config.matryoshka else {}
        files = pair_files if isinstance(config.epochs, tuple) else pair_files[:1]
        out = tmp_path_factory.mktemp("members") / config.name
        return train(config.model_copy(update=tiny), files, [], out)

    return lambda config, architecture: trained(config.model_dump_json(), architecture)


def check_bundle(bundle, config):
    """The bundle has the member that the settings say, after as many epochs, and scores as it did when it was made."""
    (member,) = bundle.manifest.members
    assert (member.name, member.prompt) == (config.name, config.prompt)
    history = read_training_history(work_folder(bundle.path))
    num_epochs = sum(config.epochs) if isinstance(config.epochs, tuple) else config.epochs
    assert [entry.epoch for entry in history.epochs] == list(range(num_epochs + 1))
    assert load(bundle.path, device="cpu", precision="fp32").check_golden() < 1e-5


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("recipe", recipes())
def test_recipe_takes_every_preset(recipe, preset):
    for member in members(recipe, f"train.preset={preset}"):
        assert (member.base, member.prompt) == (read_train_config(preset).base, read_train_config(preset).prompt)


def test_recipes_run_without_the_hub_but_for_the_ensemble():
    bases = {recipe: {member.base for member in members(recipe)} for recipe in recipes()}
    assert bases.pop("ensemble") == {read_train_config(name).base for name in ("mpnet", "nomic")}
    assert set().union(*bases.values()) == {"bundled:minilm"}


def test_what_a_recipe_sets_is_not_of_the_preset():
    (member,) = members("lora-16", "train.preset=mpnet")
    assert (member.lora.rank, member.lora.alpha, member.lora.dropout, member.learning_rate) == (16, 32, 0.05, 2e-4)
    assert [member.seed for member in members("seeds", "train.preset=mpnet")] == [0, 1, 2]


def test_recipes_differ():
    configs = [read_run_config(recipe_path(recipe), [DOCUMENTS, "out=same"]).model_dump_json() for recipe in recipes()]
    assert len(set(configs)) == len(configs)


def test_recipes_say_what_they_are_and_are_listed():
    table = (ROOT / "examples" / "recipes" / "README.md").read_text()
    for recipe in recipes():
        assert recipe_path(recipe).read_text().startswith("# ")
        assert f"`{recipe}`" in table
        assert str(read_run_config(recipe_path(recipe), [DOCUMENTS]).out) == f"runs/{recipe}"


def test_recipe_is_found_by_name_and_by_path_and_its_documents_are_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for spec in ("lora-32", "examples/recipes/lora-32.yaml"):
        assert recipe_path(spec) == ROOT / "examples" / "recipes" / "lora-32.yaml"
    assert read_run_config(recipe_path("lora-32"), ["documents=my.jsonl"]).documents == Path("my.jsonl")


def test_own_file_comes_before_the_recipe_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("full").touch()
    assert recipe_path("full") == Path("full")


@pytest.mark.parametrize("recipe", sorted(set(recipes()) - {"ensemble"}))
def test_recipe_trains_and_exports(recipe, train_tiny):
    for config in members(recipe):
        check_bundle(train_tiny(config, "bert"), config)


@pytest.mark.parametrize("config", members("ensemble"), ids=lambda config: config.name)
def test_member_of_the_ensemble_trains_and_exports(config, train_tiny):
    check_bundle(train_tiny(config, ARCHITECTURES[config.name.partition("-")[0]]), config)


@pytest.mark.parametrize("preset", PRESETS)
def test_recipe_trains_and_exports_every_architecture(preset, train_tiny):
    (config,) = members("lora-16", f"train.preset={preset}")
    check_bundle(train_tiny(config, ARCHITECTURES[preset]), config)
