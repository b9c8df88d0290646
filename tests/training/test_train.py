import dataclasses
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from pipeline.cli import main
from simile.artifacts import (
    RunFacts,
    read_bundle,
    read_labelled_pairs,
    read_training_history,
    read_training_texts,
    text_hash,
    text_key,
    work_folder,
)
from simile.artifacts.stored_pairs import StoredPairs
from simile.errors import InputError
from simile.files import alone
from simile.scoring import Scorer, choose_runtime, load
from simile.scoring.metrics import spearman
from training import losses
from training.baseline import make_baseline
from training.config import Loss, TrainConfig
from training.inputs import TrainingInputs
from training.torch_encoder import linear_layers, load_encoder
from training.train import train
from training.work import Work

ROOT = Path(__file__).parents[2]
ARCHITECTURES = ("bert", "mpnet", "nomic_bert")
LOSSES = [loss for loss in get_args(Loss) if loss != "teacher"]
"""Losses that need no teacher; `test_distillation` has the other one."""
LONG = {"epochs": 2}
"""20 steps with a checkpoint every 10: long enough to be stopped."""
FULL = {"method": "full", "prompt": "query: "}
CUT = {"matryoshka": [16, 8], "calibration": "isotonic"}


class StoppedAfterSaving:
    """A dev set that stops the run when it is read after a checkpoint was saved."""

    def __init__(self, pairs, work):
        self._pairs, self._work = pairs, work

    def __getattr__(self, name):
        return getattr(self._pairs, name)

    @property
    def texts(self):
        if list(self._work.glob("checkpoints/*/complete")):
            raise KeyboardInterrupt
        return self._pairs.texts


@pytest.fixture
def command(settings, material, tmp_path):
    """The arguments of a run from a config file, as on the command line."""

    def arguments(*options, out=tmp_path / "bundle", pairs=None, **changed):
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(settings(**changed)))
        named = ["--pairs", str(pairs or material.pairs), "--dev", str(material.dev), "--out", str(out)]
        return ["train", str(config), *named, *options]

    return arguments


@pytest.fixture
def few(material):
    """Pairs for two steps."""
    pairs = read_labelled_pairs(material.pairs)
    return dataclasses.replace(pairs, rows=pairs.rows[:32])


@pytest.fixture
def copied(trained, tmp_path):
    """A copy of a finished run."""
    run = trained()
    shutil.copytree(run.out.parent, tmp_path / "copy")
    return dataclasses.replace(run, out=tmp_path / "copy" / run.out.name)


@pytest.fixture
def at_checkpoint(monkeypatch):
    """Calls an action with the first checkpoint as soon as it is complete."""

    def arrange(action):
        mark_complete = Work.mark_complete

        def marked(work, checkpoint):
            mark_complete(work, checkpoint)
            monkeypatch.setattr(Work, "mark_complete", mark_complete)
            action(checkpoint)

        monkeypatch.setattr(Work, "mark_complete", marked)

    return arrange


def resize(disk, size_bytes):
    subprocess.run(["mount", "-o", f"remount,size={size_bytes}", disk], check=True)


def final_spearman(work):
    return read_training_history(work).epochs[-1].mean


def without_seconds(history):
    return [entry.model_copy(update={"seconds": 0}) for entry in history.epochs]


def checkpoints(work):
    return [path.name for path in sorted((work / "checkpoints").iterdir())]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_run_writes_bundle_weights_and_work_folder(trained, material, architecture):
    run = trained(architecture)
    assert read_bundle(run.out).identity == run.bundle.identity
    assert load(run.out, device="cpu", precision="fp32").check_golden() < 1e-5
    assert (run.weights / "modules.json").is_file()
    texts = {text for pair in read_labelled_pairs(material.pairs).texts for text in pair}
    assert read_training_texts(read_bundle(run.out)) == {text_hash(text) for text in texts}
    assert not (run.work / "checkpoints").exists()


@pytest.mark.parametrize(
    "changed",
    [
        {},
        FULL,
        {"loss": "ranking"},
        {"loss": "cosent"},
        {"pairs": "graded", "dev": "graded"},
        {"method": "full", "most_pairs": 80, "batch_size": 8},
        {"most_pairs": 80},
    ],
    ids=["lora", "full-prompt", "ranking", "cosent", "graded", "averaged", "lora-averaged"],
)
def test_dev_spearman_in_the_history_is_that_of_the_bundle(trained, material, changed):
    run = trained(**changed)
    dev = read_labelled_pairs(getattr(material, changed.get("dev", "dev")))
    score_P = load(run.out, device="cpu", precision="fp32").score(dev.texts)
    # Tiny encoders give many pairs nearly the same score; rounding may swap some.
    assert spearman(score_P, dev.target_P) == pytest.approx(run.dev_spearmans[1], abs=5e-3)


@pytest.mark.parametrize(("loss", "architecture"), [*zip([*LOSSES, "angle+mse"], cycle(ARCHITECTURES), strict=False)])
def test_each_loss_trains_and_exports(settings, few, tmp_path, loss, architecture):
    weights = dict.fromkeys(loss.split("+"), 1)
    train(TrainConfig(**settings(architecture, loss=weights, method="full")), [few], [few], tmp_path / "bundle")
    untouched, tuned = read_training_history(tmp_path / "bundle.work").epochs
    assert tuned.dev["pairs"].auc > untouched.dev["pairs"].auc


def test_curriculum_trains_on_its_files_in_order(trained, settings, material, tmp_path):
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.dev))
    parts = [dataclasses.replace(pairs, rows=rows) for rows in (pairs.rows[:48], pairs.rows[48:64], pairs.rows[64:])]
    config = TrainConfig(**settings(epochs=(2, 0, 1)))
    bundle = train(config, parts, [dev], tmp_path / "bundle")
    history = read_training_history(tmp_path / "bundle.work")
    assert [entry.epoch for entry in history.epochs] == [0, 1, 2, 3]
    read = [text for part in (parts[0], parts[2]) for pair in part.texts for text in pair]
    assert read_training_texts(bundle) == {text_hash(text) for text in read}


def test_run_stopped_while_an_epoch_was_scored_resumes_in_its_phase_and_scores_it(settings, material, tmp_path, capsys):
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.dev))
    parts = [dataclasses.replace(pairs, rows=rows) for rows in (pairs.rows[:80], pairs.rows[80:])]
    # The focal loss learns weights of its own.
    config, out = TrainConfig(**settings(epochs=(1, 2), loss={"ranking": 1, "focal": 1})), tmp_path / "bundle"
    whole, handler = train(config, parts, [dev], tmp_path / "whole"), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        train(config, parts, [StoppedAfterSaving(dev, tmp_path / "bundle.work")], out)
    assert checkpoints(tmp_path / "bundle.work") == ["checkpoint-10"]
    again = train(config, parts, [dev], out)
    assert "resuming from checkpoint-10" in capsys.readouterr().err
    histories = [read_training_history(tmp_path / name) for name in ("bundle.work", "whole.work")]
    assert without_seconds(histories[0]) == without_seconds(histories[1])
    assert again.manifest.members == whole.manifest.members
    assert signal.getsignal(signal.SIGTERM) is handler


def test_manifest_says_how_the_bundle_was_made(trained, material):
    made = trained().bundle.manifest.made
    assert made.by == "simile train"
    assert (made.run.config["method"], made.run.config["base"], made.seed) == ("lora", "tiny-bert", 0)
    assert made.run.pairs == (read_labelled_pairs(material.pairs).sha256,)
    assert {"torch", "transformers", "simile"} <= set(made.versions)


@pytest.mark.parametrize("changed", [{}, FULL], ids=["lora", "full"])
def test_nothing_that_is_published_contains_a_local_path(trained, tmp_path_factory, changed):
    run = trained(**changed)
    places = [str(place).encode() for place in (tmp_path_factory.getbasetemp().parent, ROOT, Path.home() / "")]
    files = [path for folder in (run.out, run.weights) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [(path.name, place) for path in files for place in places if place in path.read_bytes()] == []


def test_labelled_dev_pairs_give_calibration_and_thresholds(trained):
    manifest = trained().bundle.manifest
    assert (manifest.calibration.method, manifest.made.run.config["calibration"]) == ("platt", "platt")
    assert manifest.calibration.slope > 0
    assert -1 <= manifest.thresholds.best_f1 <= 1


def test_calibration_is_isotonic_if_the_config_says_so(trained):
    calibration = trained(**CUT).bundle.manifest.calibration
    assert calibration.method == "isotonic"
    assert len(calibration.scores) > 2


def test_graded_dev_pairs_give_no_calibration_or_thresholds(trained):
    manifest = trained(pairs="graded", dev="graded").bundle.manifest
    assert (manifest.calibration, manifest.thresholds) == (None, None)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapted_layers_are_those_that_the_embedding_depends_on(make_base, architecture):
    base = load_encoder(str(make_base(architecture)))
    base.model.train()(base.model.tokenize(["my card has not arrived"]))["sentence_embedding"].sum().backward()
    modules = base.transformer.model.named_modules()
    used = [name for name, module in modules if isinstance(module, torch.nn.Linear) and module.weight.grad is not None]
    assert linear_layers(base.transformer.model) == used
    assert used
    assert not any("pooler" in name for name in used)


@pytest.mark.parametrize("changed", [{}, FULL], ids=["lora", "full"])
def test_all_that_the_embedding_depends_on_is_trained(trained, make_base, changed):
    before = load_file(make_base("bert") / "model.safetensors")
    after = load_file(trained(**changed).weights / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    linear = {f"{name}.weight" for name in linear_layers(load_encoder(str(make_base("bert"))).transformer.model)}
    assert moved > linear if changed else moved == linear


def test_best_epoch_is_kept(trained, material):
    run = trained(dev="upside_down", epochs=3, loss="cosent")
    best, last = run.dev_spearmans[1], run.dev_spearmans[3]
    assert best == max(run.dev_spearmans[1:])
    assert run.dev_spearmans[0] > best > last
    dev = read_labelled_pairs(material.upside_down)
    score_P = load(run.out, device="cpu", precision="fp32").score(dev.texts)
    assert spearman(score_P, dev.target_P) == pytest.approx(best, abs=1e-3)


@pytest.mark.usefixtures("without_export")
def test_small_dev_set_does_not_choose_the_epoch(settings, material, few, tmp_path):
    dev = read_labelled_pairs(material.dev)
    small = dataclasses.replace(dev, name="small", rows=dev.rows[:4])
    train(TrainConfig(**settings()), [few], [dev, small], tmp_path / "bundle")
    for entry in read_training_history(tmp_path / "bundle.work").epochs:
        assert entry.mean == entry.dev["dev"].spearman != entry.dev["small"].spearman


@pytest.mark.usefixtures("without_export")
def test_dev_texts_that_are_trained_on_are_reported(settings, few, tmp_path, capfd):
    known = dataclasses.replace(few, name="known", rows=few.rows[:20])
    train(TrainConfig(**settings()), [few], [], tmp_path / "bundle", calibration_sets=[known])
    num = len({text for pair in known.texts for text in pair})
    assert f"note: known: {num} of its texts are trained on" in capfd.readouterr().err


def test_dev_texts_that_are_trained_on_are_stored_with_history_and_bundle(settings, material, few, tmp_path):
    (dev, out) = read_labelled_pairs(material.dev), tmp_path / "bundle"
    spelled = dataclasses.replace(few.rows[0], text_a=f"&#8203;{few.rows[0].text_a.upper()}\u00ad")
    known = dataclasses.replace(dev, name="known", rows=(*dev.rows[:30], spelled))
    bundle = train(TrainConfig(**settings()), [few], [dev, known], out)
    trained, *of_sets = ({text_key(text) for pair in pairs.texts for text in pair} for pairs in (few, dev, known))
    nums = {pairs.name: len(texts & trained) for pairs, texts in zip((dev, known), of_sets, strict=True)}
    assert nums["known"] >= 2
    assert bundle.manifest.made.trained_texts == nums
    assert read_training_history(tmp_path / "bundle.work").trained_texts == nums
    assert read_bundle(out).manifest.digest == bundle.manifest.digest


@pytest.mark.parametrize("method", ["lora", "full"])
def test_without_a_max_length_the_bases_own_is_used(trained, make_base, method):
    run = trained(pairs="few", dev=None, max_length=None, method=method)
    lengths = [load_encoder(str(folder)).max_length for folder in (run.weights, make_base("bert"))]
    assert lengths == [run.bundle.manifest.members[0].max_length] * 2


@pytest.mark.parametrize("changed", [{}, FULL], ids=["lora", "full"])
def test_published_weights_keep_the_dropout_of_the_base(trained, make_base, changed):
    folders = make_base("bert"), trained(**changed).weights
    before, after = (json.loads((folder / "config.json").read_text()) for folder in folders)
    rates = [name for name in before if name.endswith("dropout_prob")]
    assert len(rates) == 2
    assert [after[name] for name in rates] == [before[name] for name in rates] == [0.1, 0.1]


def test_same_seed_gives_the_same_dev_spearman(trained):
    assert trained(again=1).dev_spearmans == trained().dev_spearmans


def test_another_seed_gives_another_dev_spearman(trained):
    assert trained(seed=1).dev_spearmans != trained().dev_spearmans


def test_second_call_returns_the_bundle_without_training(copied, settings, material, capsys):
    before = {path: path.stat().st_mtime_ns for path in copied.out.parent.rglob("*") if path.is_file()}
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.dev))
    bundle = train(TrainConfig(**settings()), [pairs], [dev], copied.out)
    assert bundle.identity == copied.bundle.identity
    assert {path: path.stat().st_mtime_ns for path in copied.out.parent.rglob("*") if path.is_file()} == before
    assert "already trained" in capsys.readouterr().err


def test_bundle_without_its_work_folder_is_recognised(copied, settings, material):
    shutil.rmtree(copied.work)
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.dev))
    assert train(TrainConfig(**settings()), [pairs], [dev], copied.out).identity == copied.bundle.identity


def test_other_config_is_refused_with_a_way_out(copied, command, capsys):
    assert main(command(out=copied.out, seed=7)) == 2
    error = capsys.readouterr().err
    assert "differs in config (seed)" in error
    assert "--restart" in error
    assert read_bundle(copied.out).identity == copied.bundle.identity


def test_other_bundle_at_the_output_is_refused_with_a_way_out(copied, command, capsys):
    shutil.rmtree(copied.work)
    assert main(command(out=copied.out, seed=7)) == 2
    assert "holds another bundle, need --restart" in capsys.readouterr().err
    assert not copied.work.exists()


def test_restart_discards_the_earlier_run(copied, command):
    assert main(command("--restart", out=copied.out, seed=7)) == 0
    assert read_bundle(copied.out).manifest.made.seed == 7
    assert len(copied.history.epochs) == 2


def test_restart_keeps_a_folder_that_is_no_work_folder(copied, command, capsys):
    (copied.work / "run.json").unlink()
    (copied.work / "thesis.tex").touch()
    assert main(command("--restart", out=copied.out)) == 2
    assert "no training run" in capsys.readouterr().err
    assert (copied.work / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("rows", "changed", "message"),
    [
        ([{"label": 1}] * 40, {}, "all 40 pairs have the same label 1"),
        ([{"score": i} for i in range(40)], {"loss": "ranking"}, "got no positive pair, loss 'ranking' needs some"),
        ([{"score": i} for i in range(40)], {"loss": "focal"}, "got graded scores, loss 'focal' needs labels"),
        ([{"score": i} for i in range(40)], {"loss": "mse"}, "got a score of 2.0, loss 'mse' needs cosines"),
        ([{"label": i % 2} for i in range(40)], {"loss": "cosine"}, "loss: got 'cosine', need 'ranking'"),
        ([{"label": i % 2} for i in range(40)], {"epochs": [1, 1]}, "got 1 files of pairs (own), need one for each"),
        ([{"label": i % 2} for i in range(40)], {"epochs": [0, 0]}, "need at least one epoch"),
        ([{"label": i % 2} for i in range(40)], {"base": "./missing"}, "no such folder"),
        ([{"label": i % 2} for i in range(40)], {"max_length": 500}, "reads at most 130 tokens"),
        ([{"label": i % 2} for i in range(40)], {"prompt": "card " * 40}, "need at most 28 at this max_length"),
        ([{"label": i % 2} for i in range(40)], {"revision": "main"}, "for a local folder"),
        ([{"label": i % 2} for i in range(40)], {"seed": -1}, "seed: got -1"),
    ],
)
def test_inputs_that_cannot_be_trained_on_leave_no_files(command, tmp_path, capsys, rows, changed, message):
    pairs = tmp_path / "own.jsonl"
    pairs.write_text(
        "".join(json.dumps({"text_a": f"a {i}", "text_b": "b", **row}) + "\n" for i, row in enumerate(rows))
    )
    out = tmp_path / "new" / "bundle"
    assert main(command(out=out, pairs=pairs, **changed)) == 2
    assert message in capsys.readouterr().err
    assert not out.parent.exists()


def test_training_without_dev_sets_gives_no_calibration(trained):
    assert trained(pairs="few", dev=None, max_length=None, method="lora").bundle.manifest.calibration is None


def test_constant_scores_are_bad_input(settings, few, tmp_path):
    config = TrainConfig(**settings(method="full", learning_rate=1e30))
    with pytest.raises(InputError, match="need a lower learning_rate"):
        train(config, [few], [few], tmp_path / "bundle")


def test_loss_that_is_not_finite_is_bad_input_and_releases_the_terminal(settings, few, tmp_path, monkeypatch, capsys):
    pairs = dataclasses.replace(few, rows=few.rows * 10)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with pytest.raises(InputError, match="got a loss of nan, need a lower learning_rate"):
        train(TrainConfig(**settings(method="full", learning_rate=1e30)), [pairs], [], tmp_path / "bundle")
    assert capsys.readouterr().err.endswith(("\n", "\n\x1b[?25h"))


def test_weights_that_are_not_finite_are_bad_input_without_dev_pairs_too(settings, few, tmp_path):
    config = TrainConfig(**settings(method="full", learning_rate=1e38))
    with pytest.raises(InputError, match="step 2: got weights that are not finite, need a lower learning_rate"):
        train(config, [few], [], tmp_path / "bundle")


def test_only_the_base_encoder_is_left_once_weights_are_trained(settings, few, tmp_path, monkeypatch):
    def num_encoders():
        return sum(type(one) is SentenceTransformer for one in gc.get_objects())

    num_left: list[int] = []
    monkeypatch.setattr("training.train.to_bundle", lambda *_: num_left.append(num_encoders()))
    gc.collect()
    before = num_encoders()
    # Otherwise Python may happen to collect in time.
    gc.disable()
    try:
        train(TrainConfig(**settings(method="full")), [few], [], tmp_path / "bundle")
    finally:
        gc.enable()
    assert num_left == [before + 1]


def test_other_weights_under_the_same_name_are_another_base(settings, few, make_base, tmp_path):
    base = shutil.copytree(make_base("bert"), tmp_path / "model")
    config = TrainConfig(**settings() | {"base": str(base)})
    Work(tmp_path / "bundle").begin(TrainingInputs(config, [few]).facts, restart=False)
    shutil.copy(make_base("mpnet") / "model.safetensors", base / "model.safetensors")
    with pytest.raises(InputError, match="differs in base encoder's files, need"):
        train(config, [few], [], tmp_path / "bundle")


def test_other_data_is_named_in_words(tmp_path):
    facts = RunFacts(config={"seed": 0, "keep": 1}, base=None, version="1", pairs=("a",), dev={}, calibration=())
    work = Work(tmp_path / "bundle")
    work.begin(facts, restart=False)
    work.require_same(facts)
    others = {"config": {"seed": 1}, "version": "2", "pairs": ("b",), "dev": {"dev": "c"}, "calibration": ("d",)}
    other = facts.model_copy(update=others)
    settings = r"differs in config \(keep, seed\), version of Simile \(1, this is 2\)"
    with pytest.raises(InputError, match=rf"{settings}, training pairs, dev sets, calibration sets, need the same"):
        work.require_same(other)
    with pytest.raises(InputError, match=rf"{settings}, need the same"):
        work.require_same(other, settings_only=True)


def test_damaged_facts_are_refused_in_one_line(tmp_path):
    work = Work(tmp_path / "bundle")
    facts = RunFacts(config={}, base=None, version="1", pairs=(), dev={}, calibration=())
    work.begin(facts, restart=False)
    (work.folder / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"^.*run\.json: config: Field required; damaged .*; need --restart .*$"):
        work.require_same(facts)


def test_folder_without_merged_weights_is_kept(settings, few, tmp_path):
    (tmp_path / "bundle.weights").mkdir()
    (tmp_path / "bundle.weights" / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds something other than merged weights"):
        train(TrainConfig(**settings()), [few], [], tmp_path / "bundle")
    assert (tmp_path / "bundle.weights" / "thesis.tex").exists()


def test_facts_name_the_commit_which_does_not_decide(tmp_path, monkeypatch):
    work = Work(tmp_path / "bundle")
    facts = RunFacts(config={}, base=None, version="1", pairs=(), dev={}, calibration=())
    monkeypatch.setattr("training.work.commit", lambda: "0123abc-dirty")
    work.begin(facts, restart=False)
    assert json.loads((work.folder / "run.json").read_text())["commit"] == "0123abc-dirty"
    monkeypatch.setattr("training.work.commit", lambda: "0123abc")
    work.require_same(facts)


def test_checkpoint_is_on_the_disk_before_it_is_marked(tmp_path, monkeypatch):
    checkpoint = tmp_path / "checkpoint-10"
    (checkpoint / "inner").mkdir(parents=True)
    for name in ("model", "inner/state"):
        (checkpoint / name).touch()
    synced, fsync = [], os.fsync

    def record(opened):
        assert not (checkpoint / "complete").exists() or synced[-1] != "state"
        synced.append(Path(os.readlink(f"/proc/self/fd/{opened}")).name)
        fsync(opened)

    monkeypatch.setattr(os, "fsync", record)
    Work(tmp_path / "bundle").mark_complete(checkpoint)
    assert synced[:4] == ["state", "inner", "model", "checkpoint-10"]
    assert (checkpoint / "complete").is_file()


def test_second_training_of_one_output_is_told_at_once(command, tmp_path, capsys):
    with alone(tmp_path / "bundle"):
        assert main(command()) == 75
    assert "bundle: another process is writing it" in capsys.readouterr().err
    assert not (tmp_path / "bundle.work").exists()


def test_incomplete_checkpoint_is_not_resumed(tmp_path):
    work = Work(tmp_path / "bundle")
    for step in (10, 20):
        (work.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
    work.mark_complete(work.checkpoints / "checkpoint-10")
    assert work.last_checkpoint() == work.checkpoints / "checkpoint-10"
    assert checkpoints(work.folder) == ["checkpoint-10"]


def test_last_checkpoint_has_the_most_steps(tmp_path):
    work = Work(tmp_path / "bundle")
    for step in (90, 100):
        work.mark_complete(work.checkpoints / f"checkpoint-{step}")
    assert work.last_checkpoint() == work.checkpoints / "checkpoint-100"


def test_pairs_that_memory_does_not_hold_give_the_same_bundle(trained, settings, material, tmp_path, monkeypatch):
    monkeypatch.setattr("simile.artifacts.stored_pairs.MAX_IN_MEMORY", 50)
    pairs = read_labelled_pairs(material.pairs)
    assert isinstance(pairs.rows, StoredPairs)
    bundle = train(TrainConfig(**settings()), [pairs], [read_labelled_pairs(material.dev)], tmp_path / "bundle")
    assert bundle.manifest.digest == trained().bundle.manifest.digest


def test_killed_run_resumes_with_the_same_result(trained, command, tmp_path, capsys):
    argv, work = command(**LONG), tmp_path / "bundle.work"
    # Killed at once after the first checkpoint, the process leaves whatever it was writing.
    with subprocess.Popen([sys.executable, "-m", "pipeline.cli", *argv], cwd=ROOT, stderr=subprocess.PIPE) as process:
        while not list(work.glob("checkpoints/*/complete")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "bundle").exists()
    assert main(argv) == 0
    assert "resuming from checkpoint-" in capsys.readouterr().err
    assert len(read_training_history(work).epochs) == 3
    assert final_spearman(work) == pytest.approx(trained(**LONG).dev_spearmans[-1], abs=0.005)


def test_sigterm_stops_after_the_step_and_the_same_command_resumes(trained, command, at_checkpoint, tmp_path, capsys):
    argv, work = command(**LONG), tmp_path / "bundle.work"
    at_checkpoint(lambda _: signal.raise_signal(signal.SIGTERM))
    assert main(argv) == 75
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("simile: ")
    assert "stopped at step 11; the same command continues" in error
    assert checkpoints(work) == ["checkpoint-10", "checkpoint-11"]
    assert not (tmp_path / "bundle").exists()
    assert main(argv) == 0
    assert "resuming from checkpoint-11" in capsys.readouterr().err
    assert final_spearman(work) == pytest.approx(trained(**LONG).dev_spearmans[-1], abs=0.005)


def test_full_disk_stops_with_a_complete_checkpoint_and_the_same_command_resumes(
    trained, command, at_checkpoint, disk, capsys
):
    argv, work = command(out=disk / "bundle", **LONG), disk / "bundle.work"

    def leave_no_room_for_another(checkpoint):
        size = sum(path.stat().st_size for path in checkpoint.iterdir() if path.is_file())
        room = os.statvfs(disk)
        resize(disk, (room.f_blocks - room.f_bfree) * room.f_frsize + size // 2)

    at_checkpoint(leave_no_room_for_another)
    assert main(argv) == 75
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("simile: ")
    assert "the disk is full" in error
    assert checkpoints(work) == ["checkpoint-10"]
    assert not (disk / "bundle").exists()
    resize(disk, 2**26)
    assert main(argv) == 0
    assert "resuming from checkpoint-10" in capsys.readouterr().err
    assert final_spearman(work) == pytest.approx(trained(**LONG).dev_spearmans[-1], abs=0.005)


def test_matryoshka_dimensions_are_in_the_manifest(trained):
    run = trained(**CUT)
    assert run.bundle.manifest.members[0].matryoshka == (16, 8)
    assert load(run.out, device="cpu", precision="fp32").dimensions == (32, 16, 8)


def test_matryoshka_with_all_dimensions_is_refused_before_anything_is_written(few, settings, tmp_path):
    config = TrainConfig(**settings(matryoshka=[32]))
    with pytest.raises(InputError, match="got matryoshka 32, need from 1 to 31 dimensions"):
        train(config, [few], [], tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_each_side_trains_and_is_judged_with_its_own_prompt(settings, material, tmp_path, monkeypatch, without_export):
    base, seen = load_encoder(str(settings()["base"])), []
    real = losses.embed

    def spy(model, columns):
        seen.append([ids[:2].tolist() for column in columns for ids in column["input_ids"][:1]])
        return real(model, columns)

    monkeypatch.setattr("training.losses.embed", spy)
    config = TrainConfig(**settings(prompt_a="my card ", prompt_b="the fee "))
    train(config, [read_labelled_pairs(material.few)], [read_labelled_pairs(material.dev)], tmp_path / "bundle")
    expected = [base.model.tokenizer(prompt)["input_ids"][:2] for prompt in config.prompts]
    assert all(starts == expected for starts in seen)
    bundle = make_baseline(settings()["base"], tmp_path / "base", prompts=config.prompts, max_length=32)
    dev = read_labelled_pairs(material.dev)
    score_P = Scorer(bundle, choose_runtime("cpu", "fp32")).score(dev.texts)
    untouched = read_training_history(work_folder(tmp_path / "bundle")).epochs[0].dev["dev"].spearman
    assert untouched == pytest.approx(spearman(score_P, dev.target_P), abs=1e-3)
