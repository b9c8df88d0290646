"""Checks the images, and runs them as a kubelet does: unprivileged and with a read-only root."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import numpy as np
import pytest

import simile
from simile.artifacts import Combine, GoldenPair, LexicalMember, Manifest, file_entry, read_bundle, write_bundle
from simile.scoring import pack_vocabulary
from simile.version import __version__
from tests.images.conftest import COMMIT, checked
from tests.images.processes import first_child

pytestmark = pytest.mark.images

SERVE_SIZE_MB = 600
START_TIMEOUT_S = 60
READY_S = 10
STOP_TIMEOUT_S = 30
QUICKSTART_TIMEOUT_S = 1800
PAIRS = [
    ("my card has not come yet", "still waiting for the new debit card"),
    ("my card has not come yet", "somebody took my debit card"),
]

MODULES_FOUND = """
import importlib.util, sys
print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name)))
"""
INSTALLED = """
from importlib.metadata import distributions
print(*(f"{one.name}=={one.version}" for one in distributions()), sep="\\n")
"""
BUILD_TOOL = re.compile(r"(.*-)?(gcc|g\+\+|c\+\+|cc|clang|clang\+\+|rustc|ld|as|make|cmake|pip[\d.]*)(-[\d.]+)?")
PIP = re.compile(r"pip|ensurepip|pip-.*\.(dist-info|whl)")
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
        made={"by": "simile join", "of": [], "fitted_on": None, "texts": None},
    )
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", manifest, {file.path: data}).path


@dataclass(frozen=True)
class Quickstart:
    """The results of the train image's default command in its volume."""

    folder: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def quickstart(train_image, figures, tmp_path_factory):
    volume = tmp_path_factory.mktemp("work")
    os.chown(volume, *map(int, train_image.config["User"].split(":")))
    command = [*train_image.config["Entrypoint"], *train_image.config["Cmd"]]
    start = time.monotonic()
    done = train_image.run(*command, mounts={volume: "/work"}, timeout_s=QUICKSTART_TIMEOUT_S)
    figures.append(f"the train image took the sample to a bundle in {time.monotonic() - start:.0f} s")
    return Quickstart(volume / "quickstart", done)


@pytest.fixture(params=["serve_image", "train_image"])
def image(request):
    return request.getfixturevalue(request.param)


def test_image_runs_as_a_numeric_user_that_has_a_name(image):
    assert image.config["User"] == "10001:10001"
    code = "import getpass, os; print(os.getuid(), os.getgid(), os.getgroups(), getpass.getuser())"
    assert image.python(code) == "10001 10001 [] simile"


def test_image_has_no_pip_and_no_compiler(image):
    assert image.python(MODULES_FOUND, "pip", "ensurepip", "wheel", "simile") == "simile"
    assert not [path for path in image.root.rglob("*") if PIP.fullmatch(path.name)]
    assert not [path for path in image.root.rglob("*") if BUILD_TOOL.fullmatch(path.name) and is_program(path)]


def is_program(path):
    mode = path.lstat().st_mode
    return not stat.S_ISDIR(mode) and bool(mode & 0o111)


def test_image_gives_no_other_users_rights_and_lets_all_write_to_tmp_only(image):
    beyond = stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH
    too_open = [path for path in image.root.rglob("*") if not path.is_symlink() and path.stat().st_mode & beyond]
    assert too_open == [image.root / "tmp"]


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


@pytest.mark.parametrize(("fixture", "title"), [("serve_image", "simile-serve"), ("train_image", "simile-train")])
def test_image_says_what_it_is(fixture, title, request):
    config = request.getfixturevalue(fixture).config
    labels = dict(config["Labels"])
    assert labels.pop("org.opencontainers.image.description")
    assert labels.pop("io.buildah.version")
    assert labels == {
        "org.opencontainers.image.title": title,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": __version__,
        "org.opencontainers.image.revision": COMMIT,
        "simile.sbom": f"/usr/share/sbom/{title}.cdx.json",
    }
    assert config["Entrypoint"] == ["simile"]


def test_sbom_lists_what_is_installed_and_nothing_else(image):
    labels = image.config["Labels"]
    document = json.loads((image.root / labels["simile.sbom"].lstrip("/")).read_text())
    listed = {"pypi": [], "deb": [], "generic": []}
    for one in document["components"]:
        # Simile itself has no purl, since it is installed from a file.
        kind = re.match(r"pkg:(\w+)/", one.get("purl", "pkg:pypi/"))[1]
        listed[kind].append(f"{one['name']}=={one['version']}")
    assert sorted(listed["pypi"]) == sorted(image.python(INSTALLED).splitlines())
    assert f"simile-pairs=={__version__}" in listed["pypi"]
    debian = checked(image.run("dpkg-query", "--show", r"--showformat=${Package}==${Version}\n"))
    assert sorted(listed["deb"]) == sorted(debian.splitlines())
    assert listed["generic"] == [image.python("import platform; print('python==' + platform.python_version())")]
    about = document["metadata"]["component"]
    assert about["name"] == labels["org.opencontainers.image.title"]
    assert about["version"] == labels["org.opencontainers.image.version"]


def test_serve_image_is_small(serve_image):
    number, unit = serve_image.size.split()
    assert (unit, float(number) < SERVE_SIZE_MB) == ("MB", True), serve_image.size


def test_serve_image_has_neither_torch_nor_what_its_dependencies_declare_and_do_not_need(serve_image):
    absent = ("torch", "transformers", "setuptools", "sympy", "mpmath", "huggingface_hub", "hf_xet")
    assert serve_image.python(MODULES_FOUND, *absent, "fastapi") == "fastapi"


def test_service_in_the_image_scores_and_ends_well_on_sigterm(serve_image, bundle, tmp_path):
    with serving(serve_image, bundle, tmp_path / "log") as service:
        answer = service.client.post("/v1/similarity", json={"pairs": [["card lost", "find card"], ["card", "train"]]})
        assert (answer.status_code, answer.json()["scores"]) == (200, pytest.approx([0.5, 0.0]))
        os.kill(first_child(service.process), signal.SIGTERM)
        assert service.process.wait(STOP_TIMEOUT_S) == 0, (tmp_path / "log").read_text()


def test_train_image_takes_the_sample_to_a_bundle_that_passes_the_gate(quickstart):
    assert quickstart.done.returncode == 0, quickstart.done.stdout + quickstart.done.stderr
    assert "gate      pass" in quickstart.done.stdout
    assert (quickstart.folder / "report.html").is_file()
    assert (quickstart.folder / "bundle" / "manifest.json").is_file()


def test_serve_image_serves_that_bundle_unprivileged_on_a_read_only_root(serve_image, quickstart, figures, tmp_path):
    with serving(serve_image, quickstart.folder / "bundle", tmp_path / "log") as service:
        status = status_of(first_child(service.process))
        answer = service.client.post("/v1/similarity", json={"pairs": PAIRS}).json()
        metrics = service.client.get(service.metrics_url).text
    assert (status["Uid"], status["Gid"], status["Groups"]) == ("10001\t" * 3 + "10001", "10001\t" * 3 + "10001", "")
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["root"]) == ("1", "ro")

    bundle = read_bundle(quickstart.folder / "bundle")
    assert answer["bundle"] == bundle.identity
    assert answer["scores"] == pytest.approx(simile.load(bundle.path).score(PAIRS), abs=1e-3)
    same, other = answer["probabilities"]
    assert same > other
    assert bundle.manifest.digest in metrics
    assert re.search(r"^simile_requests_total\{.*\} 1\.0$", metrics, re.MULTILINE)
    figures.append(f"the serve image was ready with that bundle after {service.ready_s:.1f} s")
    assert service.ready_s < READY_S


def test_service_in_the_image_runs_that_bundle_on_openvino_as_well(serve_image, quickstart, tmp_path):
    bundle = quickstart.folder / "bundle"
    with serving(serve_image, bundle, tmp_path / "log", SIMILE_PRECISION="bf16") as service:
        answer = service.client.post("/v1/similarity", json={"pairs": PAIRS}).json()
    assert answer["scores"] == pytest.approx(simile.load(bundle).score(PAIRS), abs=0.02)


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


@dataclass(frozen=True)
class Service:
    """The ready service, started by the image's own command."""

    client: httpx2.Client
    metrics_url: str
    process: subprocess.Popen[bytes]
    """The `unshare` process around the service."""
    ready_s: float


@contextmanager
def serving(image, bundle, log, **env):
    port, metrics_port = free_ports()
    env |= {"SIMILE_PORT": str(port), "SIMILE_METRICS_PORT": str(metrics_port)}
    argv = image.argv([*image.config["Entrypoint"], *image.config["Cmd"]], mounts={bundle: "/bundle"}, env=env)
    start = time.monotonic()
    with (
        log.open("wb") as file,
        subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client,
    ):
        try:
            wait_until_ready(client, process, log)
            ready_s = time.monotonic() - start
            yield Service(client, f"http://127.0.0.1:{metrics_port}/metrics", process, ready_s)
        finally:
            # `--kill-child` does not help: a process that changed its user gets no signal when its parent dies.
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
        time.sleep(0.02)
    pytest.fail(f"not ready; exit code {process.poll()}, its log:\n{log.read_text()}")


def status_of(pid):
    """Return the process' status from the kernel, and whether its root is read-only (`ro`) or not (`rw`)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    mounts = [line.split() for line in Path(f"/proc/{pid}/mounts").read_text().splitlines()]
    root = [options.split(",")[0] for _, folder, _, options, *_ in mounts if folder == "/"][-1]
    return {name: value.strip() for name, value in status.items()} | {"root": root}


def free_ports():
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        return a.getsockname()[1], b.getsockname()[1]
