"""Runs whose members a Ray cluster trains: the bundle of a local run, although workers are lost (`make ray`)."""

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.cli import main
from simile.artifacts import read_bundle
from tests.pipeline.engines.marks import RAY

pytest.importorskip("ray", reason="needs Ray (make ray)")
pytestmark = RAY
ROOT = Path(__file__).parents[3]
NAMES = ("seed-0", "seed-1", "seed-2")
OVER = (0, 3)
"""Exit codes of a run that is over: whether the gate passes does not matter here."""


@pytest.fixture(scope="module")
def config(make_base, documents, write_documents, tmp_path_factory) -> Path:
    """The config of three members by their seeds; the last one is dealt out to two trainings."""
    folder = tmp_path_factory.mktemp("ray-run")
    write_documents(folder / "documents.jsonl", documents)
    member = {"base": str(make_base("bert")), "max_length": 32, "precision": "fp32", "batch_size": 8, "epochs": 4}
    members = [{**member, "name": name, "seed": seed, "min_base_agreement": 0} for seed, name in enumerate(NAMES)]
    members[2]["most_pairs"] = 120
    mine = {"pairs": 200, "dev_share": 0.2, "test_share": 0.25}
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump({"documents": "documents.jsonl", "mine": mine, "train": members}))
    return file


@pytest.fixture(scope="module")
def digest(config, tmp_path_factory) -> str:
    """The digest of the bundle of a local run with one thread, as each worker of the cluster has it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMILE_THREADS", "1")
        out = tmp_path_factory.mktemp("local") / "out"
        assert main(["run", str(config), "--set", f"out={out}"]) in OVER
    return read_bundle(out / "bundle").manifest.digest


def arguments(config: Path, out: Path) -> list[str]:
    return ["run", str(config), "--set", f"out={out}", "--engine", "ray", "--num-cpus", "1"]


def work(out: Path, name: str) -> Path:
    return out / "members" / f"{name}.work"


def at_checkpoint(work: Path, action) -> threading.Thread:
    """Start a thread that acts as soon as the training in the work folder has a checkpoint."""

    def wait() -> None:
        while not any(work.glob("checkpoints/*/complete")):
            time.sleep(0.002)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_worker(title: str) -> None:
    """Kill the process whose task has this title."""
    for process in psutil.Process().children(recursive=True):
        # It may have ended by now.
        with suppress(psutil.Error):
            if title in " ".join(process.cmdline()):
                process.kill()
                return
    raise AssertionError(f"no process {title}")


@pytest.mark.parametrize(
    ("nodes", "num", "gpus", "cores"),
    [
        ([{"CPU": 2}], 3, 0, 1),
        ([{"CPU": 16}], 3, 0, 5),
        ([{"CPU": 8}] * 3, 3, 0, 8),
        ([{"CPU": 16}] * 2, 3, 0, 8),
        ([{"CPU": 16, "GPU": 2}], 5, 1, 8),
        ([{"CPU": 16, "GPU": 2}], 5, 0.5, 4),
        # None fits, so the trainings wait for another node.
        ([{"CPU": 4}], 2, 1, 4),
    ],
)
def test_trainings_get_the_most_cores_with_which_they_run_at_once(nodes, num, gpus, cores):
    from pipeline.engines.ray_training import _cores

    assert _cores(nodes, num, gpus) == cores


def test_members_trained_side_by_side_give_the_bundle_of_a_local_run(cluster, config, digest, tmp_path, capsys):
    assert main(arguments(config, tmp_path / "out")) in OVER
    assert read_bundle(tmp_path / "out" / "bundle").manifest.digest == digest
    lines = capsys.readouterr().err.splitlines()
    for name in ("seed-0", "seed-1", "seed-2 share 1", "seed-2 share 2"):
        assert [line for line in lines if line.startswith(f"{name}: steps to go: ")]
    # A finished run starts no training.
    assert main(arguments(config, tmp_path / "out")) in OVER
    assert "steps to go" not in capsys.readouterr().err


@pytest.mark.parametrize(("name", "part", "title"), [("seed-1", "", "seed-1"), ("seed-2", "part-2", "seed-2 share 2")])
def test_training_whose_worker_is_killed_is_resumed_by_another(
    cluster, config, digest, tmp_path, capsys, name, part, title
):
    out = tmp_path / "out"
    thread = at_checkpoint(work(out, name) / part, lambda: kill_worker(f"ray::{title}"))
    assert main(arguments(config, out)) in OVER
    thread.join(30)
    error = capsys.readouterr().err
    assert f"{title}: the worker was lost; another worker continues" in error
    assert f"{title}: resuming from checkpoint-" in error
    assert read_bundle(out / "bundle").manifest.digest == digest


@pytest.mark.parametrize("signal", ["terminate", "kill"])
def test_driver_that_ends_is_resumed_by_the_same_command(cluster, config, digest, tmp_path, signal, capsys):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "pipeline.cli", *arguments(config, out)]
    environ = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": cluster.address}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE) as process:
        at_checkpoint(work(out, "seed-0"), getattr(process, signal))
        _, error = process.communicate(timeout=300)
    if signal == "terminate":
        assert process.returncode == 75, error.decode()
        assert "SIGTERM: stopping after this step" in error.decode()
        assert error.decode().splitlines()[-1] == "simile: stopped by SIGTERM; run the same command to resume"
    assert main(arguments(config, out)) in OVER
    assert "seed-0: resuming from checkpoint-" in capsys.readouterr().err
    assert read_bundle(out / "bundle").manifest.digest == digest


def test_error_of_a_member_is_one_line_and_keeps_what_the_others_have(cluster, config, tmp_path, capsys):
    missing = tmp_path / "missing"
    values = yaml.safe_load(config.read_text())
    values["train"][2] |= {"base": str(missing), "most_pairs": None}
    faulty = config.with_name("faulty.yaml")
    faulty.write_text(yaml.safe_dump(values))
    assert main(arguments(faulty, tmp_path / "out")) == 2
    assert str(missing) in capsys.readouterr().err.splitlines()[-1]


def test_training_that_ends_every_worker_stops_the_run(cluster, config, tmp_path, capsys):
    is_over = threading.Event()

    def kill_all() -> None:
        while not is_over.is_set():
            with suppress(AssertionError):
                kill_worker("ray::seed-0")
            time.sleep(0.01)

    thread = threading.Thread(target=kill_all, daemon=True)
    thread.start()
    assert main(arguments(config, tmp_path / "out")) == 75
    is_over.set()
    thread.join()
    assert "5 workers were lost with seed-0" in capsys.readouterr().err.splitlines()[-1]
