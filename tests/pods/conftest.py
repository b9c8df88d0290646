"""Both images under the names that the overlays give them, podman to run the overlays' pods, and a training in one."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest

from tests.images.conftest import Buildah, Image, buildah, figures, serve_image, train_image
from tests.k8s.manifests import K8S, Manifest, Pod, kustomize, of_kind, pods
from tests.pods.kubelet import Podman, RunningPod

__all__ = ["buildah", "figures", "serve_image", "train_image"]

TRAINING_TIMEOUT_S = 1800


@dataclass(frozen=True)
class Training:
    """A training whose first pod was killed between two checkpoints."""

    name: str
    killed_code: int
    killed_log: str
    log: str
    """The log of the second pod's training."""
    publish_log: str


@pytest.fixture(scope="session")
def dev() -> list[Manifest]:
    return kustomize(K8S / "overlays" / "dev")


@pytest.fixture(scope="session")
def production() -> list[Manifest]:
    return kustomize(K8S / "overlays" / "production")


@pytest.fixture(scope="session")
def podman(
    request: pytest.FixtureRequest,
    dev: list[Manifest],
    production: list[Manifest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Podman]:
    """Podman with the overlays' images and an empty set of pods and volumes; skips with the reason where it is not."""
    if absent := [name for name in ("podman", "runc", "conmon", "catatonit") if not shutil.which(name)]:
        pytest.skip(f"no {', '.join(absent)} here (apt-get install podman runc catatonit)")
    buildah: Buildah = request.getfixturevalue("buildah")
    for name in {container["image"] for pod in pods([*dev, *production]) for container in pod.containers}:
        image: Image = request.getfixturevalue("train_image" if "simile-train" in name else "serve_image")
        buildah("tag", image.tag, name)
    podman = Podman(buildah.storage, tmp_path_factory.mktemp("kubelet"))
    remove_all(podman)
    for claim in of_kind(production, "PersistentVolumeClaim"):
        podman("volume", "create", claim["metadata"]["name"])
    yield podman
    remove_all(podman)


def remove_all(podman: Podman) -> None:
    """Remove all pods and volumes."""
    podman("pod", "rm", "--all", "--force", "--time", "0")
    podman("volume", "rm", "--all", "--force")


@pytest.fixture
def play(podman: Podman) -> Iterator[Callable[..., RunningPod]]:
    """Starts a workload's pod, which is removed after the test."""
    played: list[RunningPod] = []

    def play(manifests: Sequence[Manifest], workload: str, name: str) -> RunningPod:
        played.append(podman.play(pod_of(manifests, workload), manifests, name))
        return played[-1]

    yield play
    for pod in played:
        pod.remove()


def pod_of(manifests: Sequence[Manifest], workload: str) -> Pod:
    """Return the pod of the workload, which is named as "CronJob/simile-train"."""
    (pod,) = [one for one in pods(manifests) if one.name == workload]
    return pod


@pytest.fixture(scope="session")
def trained(podman: Podman, dev: list[Manifest]) -> Training:
    """The training of `overlays/dev`, killed after its first checkpoint and resumed in the next pod."""
    name, template = "simile-train-1", pod_of(dev, "CronJob/simile-train")
    first = podman.play(template, dev, name)
    try:
        await_checkpoint(first)
        podman("kill", first.container("train"))
        killed_code, killed_log = first.wait("train"), first.log("train")
    finally:
        first.remove()
    second = podman.play(template, dev, name)
    try:
        code = second.wait("publish")
        assert code == 0, second.log("train") + second.log("publish")
        return Training(name, killed_code, killed_log, second.log("train"), second.log("publish"))
    finally:
        second.remove()


def await_checkpoint(training: RunningPod) -> None:
    """Wait until the training has saved a checkpoint."""
    deadline = time.monotonic() + TRAINING_TIMEOUT_S
    while not list(training.podman.volume("simile-work").glob(f"runs/{training.name}/**/checkpoint-*/complete")):
        if training.playing.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the training saved no checkpoint:\n{training.output.read_text()}{training.log('train')}")
        time.sleep(0.5)


@pytest.fixture(scope="session")
def other_bundle(trained: Training, podman: Podman, dev: list[Manifest]) -> str:
    """The name of a second published bundle: the untouched encoder, exported by the training's pod."""
    template = pod_of(dev, "CronJob/simile-train")
    spec = deepcopy(template.spec)
    spec["initContainers"][0]["args"] = ["baseline", "bundled:minilm", "--out", "/work/runs/$(RUN)/bundle"]
    pod = podman.play(replace(template, spec=spec), dev, "simile-train-2")
    try:
        assert pod.wait("publish") == 0, pod.log("train") + pod.log("publish")
        return pod.log("publish").split()[1].rstrip(";")
    finally:
        pod.remove()
