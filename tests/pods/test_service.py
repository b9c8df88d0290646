"""The service's pod of `overlays/production`, on the bundle that the training's pod has published."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

import simile
from simile.artifacts import read_bundle
from tests.images.conftest import checked
from tests.k8s.manifests import ROOT, the
from tests.pods.kubelet import CLIENTS, client

pytestmark = pytest.mark.pods

DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
GIB = 2**30
TIMEOUT_S = 60
KEY, NEW_KEY = "first-key-of-the-tests", "second-key-of-the-tests"
NOTICED_S = 3
"""Seconds until no load balancer sends requests to a pod that is being deleted; less than SIMILE_LINGER_S."""
PAIRS = [
    ["my card has not come yet", "still waiting for the new debit card"],
    ["my card has not come yet", "somebody took my debit card"],
]
STATUS = (
    "cat /proc/1/status; for path in / /bundles /etc/simile/keys /tmp; do [ -w $path ] && echo writable: $path; done"
)
LIMITS = """
import os
from pathlib import Path
from simile.hardware import usable_cores
version_2, version_1 = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory/memory.limit_in_bytes"))
print(len(os.sched_getaffinity(0)), usable_cores(), (version_2 if version_2.exists() else version_1).read_text())
"""


@pytest.fixture
def service(play, podman, production, trained):
    """The pod, ready."""
    podman.write_secret("simile-api-keys", keys=f"tests:{KEY}")
    pod = play(production, "Deployment/simile-serve", "simile-serve-0")
    pod.await_start()
    return pod


@pytest.fixture
def files(play, production, trained):
    """The pod through which documents and bundles are handled."""
    pod = play(production, "CronJob/simile-files", "simile-files")
    pod.playing.wait()
    return pod


def score(pod, key=KEY):
    return pod.call("POST", "http", "/v1/similarity", json={"pairs": PAIRS}, headers=bearer(key))


def bearer(key):
    return {"authorization": f"Bearer {key}"}


def test_service_starts_unprivileged_and_read_only_and_passes_its_probes(service):
    assert all(service.passes(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe"))
    lines = service.exec("serve", "sh", "-c", STATUS).stdout.splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    assert [line for line in lines if line.startswith("writable:")] == ["writable: /tmp"]


def test_service_scores_as_the_bundle_does_and_refuses_strangers(service, podman):
    bundle = read_bundle(podman.volume("simile-bundles") / "current")
    answer = score(service)
    assert (answer.status_code, answer.json()["bundle"].partition("@")[2]) == (200, f"sha256:{bundle.manifest.digest}")
    assert answer.json()["scores"] == pytest.approx(simile.load(bundle.path).score(PAIRS), abs=1e-3)
    assert score(service, key="another").status_code == 401


def test_port_of_the_metrics_is_scraped(service, production):
    score(service)
    (endpoint,) = [one for one in the(production, "Service", "simile")["spec"]["ports"] if one["name"] == "metrics"]
    text = service.call("GET", endpoint["targetPort"], "/metrics").text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    scored = [one for one in samples if one.name == "simile_requests_total" and "similarity" in one.labels["route"]]
    assert [(one.labels["code"], one.value) for one in scored] == [("200", 1)]


def test_limits_of_memory_and_processor_are_seen_and_hold(service, files):
    for pod, container in ((service, "serve"), (files, "files")):
        limits = pod.pod.spec["containers"][0]["resources"]["limits"]
        seen = pod.exec(container, "env", "--unset=SIMILE_THREADS", "python", "-c", LIMITS).stdout.split()
        affinity, cores, memory_bytes = map(int, seen)
        assert (cores, memory_bytes) == (min(affinity, int(limits["cpu"])), bytes_of(limits["memory"]))
    assert files.exec("files", "python", "-c", f"print(len(bytearray({GIB // 2})))").stdout == f"{GIB // 2}\n"
    # The kernel kills what needs more than the limit.
    assert files.exec("files", "python", "-c", f"print(len(bytearray({2 * GIB})))").returncode == 137


def bytes_of(quantity):
    number, unit = int(quantity[:-2]), quantity[-2:]
    return number * {"Mi": GIB // 1024, "Gi": GIB}[unit]


def test_deleted_pod_drains_without_a_failed_call(service):
    with ThreadPoolExecutor(1) as kubelet, load(service) as responses:
        wait_until(lambda: len(responses) >= 5 * CLIENTS)
        before = len(responses)
        stop = kubelet.submit(service.stop, "serve")
        time.sleep(NOTICED_S)
        # Balancers that follow readiness only are told as well.
        assert not service.passes("readinessProbe")
    assert stop.result() == 0, service.log("serve")
    assert len(responses) > before
    assert {one.status_code for one in responses} == {200}


def test_key_is_rotated_without_a_restart(service, podman):
    assert score(service, NEW_KEY).status_code == 401
    podman.write_secret("simile-api-keys", keys=f"tests:{KEY}\ntests:{NEW_KEY}")
    wait_until(lambda: score(service, NEW_KEY).status_code == 200)
    assert score(service, KEY).status_code == 200
    podman.write_secret("simile-api-keys", keys=f"tests:{NEW_KEY}")
    wait_until(lambda: score(service, KEY).status_code == 401)
    assert score(service, NEW_KEY).status_code == 200


def test_bundle_is_swapped_under_load_by_the_commands_of_the_documents(service, files, other_bundle):
    (move,) = re.findall(r"exec job/simile-files -- sh -c '(ln -s .*)'", DEPLOYMENT)
    (reload,) = re.findall(r"""exec "\$pod" -- sh -c '(.*?)'""", DEPLOYMENT)
    old = score(service).json()["bundle"]
    assert other_bundle not in old
    with load(service) as responses:
        wait_until(lambda: len(responses) >= CLIENTS)
        checked(files.exec("files", "sh", "-c", move.replace("0123456789ab", other_bundle)))
        checked(service.exec("serve", "sh", "-c", reload))
        wait_until(lambda: other_bundle in responses[-1].json()["bundle"])
    assert {one.status_code for one in responses} == {200}
    assert len({one.json()["bundle"] for one in responses}) == 2


@contextmanager
def load(service):
    """Score pairs from CLIENTS connections until the block ends; yield the responses so far."""
    over, responses = threading.Event(), []

    def send():
        with client(service.url("http")) as one:
            while not over.is_set():
                responses.append(one.post("/v1/similarity", json={"pairs": PAIRS}, headers=bearer(KEY)))

    with service.network() as threads:
        clients = [threads.submit(send) for _ in range(CLIENTS)]
        try:
            yield responses
        finally:
            over.set()
    for one in clients:
        one.result()


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)
