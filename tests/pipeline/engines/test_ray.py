"""The Ray engine: the parts of the local one, each pair once, although workers and nodes are lost (`make ray`)."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.pipeline.bulk_inputs import PLAIN, bulk, parts, read, rows, write_folder, write_parquet
from tests.pipeline.engines.marks import RAY

pytest.importorskip("ray", reason="needs Ray (make ray)")
pytestmark = RAY
ROOT = Path(__file__).parents[3]
NUM = 6000
MANY = ("--shard-rows", 200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("ray") / "in", NUM)


@pytest.fixture(scope="module")
def whole(folder, bundle, tmp_path_factory):
    """The parts that the local engine writes."""
    out = tmp_path_factory.mktemp("ray") / "out"
    assert bulk("score", bundle, folder, out, *MANY) == 0
    return parts(out)


def computing() -> list[psutil.Process]:
    """The processes of this cluster that compute."""
    processes = []
    for process in psutil.Process().children(recursive=True):
        # It may have ended by now.
        with suppress(psutil.Error):
            if "_Actor" in " ".join(process.cmdline()):
                processes.append(process)
    return processes


def disturbed(out: Path, num_parts: int, disturb: Callable[[], None]) -> threading.Thread:
    """Start a thread that disturbs the run once so many parts are whole."""

    def wait() -> None:
        while not out.exists() or len(list(out.glob("*.parquet"))) < num_parts:
            time.sleep(0.005)
        disturb()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def kill_one() -> None:
    """Kill one of the processes that compute."""
    while not (processes := computing()):
        time.sleep(0.005)
    processes[0].kill()


def test_parts_are_those_of_the_local_engine(cluster, folder, bundle, whole, tmp_path):
    assert bulk("score", bundle, folder, tmp_path / "out", *MANY, "--engine", "ray") == 0
    assert parts(tmp_path / "out") == whole


def test_relative_paths_are_those_of_the_driver(cluster, folder, bundle, whole, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert bulk("score", bundle, folder.name, "relative/", *MANY, "--engine", "ray") == 0
    assert parts(Path("relative")) == whole


def test_each_pair_is_scored_once_though_workers_and_a_node_are_lost(cluster, folder, bundle, whole, tmp_path, capsys):
    out = tmp_path / "out"
    threads = [
        disturbed(out, 5, kill_one),
        disturbed(out, 20, kill_one),
        disturbed(out, 40, lambda: cluster.remove_node(cluster.second, allow_graceful=False)),
    ]
    assert bulk("score", bundle, folder, out, *MANY, "--engine", "ray", "--actors", 2) == 0
    for thread in threads:
        thread.join(30)
    assert capsys.readouterr().err.count("was lost; another one takes over") >= 3
    assert [int(row["id"]) for row in read(out)] == list(range(3 * NUM))
    assert parts(out) == whole


def test_error_of_a_worker_is_one_line(cluster, bundle, tmp_path, capsys):
    given = rows(1000)
    given[700]["text_b"] = None
    write_parquet(tmp_path / "x.parquet", given)
    assert bulk("score", bundle, tmp_path / "x.parquet", f"{tmp_path / 'out'}/", *MANY, "--engine", "ray") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"simile: {tmp_path / 'x.parquet'}: row 701: column 'text_b': got None, need a non-empty text"
    )
    assert "x.parquet.00003.parquet" not in parts(tmp_path / "out")


def test_shard_that_ends_every_worker_stops_the_run(cluster, folder, bundle, tmp_path, monkeypatch, capsys):
    out, is_over = tmp_path / "out", threading.Event()

    def kill_all() -> None:
        while not is_over.is_set():
            for process in computing():
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.01)

    thread = threading.Thread(target=kill_all, daemon=True)
    thread.start()
    assert bulk("score", bundle, folder, out, *MANY, "--engine", "ray", "--actors", 1) == 75
    is_over.set()
    thread.join()
    assert "workers were lost with the bundle" in capsys.readouterr().err.splitlines()[-1]


def test_sigterm_ends_the_command_so_that_it_can_be_resumed(folder, bundle, whole, tmp_path):
    out = tmp_path / "out"
    places = ["--pairs", str(folder), "--out", str(out)]
    command = [sys.executable, "-m", "pipeline.cli", "score", str(bundle.path), *places, *map(str, MANY), *PLAIN]
    environ = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*command, "--engine", "ray"], cwd=ROOT, env=environ, stderr=subprocess.PIPE) as process:
        disturbed(out, 3, process.terminate)
        _, error = process.communicate(timeout=300)
    assert process.returncode == 75, error.decode()
    assert error.decode().splitlines()[-1] == "simile: stopped by SIGTERM; run the same command to resume"
    assert len(parts(out)) < len(whole)
    assert bulk("score", bundle, folder, out, *MANY) == 0
    assert parts(out) == whole
