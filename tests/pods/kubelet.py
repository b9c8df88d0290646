"""A stand-in for the kubelet: podman runs the pods of rendered manifests, with their volumes and ConfigMaps.

Podman 4.3 knows neither Jobs nor Secrets, so each workload's template becomes a Pod here, and what podman lacks is done
as a kubelet does it:

- `$(NAME)` in a command line is expanded.
- Probes are sent by `RunningPod.passes`. Podman would run those of liveness with curl, which the images do not have.
- A Secret is a folder of the host, whose files are all replaced by one rename when the Secret changes.
- The grace period is given to `podman stop`.

What is left out: admission (pod security, quotas), scheduling (requests, priorities, node selectors, spread), Services
and network policies (a pod has only a loopback interface of its own), retries of Jobs, restarts by the liveness probe,
`fsGroup` (podman gives a new volume to the image's user, whose group is the same), and `sizeLimit` of an emptyDir.
"""

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.images.conftest import checked
from tests.k8s.manifests import Manifest, Pod, arguments, of_kind

RUNTIME = Path(__file__).with_name("runtime.sh")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
CLIENTS = 8
GROUP = 10001
POD_IP = "10.244.0.7"
"""The host that probes and scrapes name, as they would on a cluster."""
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Podman:
    """The podman command, on a storage that buildah has filled."""

    storage: Sequence[str]
    """Options that name the storage."""
    folder: Path
    """Holds the Secrets, and what is played."""

    def argv(self, *arguments: str) -> list[str]:
        """Return the command with the options that each call needs."""
        options = ["--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", str(RUNTIME)]
        return ["podman", *self.storage, *options, *arguments]

    def run(self, *arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        argv = self.argv(*arguments)
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)

    def __call__(self, *arguments: str) -> str:
        """Return what the command prints, or fail with it."""
        return checked(self.run(*arguments)).strip()

    def volume(self, claim: str) -> Path:
        """Return the folder of the claim's volume on this machine."""
        return Path(self("volume", "inspect", claim, "--format", "{{.Mountpoint}}"))

    def write_secret(self, name: str, **files: str) -> None:
        """Write the Secret's files as a kubelet does: readable by the pod's group, and replaced all at once."""
        secret = self.folder / name
        version = secret / f"..{time.time_ns()}"
        version.mkdir(parents=True)
        for file, content in files.items():
            (version / file).write_text(content)
            os.chown(version / file, 0, GROUP)
            (version / file).chmod(0o440)
            if not (secret / file).is_symlink():
                (secret / file).symlink_to(f"..data/{file}")
        (secret / "..new").symlink_to(version.name)
        (secret / "..new").rename(secret / "..data")

    def play(self, pod: Pod, manifests: Sequence[Manifest], name: str) -> "RunningPod":
        """Start the workload's pod by that name, which is its Job's too. Podman itself waits for init containers."""
        file, output = self.folder / f"{name}.yaml", self.folder / f"{name}.out"
        file.write_text(yaml.safe_dump_all(playable(pod, manifests, name, self.folder)))
        argv = self.argv("kube", "play", "--network", "none", str(file))
        with output.open("w") as writer:
            # When the kernel kills a process for its memory, conmon writes a file `oom` where it was started.
            playing = subprocess.Popen(argv, stdout=writer, stderr=subprocess.STDOUT, cwd=self.folder)
        return RunningPod(self, name, pod, playing, output)


def playable(pod: Pod, manifests: Sequence[Manifest], name: str, folder: Path) -> list[Manifest]:
    """Return the workload's pod, and the ConfigMaps, as podman takes them."""
    spec = deepcopy(pod.spec)
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        words = arguments(container, manifests, RUN=name)
        for part in ("command", "args"):
            if part in container:
                count = len(container[part])
                container[part], words = words[:count], words[count:]
        # Podman refuses ports without a network.
        for field in ("ports", *PROBES):
            container.pop(field, None)
    for volume in spec["volumes"]:
        if secret := volume.pop("secret", None):
            volume["hostPath"] = {"path": str(folder / secret["secretName"])}
    metadata = {
        "name": name,
        "labels": {**pod.labels, "batch.kubernetes.io/job-name": name},
        # Podman would otherwise remove an init container that has ended, and its log.
        "annotations": {"io.podman.annotations.init.container.type": "always"},
    }
    return [*of_kind(manifests, "ConfigMap"), {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}]


@dataclass(frozen=True)
class RunningPod:
    """A pod that podman runs."""

    podman: Podman
    name: str
    pod: Pod
    playing: subprocess.Popen[bytes]
    """The command that starts the containers, one after the other."""
    output: Path
    """What that command prints."""

    def container(self, container: str) -> str:
        """Return podman's name of the container."""
        return f"{self.name}-{container}"

    def state(self, container: str) -> Mapping[str, Any]:
        """Return the container's state; empty before it exists."""
        done = self.podman.run("container", "inspect", self.container(container))
        return {} if done.returncode else json.loads(done.stdout)[0]["State"]

    def log(self, container: str) -> str:
        """Return what the container has written."""
        done = self.podman.run("logs", self.container(container))
        return done.stdout + done.stderr

    def exec(self, container: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run the command in the container, as `kubectl exec` does."""
        return self.podman.run("exec", self.container(container), *command)

    def wait(self, container: str) -> int:
        """Wait until the container has ended; return its exit code."""
        self.playing.wait()
        if not self.state(container):
            pytest.fail(f"podman did not start {container}:\n{self.output.read_text()}")
        return int(self.podman("wait", self.container(container)))

    def stop(self, container: str) -> int:
        """End the container as a deleted pod's: SIGTERM, the grace period, SIGKILL. Return its exit code."""
        self.podman("stop", "--time", str(self.pod.spec["terminationGracePeriodSeconds"]), self.container(container))
        return int(self.state(container)["ExitCode"])

    def remove(self) -> None:
        """Remove the pod."""
        self.playing.kill()
        self.playing.wait()
        self.podman.run("pod", "rm", "--force", "--time", "0", self.name)

    @contextmanager
    def network(self) -> Iterator[ThreadPoolExecutor]:
        """Yield threads in the pod's network, where 127.0.0.1 is the pod."""
        process = self.state(self.pod.spec["containers"][0]["name"])["Pid"]
        with ThreadPoolExecutor(CLIENTS, initializer=_join_network, initargs=(process,)) as threads:
            yield threads

    def call(self, method: str, port: str, path: str, *, timeout_s: float = 30, **options: Any) -> httpx2.Response:
        """Send a request to the port of that name, from within the pod's network, as `kubectl port-forward` does."""
        with self.network() as threads, client(self.url(port), timeout_s) as one:
            return threads.submit(one.request, method, path, **options).result()

    def url(self, port: str) -> str:
        """Return the address of the port of that name within the pod's network."""
        numbers = {one["name"]: one["containerPort"] for one in self.pod.spec["containers"][0]["ports"]}
        return f"http://127.0.0.1:{numbers[port]}"

    def passes(self, probe: str) -> bool:
        """Send the main container's probe once; return whether it passes."""
        declared = self.pod.spec["containers"][0][probe]
        try:
            path, port, timeout_s = declared["httpGet"]["path"], declared["httpGet"]["port"], declared["timeoutSeconds"]
            return 200 <= self.call("GET", port, path, timeout_s=timeout_s).status_code < 400
        except httpx2.TransportError:
            return False

    def await_start(self) -> None:
        """Wait until the startup probe passes, or fail after as many tries as the probe allows."""
        name = self.pod.spec["containers"][0]["name"]
        if self.playing.wait():
            pytest.fail(f"podman did not start the pod:\n{self.output.read_text()}{self.log(name)}")
        startup = self.pod.spec["containers"][0]["startupProbe"]
        for _ in range(startup["failureThreshold"]):
            if not self.state(name)["Running"]:
                break
            if self.passes("startupProbe"):
                return
            time.sleep(startup["periodSeconds"])
        pytest.fail(f"the pod did not start:\n{self.log(name)}")


def client(url: str, timeout_s: float = 30) -> httpx2.Client:
    """Return a client that names the pod's address as its host."""
    port = url.rpartition(":")[2]
    return httpx2.Client(base_url=url, headers={"host": f"{POD_IP}:{port}"}, trust_env=False, timeout=timeout_s)


def _join_network(process: int) -> None:
    """Move this thread, and no other, into the network of the process."""
    with open(f"/proc/{process}/ns/net") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
