"""Commands that are killed at random moments, again and again: what they leave is whole, and the same command goes on.

`make test-kill` kills each command 50 times, `make check` only twice.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from mining.corpus.gather import gather_sketches
from mining.corpus.sketch import Sampling
from mining.corpus.sketch_file import sketch_paths
from serving.drift import EDGES, REFERENCE
from simile.artifacts import (
    MiningReport,
    RunFacts,
    read_bundle,
    read_labelled_pairs,
    read_training_history,
    stored_evaluations,
)
from simile.artifacts.json_file import read_json, validated

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("SIMILE_TEST_KILLS", "2"))
DRIFT = f"""
import sys, itertools
from pathlib import Path
from serving.drift import Drift
folder, num_runs = Path(sys.argv[1]), int(sys.argv[2])
for number in range(num_runs):
    digest = str(number % 3)
    (folder / f"{{digest}}.json").unlink(missing_ok=True)
    drift = Drift(folder, digest)
    drift.observe("scores", [0.5] * {REFERENCE})
    drift.observe("tokens", [20] * {REFERENCE})
"""


@dataclass(frozen=True)
class Killed:
    """A command that is killed, the paths that it writes, and the check that these are whole or absent."""

    argv: Sequence[str]
    outputs: Sequence[Path]
    check: Callable[[], None]


def mine(folder, documents, write_documents, **_) -> Killed:
    file, out = write_documents(folder / "documents.jsonl", documents), folder / "mined"

    def check():
        for path in out.glob("*.jsonl"):
            assert [json.loads(line) for line in path.read_text().splitlines()]
        if out.exists():
            validated(read_json(out / "report.json"), MiningReport, out)
            assert (out / "report.html").read_text().rstrip().endswith("</html>")

    argv = ["mine", str(file), "--pairs", "200", "--triplets", "--out", str(out)]
    return Killed(argv, [out], check)


def sketch(folder, documents, write_documents, **_) -> Killed:
    file, out = write_documents(folder / "documents.jsonl", documents), folder / "sketches"

    def check():
        if out.exists() and (paths := sketch_paths(out)):
            assert gather_sketches(paths, Sampling(40_000, 0)).num_read == len(documents)

    return Killed(["mine", str(file), "--sketch", "1/1", "--out", str(out)], [out], check)


def train(folder, pairs, make_base, **_) -> Killed:
    config, out = folder / "config.yaml", folder / "bundle"
    work = folder / "bundle.work"
    base = {"base": str(make_base("bert")), "max_length": 32, "batch_size": 8, "precision": "fp32", "epochs": 3}
    config.write_text(yaml.safe_dump(base | {"name": "encoder", "min_base_agreement": 0}))

    def check():
        if out.exists():
            read_bundle(out)
        if (work / "run.json").exists():
            facts = {name: value for name, value in read_json(work / "run.json").items() if name != "commit"}
            validated(facts, RunFacts, work)
        read_training_history(work)
        for marker in work.glob("checkpoints/*/complete"):
            assert all(map(load_file, marker.parent.rglob("*.safetensors")))
            assert json.loads((marker.parent / "trainer_state.json").read_text())["global_step"]
            assert (marker.parent / "optimizer.pt").stat().st_size
        if (work / "best").exists():
            assert [load_file(path) for path in (work / "best").rglob("*.safetensors")]

    argv = ["train", str(config), "--pairs", str(pairs), "--dev", str(pairs), "--out", str(out)]
    return Killed(argv, [out, work, folder / "bundle.weights"], check)


def evaluate(folder, pairs, words, **_) -> Killed:
    bundle = Path(shutil.copytree(words.path, folder / "bundle"))
    as_json, html = folder / "report.json", folder / "report.html"

    def check():
        stored_evaluations(read_bundle(bundle))
        if as_json.exists():
            read_json(as_json)
        if html.exists():
            assert html.read_text().rstrip().endswith("</html>")

    return Killed(
        ["evaluate", str(bundle), str(pairs), "--json", str(as_json), "--html", str(html)], [as_json, html], check
    )


def score(folder, pairs, words, **_) -> Killed:
    out, num_pairs = folder / "scores.jsonl", len(read_labelled_pairs(pairs).rows)

    def check():
        if out.exists():
            assert ["score" in json.loads(line) for line in out.read_text().splitlines()] == [True] * num_pairs

    return Killed(["score", str(words.path), "--pairs", str(pairs), "--out", str(out)], [out], check)


def push(folder, tiny, **_) -> Killed:
    out = folder / "bucket"
    pushed = out / tiny.manifest.digest

    def check():
        for path in (path for path in pushed.rglob("*") if path.is_file() and ".tmp" not in str(path)):
            assert path.read_bytes() == (tiny.path / path.relative_to(pushed)).read_bytes()
        if (pushed / "manifest.json").exists():
            read_bundle(pushed)

    return Killed(["push", str(tiny.path), f"file://{out}"], [out], check)


def drift(folder, **_) -> Killed:
    out = folder / "drift"

    def check():
        for path in out.glob("*.json"):
            counts = json.loads(path.read_text())["counts"]
            assert [sum(counts[of]) for of in EDGES] == [REFERENCE] * len(EDGES)

    return Killed(["-c", DRIFT, str(out), "300"], [out], check)


def start(argv) -> subprocess.Popen:
    command = argv if argv[0] == "-c" else ["-m", "pipeline.cli", *argv]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(argv) -> float:
    """Run the command to its end; return the seconds that it took."""
    begin = time.monotonic()
    with start(argv) as process:
        _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error.decode()
    return time.monotonic() - begin


@pytest.mark.parametrize("prepare", [mine, sketch, train, evaluate, score, push, drift])
def test_killed_command_leaves_what_is_whole_and_goes_on(
    prepare, tmp_path, documents, write_documents, pairs, make_base, words, tiny
):
    given = {"documents": documents, "write_documents": write_documents, "pairs": pairs, "make_base": make_base}
    killed = prepare(tmp_path, **given, words=words, tiny=tiny)
    before = set(os.listdir(tmp_path))
    seconds, draw = finish(killed.argv), random.Random(prepare.__name__)
    num_killed = num_resumed = 0
    while num_killed < KILLS:
        with start(killed.argv) as process:
            try:
                _, error = process.communicate(timeout=draw.uniform(0.15, 1) * seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        killed.check()
        if process.returncode == -signal.SIGKILL:
            num_killed += 1
            continue
        assert process.returncode == 0, error.decode()
        num_resumed += 1
        for path in killed.outputs:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    finish(killed.argv)
    killed.check()
    assert all(path.exists() for path in killed.outputs)
    assert set(os.listdir(tmp_path)) == before | {path.name for path in killed.outputs}
    assert [path for path in tmp_path.rglob(".*") if path.name.endswith((".tmp", ".lock"))] == []
    print(f"{prepare.__name__}: {seconds:.1f} s, killed {num_killed} times, ended {num_resumed} times in between")
