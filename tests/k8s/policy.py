"""The security rules that every rendered manifest must obey."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.k8s.manifests import Manifest, Pod, of_kind, pods

EVERYWHERE = ("0.0.0.0/0", "::/0")


def violations(manifests: Sequence[Manifest]) -> list[str]:
    """Return each violated rule with its place."""
    policies = of_kind(manifests, "NetworkPolicy")
    broken_rules = [f"{pod.name}: {wrong}" for pod in pods(manifests) for wrong in _of_pod(pod)]
    for pod in pods(manifests):
        for direction in ("Ingress", "Egress"):
            if not any(holds(policy, pod, direction) for policy in policies):
                broken_rules.append(f"{pod.name}: no NetworkPolicy for its {direction.lower()}")
    for policy in policies:
        broken_rules += [f"NetworkPolicy/{policy['metadata']['name']}: {wrong}" for wrong in _of_policy(policy["spec"])]
    for account in of_kind(manifests, "ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            broken_rules.append(f"ServiceAccount/{account['metadata']['name']}: mounts its token")
    return broken_rules


def _of_pod(pod: Pod) -> Iterator[str]:
    spec = pod.spec
    if spec.get("automountServiceAccountToken") is not False:
        yield "mounts a service account's token"
    if spec.get("enableServiceLinks") is not False:
        yield "has service links, which are read as settings"
    if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
        yield "shares a namespace of its node"
    for volume in spec.get("volumes", ()):
        yield from (f"volume {volume['name']}: {wrong}" for wrong in _of_volume(volume))
    if pod.name.startswith("Deployment/"):
        for container in spec["containers"]:
            yield from (f"{container['name']}: {wrong}" for wrong in _of_probes(container))
    for container in pod.containers:
        own = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
        wrongs = [*_of_container(container), *_of_security(own)]
        yield from (f"{container['name']}: {wrong}" for wrong in wrongs)


def _of_volume(volume: Mapping[str, Any]) -> Iterator[str]:
    if "hostPath" in volume:
        yield "is of the node"
    if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", ())):
        yield "mounts a service account's token"


def _of_probes(container: Mapping[str, Any]) -> Iterator[str]:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            yield f"no {probe}"


def _of_container(container: Mapping[str, Any]) -> Iterator[str]:
    needed = {"requests": ("cpu", "memory", "ephemeral-storage"), "limits": ("cpu", "memory")}
    for kind, resources in needed.items():
        for resource in resources:
            if resource not in container.get("resources", {}).get(kind, {}):
                yield f"no {kind} of {resource}"
    path, _, digest = container["image"].partition("@")
    # A registry may have a port, so a colon starts a tag only after the last slash.
    tag = path.rpartition("/")[2].partition(":")[2]
    if tag == "latest" or not (tag or digest):
        yield f"image {container['image']} has no tag of its own"


def _of_security(security: Mapping[str, Any]) -> Iterator[str]:
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser"):
        yield "may run as root"
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        yield "may gain privileges"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "has a writable root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    capabilities = security.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
        yield "keeps capabilities"


def holds(policy: Manifest, pod: Pod, direction: str) -> bool:
    """Return whether the policy applies to the pod in this direction."""
    spec = policy["spec"]
    selector = spec["podSelector"]
    is_selected = selector.get("matchLabels", {}).items() <= pod.labels.items() and all(
        one["operator"] == "In" and pod.labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", ())
    )
    return direction in spec.get("policyTypes", ()) and is_selected


def _of_policy(spec: Mapping[str, Any]) -> Iterator[str]:
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for rule in spec.get(direction, ()):
            if not rule.get(peers) or any(_is_anybody(peer) for peer in rule[peers]):
                yield f"is open ({direction})"
            if not rule.get("ports"):
                yield f"is open on every port ({direction})"


def _is_anybody(peer: Mapping[str, Any]) -> bool:
    if "ipBlock" in peer:
        return peer["ipBlock"]["cidr"] in EVERYWHERE
    return peer.get("namespaceSelector") == {} and not peer.get("podSelector")
