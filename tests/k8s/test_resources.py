"""Checks what the pods request of a cluster: cores, room on the nodes' disks, and volumes."""

import pytest

from tests.k8s.manifests import of_kind, pods, the

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 1e-3}


def quantity(text):
    """Return the number that a quantity of Kubernetes stands for."""
    for suffix, factor in UNITS.items():
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)


def requested(pod, resource):
    """Return what the scheduler reserves: the containers' sum, or the largest init container's request."""

    def request(container):
        return quantity(container["resources"]["requests"][resource])

    init = [request(container) for container in pod.spec.get("initContainers", ())]
    return max([sum(request(container) for container in pod.spec["containers"]), *init])


def test_node_has_room_for_what_the_pods_may_write(manifests):
    for pod in pods(manifests):
        limits = [volume["emptyDir"]["sizeLimit"] for volume in pod.spec.get("volumes", ()) if "emptyDir" in volume]
        assert requested(pod, "ephemeral-storage") >= sum(map(quantity, limits)), pod.name


@pytest.mark.parametrize("name", ["dev", "dev with trainjob"])
def test_dev_fits_two_cores(render, name):
    manifests = render(name)
    # A control plane of kind requests 950m with its DNS and network, metrics-server 100m.
    total = 1.05 + sum(requested(pod, "cpu") for pod in pods(manifests) if "publish" not in pod.name)
    if jobs := of_kind(manifests, "TrainJob"):
        node = jobs[0]["spec"]["trainer"]["resourcesPerNode"]["requests"]["cpu"]
        (default,) = [requested(pod, "cpu") for pod in pods(manifests) if pod.name.endswith(" node")]
        total += quantity(node) - default
    autoscaler = the(manifests, "HorizontalPodAutoscaler")["spec"]
    (serve,) = [requested(pod, "cpu") for pod in pods(manifests) if pod.name == "Deployment/simile-serve"]
    # A rollout starts the new pod before it stops the old one.
    total += serve * autoscaler["maxReplicas"]
    assert total <= 2


ONE, MANY = ["ReadWriteOnce"], ["ReadWriteMany"]
MODES = {
    "dev with everything": {"simile-work": ONE, "simile-bundles": ONE, "simile-bulk": ONE},
    "production": {"simile-work": ONE, "simile-bundles": MANY},
    "production with bulk": {"simile-work": ONE, "simile-bundles": MANY, "simile-bulk": MANY},
    "production with members": {"simile-work": MANY, "simile-bundles": MANY},
    "production with trainjob": {"simile-work": ONE, "simile-bundles": MANY},
    "production-bucket": {"simile-work": ONE},
    "production-bucket with ray": {"simile-work": MANY},
    "production-bucket with members": {"simile-work": MANY},
    "production-gpu": {"simile-work": ONE, "simile-bundles": MANY},
    "production-gpu on production-bucket with members": {"simile-work": MANY},
}


@pytest.mark.parametrize("name", MODES)
def test_volumes_are_mounted_by_as_many_nodes_as_need_them(render, name):
    claims = of_kind(render(name), "PersistentVolumeClaim")
    assert {claim["metadata"]["name"]: claim["spec"]["accessModes"] for claim in claims} == MODES[name]


COMPUTING = {"serve", "train", "node", "baseline", "mine", "join", "evaluate", "score", "head", "worker"}
"""Names of the containers that compute with several threads."""


def test_threads_are_as_many_as_the_cores_that_a_container_may_use(manifests):
    computing = [one for pod in pods(manifests) for one in pod.containers if one["name"] in COMPUTING]
    assert computing
    for container in computing:
        (entry,) = [entry for entry in container["env"] if entry["name"] == "SIMILE_THREADS"]
        kind, _, resource = entry["valueFrom"]["resourceFieldRef"]["resource"].partition(".")
        assert container["resources"][kind][resource] == container["resources"]["limits"]["cpu"]


def test_threads_follow_requests_where_an_operator_removes_the_limits(production):
    (serve,) = the(production, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert {entry["valueFrom"]["resourceFieldRef"]["resource"] for entry in serve["env"]} == {"requests.cpu"}
