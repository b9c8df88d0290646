"""Checks that no manifest violates a rule of `tests.k8s.policy`, and that each rule detects a violation."""

from copy import deepcopy

import pytest

from tests.k8s.manifests import of_kind, pods, the
from tests.k8s.policy import violations


def test_rendered_manifests_violate_no_rule(manifests):
    assert violations(manifests) == []


def test_namespace_has_the_cluster_refuse_what_is_not_restricted(manifests):
    labels = the(manifests, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def _security(**values):
    return lambda container: container["securityContext"].update(values)


IN_CONTAINERS = {
    "root": (_security(runAsUser=0), "may run as root"),
    "not kept from root": (_security(runAsNonRoot=False), "may run as root"),
    "escalation": (_security(allowPrivilegeEscalation=True), "may gain privileges"),
    "escalation by default": (lambda one: one["securityContext"].pop("allowPrivilegeEscalation"), "may gain"),
    "privileged": (_security(privileged=True), "may gain privileges"),
    "writable root": (_security(readOnlyRootFilesystem=False), "has a writable root"),
    "writable root by default": (lambda one: one["securityContext"].pop("readOnlyRootFilesystem"), "a writable root"),
    "no seccomp": (_security(seccompProfile={"type": "Unconfined"}), "has no seccomp profile"),
    "capabilities": (_security(capabilities={"drop": ["NET_RAW"]}), "keeps capabilities"),
    "a capability more": (_security(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN"]}), "keeps capabilities"),
    "no security context": (lambda one: one.pop("securityContext"), "has a writable root"),
    "no limits": (lambda one: one["resources"].pop("limits"), "no limits of memory"),
    "no limit of memory": (lambda one: one["resources"]["limits"].pop("memory"), "no limits of memory"),
    "no requests": (lambda one: one["resources"].pop("requests"), "no requests of cpu"),
    "latest": (lambda one: one.update(image="registry.example.org:5000/simile:latest"), "has no tag of its own"),
    "no tag": (lambda one: one.update(image="registry.example.org:5000/simile"), "has no tag of its own"),
}


@pytest.mark.parametrize("planted", IN_CONTAINERS)
def test_violation_planted_in_a_container_is_detected(render, planted):
    plant, expected = IN_CONTAINERS[planted]
    for name in ("production", "production with members", "production with trainjob"):
        rendered = render(name)
        for i, pod in enumerate(pods(rendered)):
            for j, container in enumerate(pod.containers):
                changed = deepcopy(rendered)
                plant(pods(changed)[i].containers[j])
                broken_rules = violations(changed)
                assert any(expected in line for line in broken_rules), (pod.name, broken_rules)
                assert all(line.startswith(f"{pod.name}: {container['name']}: ") for line in broken_rules)


def _projected_token(spec):
    source = {"serviceAccountToken": {"path": "token"}}
    spec["volumes"].append({"name": "token", "projected": {"sources": [source]}})


IN_PODS = {
    "token": (lambda spec: spec.update(automountServiceAccountToken=True), "mounts a service account's token"),
    "token by default": (lambda spec: spec.pop("automountServiceAccountToken"), "mounts a service account's token"),
    "token as a volume": (_projected_token, "volume token: mounts a service account's token"),
    "root for all": (lambda spec: spec["securityContext"].pop("runAsNonRoot"), "may run as root"),
    "no user": (lambda spec: spec["securityContext"].pop("runAsUser"), "may run as root"),
    "links": (lambda spec: spec.pop("enableServiceLinks"), "service links"),
    "network of the node": (lambda spec: spec.update(hostNetwork=True), "shares a namespace of its node"),
    "files of the node": (
        lambda spec: spec["volumes"].append({"name": "node", "hostPath": {"path": "/"}}),
        "volume node: is of the node",
    ),
}


@pytest.mark.parametrize("planted", IN_PODS)
def test_violation_planted_in_a_pod_is_detected(production, planted):
    plant, expected = IN_PODS[planted]
    for i, pod in enumerate(pods(production)):
        changed = deepcopy(production)
        plant(pods(changed)[i].spec)
        broken_rules = violations(changed)
        assert broken_rules, pod.name
        assert all(line.startswith(f"{pod.name}: ") and expected in line for line in broken_rules)


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_missing_probe_is_detected(production, probe):
    changed = deepcopy(production)
    del the(changed, "Deployment")["spec"]["template"]["spec"]["containers"][0][probe]
    assert violations(changed) == [f"Deployment/simile-serve: serve: no {probe}"]


OPEN = {
    "no peers": ({"ports": [{"port": 8080}]}, "is open (ingress)"),
    "every namespace": ({"from": [{"namespaceSelector": {}}], "ports": [{"port": 8080}]}, "is open (ingress)"),
    "every address": ({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 8080}]}, "is open (ingress)"),
    "every port": ({"from": [{"podSelector": {}}]}, "is open on every port (ingress)"),
}


@pytest.mark.parametrize("planted", OPEN)
def test_open_network_policy_is_detected(production, planted):
    rule, expected = OPEN[planted]
    changed = deepcopy(production)
    the(changed, "NetworkPolicy", "simile-serve")["spec"]["ingress"].append(rule)
    assert violations(changed) == [f"NetworkPolicy/simile-serve: {expected}"]


def test_open_egress_is_detected(production):
    changed = deepcopy(production)
    the(changed, "NetworkPolicy", "simile-nothing")["spec"]["egress"] = [{}]
    assert violations(changed) == [
        "NetworkPolicy/simile-nothing: is open (egress)",
        "NetworkPolicy/simile-nothing: is open on every port (egress)",
    ]


def test_pod_without_a_network_policy_is_detected(production):
    policies = of_kind(production, "NetworkPolicy")
    broken_rules = violations([one for one in production if one not in policies])
    assert len(broken_rules) == 2 * len(pods(production))
    assert "CronJob/simile-train: no NetworkPolicy for its egress" in broken_rules


def test_service_account_that_mounts_its_token_is_detected(production):
    changed = deepcopy(production)
    del the(changed, "ServiceAccount", "simile-serve")["automountServiceAccountToken"]
    assert violations(changed) == ["ServiceAccount/simile-serve: mounts its token"]
