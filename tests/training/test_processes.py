"""Trainings in two processes. Each process is started as torchrun starts it, by its environment variables."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch.distributed as dist
import yaml

from simile.artifacts import read_labelled_pairs, read_training_history
from training.config import TrainConfig
from training.train import train

ROOT = Path(__file__).parents[2]
NUM_PROCESSES = 2


@dataclass(frozen=True)
class Started:
    """Processes that train together."""

    processes: list[subprocess.Popen]
    logs: list[Path]
    store: dist.TCPStore
    """The store that torchrun's agent has."""

    def wait(self) -> list[int]:
        return [process.wait(timeout=240) for process in self.processes]

    @property
    def messages(self) -> list[str]:
        return [log.read_text() for log in self.logs]


@pytest.fixture
def start(tmp_path):
    """Starts the processes of a command."""
    started: list[subprocess.Popen] = []

    def begin(*arguments) -> Started:
        store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_RUN_ID": "test"}
        size = {"WORLD_SIZE": str(NUM_PROCESSES), "LOCAL_WORLD_SIZE": str(NUM_PROCESSES)}
        logs = [tmp_path / f"process-{rank}.log" for rank in range(NUM_PROCESSES)]
        for rank, log in enumerate(logs):
            place = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            with log.open("w") as file:
                command = [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]
                environment = {**os.environ, **shared, **size, **place, "PYTHONPATH": str(ROOT)}
                started.append(subprocess.Popen(command, env=environment, stdout=file, stderr=file))
        return Started(started[-NUM_PROCESSES:], logs, store)

    yield begin
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def without_dropout(settings, make_base, tmp_path):
    """Settings of a training without random numbers, with batches that two processes cannot halve."""
    base = shutil.copytree(make_base("bert"), tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps(config | {"hidden_dropout_prob": 0, "attention_probs_dropout_prob": 0})
    )

    def made(**changed):
        return settings() | {"base": str(base), "batch_size": 15, "lora": {"dropout": 0}} | changed

    return made


@pytest.fixture
def command(material, tmp_path):
    def arguments(settings, *, pairs=material.pairs):
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(settings))
        return ["train", config, "--pairs", pairs, "--dev", material.dev, "--out", tmp_path / "bundle"]

    return arguments


def trained_here(settings, material, out):
    pairs, dev = (read_labelled_pairs(path) for path in (material.pairs, material.dev))
    return train(TrainConfig(**settings), [pairs], [dev], out)


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": 5e-3, "loss": {"ranking": 1, "cosent": 0.3, "focal": 0.3}},
        {"learning_rate": 1e-4, "method": "full", "matryoshka": [16]},
    ],
    ids=["lora", "full"],
)
def test_two_processes_learn_what_one_learns(start, command, without_dropout, material, tmp_path, changed):
    started = start(*command(without_dropout(**changed)))
    assert started.wait() == [0, 0], started.messages
    trained_here(without_dropout(**changed), material, tmp_path / "alone")
    two, one = (read_training_history(tmp_path / f"{name}.work") for name in ("bundle", "alone"))
    assert [loss.step for loss in two.losses] == [loss.step for loss in one.losses] == [10]
    assert two.losses[0].total == pytest.approx(one.losses[0].total, abs=1e-5)
    assert two.epochs[1].mean == pytest.approx(one.epochs[1].mean, abs=0.005)
    assert one.epochs[1].mean != pytest.approx(one.epochs[0].mean, abs=0.001)


def test_sigterm_to_a_helper_stops_all_and_one_process_continues(start, command, settings, material, tmp_path, capsys):
    started = start(*command(settings(epochs=3)))
    while "0/30 steps" not in started.messages[0]:
        assert started.processes[0].poll() is None, started.messages
        time.sleep(0.05)
    started.processes[1].send_signal(signal.SIGTERM)
    assert started.wait() == [75, 75], started.messages
    step = int(re.search(r"stopped at step (\d+)", started.messages[0])[1])
    assert 0 < step < 30
    trained_here(settings(epochs=3), material, tmp_path / "bundle")
    assert f"resuming from checkpoint-{step}" in capsys.readouterr().err
    assert [entry.epoch for entry in read_training_history(tmp_path / "bundle.work").epochs] == [0, 1, 2, 3]


def test_bad_input_is_reported_once_and_is_the_exit_code(command, settings, tmp_path):
    options = ["--standalone", "--nproc-per-node", str(NUM_PROCESSES), "-m", "pipeline.cli"]
    arguments = [*options, *map(str, command(settings(), pairs=tmp_path / "missing.jsonl"))]
    done = subprocess.run(
        [sys.executable, "-m", "training.launch", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2, done.stderr
    assert [line for line in done.stderr.splitlines() if "missing.jsonl" in line] == [
        f"simile: {tmp_path / 'missing.jsonl'}: no such file"
    ]
