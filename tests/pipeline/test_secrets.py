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


@pytest.fixture(scope="module")
def write_run(make_base, documents, write_documents, tmp_path_factory):
    """Writes the settings of a small run into a folder of its own, and returns it."""

    def write() -> Path:
        folder = tmp_path_factory.mktemp("secrets")
        write_documents(folder / "documents.jsonl", documents)
        train = {"base": str(make_base("bert")), "max_length": 32, "precision": "fp32", "learning_rate": 5e-3}
        mine = {"pairs": 200, "dev_share": 0.1, "test_share": 0.25, "allow_fewer": True}
        config = {"documents": "documents.jsonl", "mine": mine, "train": train, "out": str(folder / "out")}
        (folder / "run.yaml").write_text(yaml.safe_dump(config))
        return folder

    return write


def run(folder: Path, **environ: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "run", str(folder / "run.yaml")],
        cwd=ROOT,
        env=os.environ | KEYS | {"PYTHONPATH": str(ROOT)} | environ,
        capture_output=True,
        timeout=300,
        check=False,
    )


def written(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file in the folder, and what is in those that are archives."""
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield str(file), file.read_bytes()
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    yield from ((f"{file}/{name}", archive.read(name)) for name in archive.namelist())


def test_keys_are_in_nothing_that_a_run_writes_says_or_sends(write_run):
    folder = write_run()
    with scripted(lambda request: mlflow_run()) as mlflow:
        done = run(
            folder,
            MLFLOW_TRACKING_URI=mlflow.url.replace("//", f"//somebody:{PLANTED}@"),
            # Told too, and not there: what cannot be told of it is no secret either.
            PROMETHEUS_PUSHGATEWAY_URL="http://127.0.0.1:9",
        )
    assert done.returncode in (0, 3), done.stderr.decode()
    # Beside the headers, which have to have the password.
    sent = json.dumps([(request.path, request.body) for request in mlflow.requests]).encode()
    seen = {"stdout": done.stdout, "stderr": done.stderr, "MLflow": sent} | dict(written(folder))
    assert [where for where, data in seen.items() if PLANTED.encode() in data] == []
    # All of it was looked at.
    assert b"Pushgateway: cannot be reached" in done.stderr
    assert b"loss" in seen["MLflow"]
    names = [Path(where).name for where in seen]
    assert {"manifest.json", "report.html", "report.json", "run.yaml"} <= set(names)
    assert any(name.startswith("events.out.tfevents") for name in names)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MLFLOW_TRACKING_URI", f"http://somebody:{PLANTED}@127.0.0.1:9"),
        ("MLFLOW_TRACKING_URI", f"nonsense://somebody:{PLANTED}@here"),
        ("PROMETHEUS_PUSHGATEWAY_URL", f"http://somebody:{PLANTED}@127.0.0.1:9"),
    ],
)
def test_address_with_a_password_is_not_told_when_it_is_refused(write_run, variable, value):
    folder = write_run()
    done = run(folder, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0", **{variable: value})
    assert done.returncode == 2
    *_, line = done.stderr.decode().splitlines()
    assert line.startswith(f"simile: {variable}")
    seen = {"stdout": done.stdout, "stderr": done.stderr} | dict(written(folder))
    assert [where for where, data in seen.items() if PLANTED.encode() in data] == []


def test_address_that_is_none_is_refused_before_anything_is_made(write_run):
    folder = write_run()
    assert run(folder, PROMETHEUS_PUSHGATEWAY_URL="http://somebody:else@here").returncode == 2
    assert not (folder / "out").exists()


def test_planted_key_would_be_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "state.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state", PLANTED * 9)
    assert [PLANTED.encode() in data for _, data in written(tmp_path)] == [False, True]
