"""No key of the environment is seen in anything that a training writes or says."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from pipeline.cli import main
from tests.live_servers import mlflow_run, scripted

ROOT = Path(__file__).parents[2]
PLANTED = "planted5ecret"
KEYS = {
    name: f"{PLANTED}-{name}"
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "HF_TOKEN",
        "MLFLOW_TRACKING_PASSWORD",
        "SIMILE_API_KEY",
        "SIMILE_API_KEYS",
    )
}


TRAIN = {"max_length": 32, "precision": "fp32", "learning_rate": 5e-3, "epochs": 1, "min_base_agreement": 0}


@pytest.fixture
def config(make_base, documents, write_documents, tmp_path) -> Path:
    """The config file of a small run, in a folder of its own."""
    write_documents(tmp_path / "documents.jsonl", documents)
    values = {
        "documents": "documents.jsonl",
        "mine": {"pairs": 60, "dev_share": 0.2, "test_share": 0.25},
        "train": TRAIN | {"base": str(make_base("bert"))},
        "out": str(tmp_path / "out"),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "run.yaml"


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file in the folder, and what is in those that are archives."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield str(file), file.read_bytes()
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    yield from ((f"{file}/{name}", archive.read(name)) for name in archive.namelist())


def test_keys_are_in_nothing_that_a_run_writes_says_or_sends(config):
    with scripted(lambda request: mlflow_run()) as mlflow:
        trackers = {
            "MLFLOW_TRACKING_URI": mlflow.url.replace("//", f"//somebody:{PLANTED}@"),
            # It is not there; the message that says so has no secret either.
            "PROMETHEUS_PUSHGATEWAY_URL": "http://127.0.0.1:9",
        }
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "run", str(config)],
            cwd=ROOT,
            env=os.environ | KEYS | {"PYTHONPATH": str(ROOT)} | trackers,
            capture_output=True,
            timeout=300,
            check=False,
        )
    assert done.returncode in (0, 3), done.stderr.decode()
    # Beside the headers, which have to have the password.
    sent = json.dumps([(request.path, request.body) for request in mlflow.requests]).encode()
    seen = {"stdout": done.stdout, "stderr": done.stderr, "MLflow": sent} | dict(written(config.parent))
    assert [where for where, data in seen.items() if PLANTED.encode() in data] == []
    # All of it was looked at.
    assert b"Pushgateway: cannot be reached" in done.stderr
    assert b"loss" in seen["MLflow"]
    names = [Path(where).name for where in seen]
    assert {"manifest.json", "report.html", "report.json", "run.yaml"} <= set(names)
    assert any(name.startswith("events.out.tfevents") for name in names)


@pytest.fixture
def refused(monkeypatch, capfd, tmp_path):
    """Runs a command in this process with the planted keys and one more variable, which it has to refuse."""

    def refused(variable, value, *argv):
        environ = KEYS | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", variable: value}
        for name, text in environ.items():
            monkeypatch.setenv(name, text)
        assert main([*map(str, argv)]) == 2
        out, error = capfd.readouterr()
        assert error.splitlines()[-1].startswith(f"simile: {variable}")
        seen = {"stdout": out.encode(), "stderr": error.encode()} | dict(written(tmp_path))
        assert [where for where, data in seen.items() if PLANTED.encode() in data] == []

    return refused


@pytest.mark.parametrize("address", [f"http://somebody:{PLANTED}@127.0.0.1:9", f"nonsense://somebody:{PLANTED}@here"])
def test_address_of_mlflow_with_a_password_is_not_told_when_it_is_refused(refused, make_base, pairs, tmp_path, address):
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(TRAIN | {"base": str(make_base("bert"))}))
    argv = ["train", tmp_path / "train.yaml", "--pairs", pairs, "--out", tmp_path / "out"]
    refused("MLFLOW_TRACKING_URI", address, *argv)


@pytest.mark.parametrize("password", [PLANTED, "else"])
def test_address_of_a_gateway_with_a_password_is_refused_before_anything_is_made(refused, config, password):
    refused("PROMETHEUS_PUSHGATEWAY_URL", f"http://somebody:{password}@here", "run", config)
    assert not (config.parent / "out").exists()


def test_planted_key_would_be_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "state.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state", PLANTED * 9)
    assert [PLANTED.encode() in data for _, data in written(tmp_path)] == [False, True]
