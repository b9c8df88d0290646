"""Runs the training Job's command in the real image as the manifests do, and checks exit codes and resumption."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest
import yaml

from tests.images.processes import first_child
from tests.k8s.manifests import JOB_NAME, K8S, ROOT, arguments, kustomize, of_kind, the

pytestmark = pytest.mark.images

TIMEOUT_S = 1200
TRAINING_LINE = b"steps to go"
"""Logged when the first step begins."""
RUN = {
    "documents": "/work/documents.jsonl",
    "mine": {"pairs": 1000, "test_share": 0.2},
    # Nothing is learned at this rate, so that the gate fails.
    "train": {"preset": "minilm", "max_length": 16, "learning_rate": 1e-9},
}


@pytest.fixture(scope="module")
def rendered():
    return kustomize(K8S / "overlays" / "production")


@pytest.fixture(scope="module")
def config(rendered, tmp_path_factory):
    """The files at /etc/simile, with a smaller run than the manifests' own."""
    folder = tmp_path_factory.mktemp("config")
    # pytest's folders are readable by root only, a ConfigMap's volume by everybody.
    folder.chmod(0o755)
    (mounted,) = [one for one in of_kind(rendered, "ConfigMap") if "run.yaml" in one.get("data", {})]
    for name, text in mounted["data"].items():
        (folder / name).write_text(text)
    (folder / "run.yaml").write_text(yaml.safe_dump(RUN))
    return folder


@pytest.fixture
def work(train_image, tmp_path):
    """An empty volume that belongs to the image's user."""
    folder = tmp_path / "work"
    folder.mkdir()
    os.chown(folder, *map(int, train_image.config["User"].split(":")))
    return folder


def job(rendered):
    """Return the spec of the Jobs that the CronJob is the template of."""
    return the(rendered, "CronJob", "simile-train")["spec"]["jobTemplate"]["spec"]


@pytest.fixture
def start(train_image, rendered, config, work):
    """Starts the training container with the Job's arguments; its log goes to the given file."""
    container = job(rendered)["template"]["spec"]["initContainers"][0]
    command = [*train_image.config["Entrypoint"], *arguments(container, rendered)]
    started = []

    def start(log):
        argv = train_image.argv(command, mounts={work: "/work", config: "/etc/simile"})
        with log.open("wb") as file:
            started.append(subprocess.Popen(argv, stdout=file, stderr=subprocess.STDOUT))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.kill(first_child(process), signal.SIGKILL)
            process.kill()
            process.wait()


def rule_for(rendered, code):
    """Return the Job's action for a container that exits with the code."""
    for rule in job(rendered)["podFailurePolicy"]["rules"]:
        if code in rule.get("onExitCodes", {}).get("values", ()):
            return rule["action"]
    return None


def test_job_without_documents_ends_as_bad_input(start, rendered, tmp_path):
    process = start(tmp_path / "log")
    code = process.wait(TIMEOUT_S)
    assert code == 2, (tmp_path / "log").read_text()
    assert "/work/documents.jsonl: no such file" in (tmp_path / "log").read_text()
    assert rule_for(rendered, code) == "FailJob"


def test_evicted_job_goes_on_in_the_next_pod_and_ends_as_the_gate_says(start, rendered, work, tmp_path):
    shutil.copy(ROOT / "examples" / "helpdesk" / "documents.jsonl", work)
    first, second = tmp_path / "first", tmp_path / "second"
    process = start(first)
    wait_for(TRAINING_LINE, first, process)
    os.kill(first_child(process), signal.SIGTERM)
    code = process.wait(TIMEOUT_S)
    assert code == 75, first.read_text()
    # The Job ignores the eviction, not the exit code, since a full disk has the same code and counts as a failure.
    assert rule_for(rendered, code) is None
    assert list((work / "runs" / JOB_NAME).rglob("checkpoint-*/complete"))

    code = start(second).wait(TIMEOUT_S)
    log = second.read_text()
    assert code == 3, log
    assert f"/work/runs/{JOB_NAME}/mined is there already" in log
    assert 0 < steps_to_go(log) < steps_to_go(first.read_text())
    assert "gate      fail" in log
    assert rule_for(rendered, code) == "FailJob"
    assert (work / "runs" / JOB_NAME / "report.html").is_file()


def steps_to_go(log):
    (num_steps,) = re.findall(r"steps to go: ([\d,]+)", log)
    return int(num_steps.replace(",", ""))


def wait_for(line, log, process):
    deadline = time.monotonic() + TIMEOUT_S
    while line not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
