"""The images are what they promise, and run as a kubelet runs them: unprivileged, on a root that is read-only."""

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager

import httpx2
import numpy as np
import pytest

from simile.artifacts import Combine, GoldenPair, LexicalMember, Manifest, file_entry, write_bundle
from simile.scoring import pack_vocabulary
from tests.images.processes import first_child

pytestmark = pytest.mark.images

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

MODULES_FOUND = """
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))
"""
TOOLS_FOUND = """
import shutil, sys
print(*(name for name in sys.argv[1:] if shutil.which(name)))
"""
WRITABLE = """
import os
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(folder, name) not in ("/dev", "/proc", "/sys")]
    for path in [folder, *(os.path.join(folder, name) for name in files)]:
        if os.access(path, os.W_OK) and not os.path.islink(path):
            print(path)
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    words = ["card", "lost", "find", "train", "late"]
    data = pack_vocabulary({word: index for index, word in enumerate(words)}, np.ones(len(words)))
    file = file_entry("members/words/lexical.npz", data)
    manifest = Manifest(
        name="tiny",
        members=(LexicalMember(name="words", vocabulary=file, dimension=len(words)),),
        combine=Combine(weights={"words": 1}),
        golden=(GoldenPair(text_a="card lost", text_b="find card", scores={"words": 0.5}),),
        made={},
    )
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", manifest, {file.path: data}).path


@pytest.fixture(scope="session")
def exported(train_image, tmp_path_factory):
    """The bundle that the train image makes of the embedded encoder, in a volume of its user's."""
    folder = tmp_path_factory.mktemp("work")
    os.chown(folder, *map(int, train_image.config["User"].split(":")))
    done = train_image.run("simile", "baseline", "bundled:minilm", "--out", "minilm", mounts={folder: "/work"})
    assert done.returncode == 0, done.stderr
    return folder / "minilm"


@pytest.fixture(params=["serve_image", "train_image"])
def image(request):
    return request.getfixturevalue(request.param)


def test_image_runs_as_a_numeric_user_that_has_a_name(image):
    assert image.config["User"] == "10001:10001"
    code = "import getpass, os; print(os.getuid(), os.getgid(), os.getgroups(), getpass.getuser())"
    assert image.python(code) == "10001 10001 [] simile"


def test_image_has_no_pip_and_no_compiler(image):
    assert image.python(MODULES_FOUND, "pip", "ensurepip", "wheel", "simile") == "simile"
    assert image.python(TOOLS_FOUND, "pip", "pip3", "gcc", "cc", "g++", "c++", "clang", "ld", "make", "env") == "env"


def test_interpreter_of_the_base_has_no_pip_either(image):
    code = "import sys; print(sys._base_executable)"
    base_python = image.python(code)
    assert "/app/" not in base_python
    for module in ("pip", "ensurepip", "setuptools"):
        assert f"No module named {module}" in image.run(base_python, "-m", module).stderr


def test_image_lets_its_user_write_to_its_volumes_only(image):
    assert image.python(WRITABLE).split() == ["/tmp", *image.config.get("Volumes", ())]


def test_image_belongs_to_root_but_for_its_volumes(image):
    volumes = {image.root / name.strip("/") for name in image.config.get("Volumes", ())}
    not_roots = {path for path in image.root.rglob("*") if path.lstat().st_uid}
    assert not_roots == volumes


def test_image_names_its_command_and_its_licence(image):
    assert image.config["Entrypoint"] == ["simile"]
    assert image.config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_serve_image_has_no_torch_and_imports_what_the_service_needs(serve_image):
    assert serve_image.python(MODULES_FOUND, "torch", "transformers", "setuptools", "fastapi") == "fastapi"
    serve_image.python("import fastapi, onnxruntime, prometheus_client, simile.scoring, tokenizers, uvicorn")


def test_service_in_the_image_scores_and_ends_well_on_sigterm(serve_image, bundle, tmp_path):
    with serving(serve_image, bundle, tmp_path / "log") as (client, metrics_url, process):
        answer = client.post("/v1/similarity", json={"pairs": [["card lost", "find card"], ["card", "train"]]})
        assert (answer.status_code, answer.json()["scores"]) == (200, pytest.approx([0.5, 0.0]))
        assert "\nsimile_" in client.get(metrics_url).text
        os.kill(first_child(process), signal.SIGTERM)
        assert process.wait(STOP_TIMEOUT_S) == 0, (tmp_path / "log").read_text()


def test_service_in_the_image_runs_the_encoder_that_the_train_image_exports(serve_image, exported, tmp_path):
    with serving(serve_image, exported, tmp_path / "log") as (client, _, _):
        texts = ["Where is my parcel?", "The parcel has not come.", "I like the colour green."]
        answer = client.post("/v1/similarity", json={"text": texts[0], "texts": texts})
    same, near, far = answer.json()["scores"]
    assert same == pytest.approx(1, abs=0.01)
    assert near > far + 0.2


def test_service_in_the_image_needs_its_bundle_and_says_so(serve_image):
    done = serve_image.run(*serve_image.config["Entrypoint"], *serve_image.config["Cmd"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "/bundle" in done.stderr.splitlines()[-1]


def test_train_image_imports_what_training_needs(train_image):
    train_image.python("import torch, sentence_transformers, peft, sklearn, onnx, onnxruntime, simile.scoring")


def test_train_image_shows_its_commands(train_image):
    done = train_image.run(*train_image.config["Entrypoint"], "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "quickstart" in done.stdout


def test_train_image_inspects_the_bundle_it_exports(train_image, exported):
    done = train_image.run("simile", "inspect", "/work/minilm", mounts={exported.parent: "/work"})
    assert done.returncode == 0, done.stderr
    assert "minilm" in done.stdout


@contextmanager
def serving(image, bundle, log):
    """The service as its image starts it, ready: a client, where the metrics are, and the process around it."""
    port, metrics_port = free_ports()
    env = {"SIMILE_PORT": str(port), "SIMILE_METRICS_PORT": str(metrics_port)}
    argv = image.argv([*image.config["Entrypoint"], *image.config["Cmd"]], mounts={bundle: "/bundle"}, env=env)
    with (
        log.open("wb") as file,
        subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        try:
            wait_until_ready(client, process, log)
            yield client, f"http://127.0.0.1:{metrics_port}/metrics", process
        finally:
            # `--kill-child` is no help: a process that has changed its user is not told of its parent's death.
            if process.poll() is None:
                os.kill(first_child(process), signal.SIGKILL)
            process.kill()


def wait_until_ready(client, process, log):
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/readyz").status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"not ready; exit code {process.poll()}, its log:\n{log.read_text()}")


def free_ports():
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        return a.getsockname()[1], b.getsockname()[1]
