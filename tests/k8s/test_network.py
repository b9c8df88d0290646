"""Checks the network policies against the addresses that clusters use."""

from ipaddress import ip_address, ip_network

import pytest

from tests.k8s.manifests import of_kind, pods, the
from tests.k8s.policy import holds

DNS_OF_NODES = ("169.254.20.10", "169.254.169.254")
"""NodeLocal DNSCache, and Cloud DNS of GKE."""
POD_IDENTITY, METADATA = "169.254.170.23", "169.254.169.254"


def may_call(manifests, pod, address, port):
    """Return whether a policy lets the pod connect to the address."""
    return any(
        ip_address(address) in ip_network(peer["ipBlock"]["cidr"])
        for policy in of_kind(manifests, "NetworkPolicy")
        if holds(policy, pod, "Egress")
        for rule in policy["spec"].get("egress", ())
        for peer in rule["to"]
        if "ipBlock" in peer and port in {one["port"] for one in rule["ports"]}
    )


def named(manifests, name):
    (pod,) = [pod for pod in pods(manifests) if pod.name == name]
    return pod


@pytest.mark.parametrize("address", DNS_OF_NODES)
@pytest.mark.parametrize(
    ("name", "callers"),
    [
        ("production", set()),
        ("production with monitoring", {"CronJob/simile-train"}),
        ("production-bucket", {"CronJob/simile-train", "Deployment/simile-serve"}),
    ],
)
def test_pods_that_resolve_names_reach_dns_on_their_node(render, name, callers, address):
    manifests = render(name)
    assert {pod.name for pod in pods(manifests) if may_call(manifests, pod, address, 53)} == callers


def test_credentials_come_from_the_agent_and_never_from_the_node(render):
    manifests = render("production-bucket")
    for name in ("CronJob/simile-train", "Deployment/simile-serve"):
        assert may_call(manifests, named(manifests, name), POD_IDENTITY, 80)
        assert not may_call(manifests, named(manifests, name), METADATA, 80)


def test_load_balancer_reaches_the_service_and_nothing_else(render):
    rules = the(render("example"), "NetworkPolicy", "simile-serve")["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == {"http"}
    assert [len(rule["from"]) for rule in rules if "ipBlock" in rule["from"][0]] == [2]
