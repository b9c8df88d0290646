"""Presets: what they say, and how they are chosen and changed."""

import re

import pytest
import yaml

from pipeline.presets import PRESETS, read_train_config
from pipeline.run_config import read_run_config
from training.torch_encoder import load_encoder


def test_preset_stands_for_its_settings_and_keys_beside_it_replace_them(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("preset: mpnet\nepochs: 7\nlora: {rank: 4}\n")
    changed = {"epochs": 7, "lora": {"rank": 4, "alpha": 64, "dropout": 0.05}}
    assert read_train_config(str(path)).model_dump() == read_train_config("mpnet").model_dump() | changed


@pytest.mark.parametrize("train", ["minilm", {"preset": "minilm"}])
@pytest.mark.parametrize("override", ["train.preset=mpnet", "train=mpnet", "train={preset: mpnet}"])
def test_preset_may_be_set_and_changed_in_any_order(tmp_path, train, override):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"documents": "x", "mine": {"test_share": 0.2}, "train": train}))
    overrides = ["train.loss.cosent=2", override, "train.epochs=5"]
    (member,) = read_run_config(path, overrides).train
    mpnet = read_train_config("mpnet")
    assert member == mpnet.model_copy(update={"epochs": 5, "loss": mpnet.loss | {"cosent": 2.0}})


def test_member_of_a_run_may_be_a_file_beside_the_runs(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "own.yaml").write_text("preset: mpnet\nepochs: 7\n")
    (tmp_path / "own.yaml").write_text("preset: nomic\n")
    path = tmp_path / "folder" / "run.yaml"
    path.write_text(yaml.safe_dump({"documents": "x", "mine": {"test_share": 0.2}, "train": ["own.yaml", "minilm"]}))
    monkeypatch.chdir(tmp_path)
    expected = (read_train_config("mpnet", ["epochs=7"]), read_train_config("minilm"))
    for spelt in (path, path.relative_to(tmp_path)):
        assert read_run_config(spelt).train == expected
    assert read_run_config(path, ["train=own.yaml"]).train == (read_train_config("nomic"),)


def test_preset_of_a_train_config_may_be_set(tmp_path):
    assert read_train_config("minilm", ["epochs=5", "preset=nomic"]) == read_train_config("nomic", ["epochs=5"])


def test_presets_of_the_hub_are_pinned():
    for name in PRESETS:
        config = read_train_config(name)
        assert config.base.startswith("bundled:") or re.fullmatch(r"[0-9a-f]{40}", config.revision)


def test_bundled_preset_reads_as_much_of_a_text_as_the_untouched_encoder():
    config = read_train_config("minilm")
    assert config.max_length == load_encoder(config.base).max_length


def test_nomic_puts_its_prompt_before_texts():
    assert read_train_config("nomic").prompt == "classification: "
