"""Access to rendered manifests and to the pods in them."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
TIMEOUT_S = 60
JOB_NAME = "simile-train-1"
"""Name of the Job that somebody has created from the CronJob."""


def kustomize(folder: Path) -> list[Manifest]:
    """Return the rendered manifests of the folder."""
    return parsed(rendered(folder))


def rendered(folder: Path) -> str:
    """Return the rendered manifests of the folder, or fail with kubectl's message."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here, so that nothing renders the manifests")
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def parsed(text: str) -> list[Manifest]:
    """Return the manifests of a text; the parser in C is six times faster than the one in Python."""
    return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest]


@dataclass(frozen=True)
class Pod:
    """A pod or a pod template."""

    name: str
    """Kind and name of the workload, and its job where it has several."""
    labels: Mapping[str, str]
    spec: dict[str, Any]
    job: Mapping[str, Any] | None = None
    """The spec of the Job that creates the pod, if any."""

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All containers, in the order in which they start."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def pods(manifests: Sequence[Manifest]) -> list[Pod]:
    """Return the pods of all workloads."""
    return [pod for manifest in manifests for pod in _pods(manifest)]


def _pods(manifest: Manifest) -> Iterator[Pod]:
    kind, spec = manifest["kind"], manifest.get("spec", {})
    name = f"{kind}/{manifest['metadata']['name']}"
    if kind == "Pod":
        yield Pod(name, manifest["metadata"].get("labels", {}), spec)
    elif kind in ("Deployment", "Job"):
        yield _of_template(name, spec["template"], spec if kind == "Job" else None)
    elif kind == "CronJob":
        job_spec = spec["jobTemplate"]["spec"]
        yield _of_template(name, job_spec["template"], job_spec)
    elif kind == "RayJob":
        yield from _ray_pods(name, spec)
    elif kind in ("JobSet", "TrainingRuntime"):
        for job in replicated_jobs(manifest):
            job_spec = job["template"]["spec"]
            yield _of_template(f"{name} {job['name']}", job_spec["template"], job_spec)


def _ray_pods(name: str, spec: Mapping[str, Any]) -> Iterator[Pod]:
    """Yield the pods of a RayJob: the submitter, the head, and one of each group of workers."""
    cluster = spec["rayClusterSpec"]
    yield _of_template(f"{name} submitter", spec["submitterPodTemplate"], None)
    yield _of_template(f"{name} head", cluster["headGroupSpec"]["template"], None)
    for group in cluster["workerGroupSpecs"]:
        yield _of_template(f"{name} {group['groupName']}", group["template"], None)


def replicated_jobs(manifest: Manifest) -> list[Manifest]:
    """Return the jobs of a JobSet or of a training runtime."""
    spec = manifest["spec"]
    jobs: list[Manifest] = (spec if manifest["kind"] == "JobSet" else spec["template"]["spec"])["replicatedJobs"]
    return jobs


def _of_template(name: str, template: Manifest, job: Mapping[str, Any] | None) -> Pod:
    return Pod(name, template.get("metadata", {}).get("labels", {}), template["spec"], job)


def of_kind(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> list[Manifest]:
    """Return the manifests of the kind and, if given, of the name."""
    return [one for one in manifests if one["kind"] == kind and name in (None, one["metadata"]["name"])]


def the(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the one manifest of the kind (and name)."""
    (manifest,) = of_kind(manifests, kind, name)
    return manifest


def environment(container: Mapping[str, Any], manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the container's environment as far as the manifests define it."""
    values: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        reference = source.get("configMapRef")
        if reference and (not reference.get("optional") or of_kind(manifests, "ConfigMap", reference["name"])):
            values |= the(manifests, "ConfigMap", reference["name"]).get("data", {})
    for entry in container.get("env", ()):
        if "value" in entry:
            values[entry["name"]] = entry["value"]
        elif "fieldRef" in entry["valueFrom"]:
            assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['batch.kubernetes.io/job-name']"
            values[entry["name"]] = JOB_NAME
    return values


def arguments(container: Mapping[str, Any], manifests: Sequence[Manifest], **more: str) -> list[str]:
    """Return the container's command line with each $(NAME) expanded, as the kubelet does."""
    values = environment(container, manifests) | more
    words = [*container.get("command", ()), *container.get("args", ())]
    for name, value in values.items():
        words = [word.replace(f"$({name})", value) for word in words]
    return words
