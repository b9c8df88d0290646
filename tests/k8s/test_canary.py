"""Checks that the Rollout, its Services, its route and its analysis belong together, and what a mirror adds."""

import shutil
import subprocess

import pytest

from tests.k8s.conftest import compose
from tests.k8s.manifests import K8S, of_kind, the

NAMES = ("production with canary", "production with canary and keda")


@pytest.fixture(params=NAMES)
def manifests(request, render):
    return render(request.param)


@pytest.fixture
def canary(manifests):
    return the(manifests, "Rollout")["spec"]["strategy"]["canary"]


def test_rollout_runs_the_pods_of_the_deployment(manifests):
    spec, deployment = the(manifests, "Rollout")["spec"], the(manifests, "Deployment", "simile-serve")
    assert spec["workloadRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": "simile-serve",
        "scaleDown": "never",
    }
    assert "template" not in spec
    for field in ("revisionHistoryLimit", "minReadySeconds", "progressDeadlineSeconds"):
        assert spec[field] == deployment["spec"][field]
    for constraint in deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]:
        assert constraint["matchLabelKeys"] == ["rollouts-pod-template-hash"]


def test_route_shares_out_what_the_two_services_get(manifests, canary):
    route = the(manifests, "HTTPRoute")
    plugin = canary["trafficRouting"]["plugins"]["argoproj-labs/gatewayAPI"]
    assert plugin == {"httpRoute": route["metadata"]["name"], "namespace": route["metadata"]["namespace"]}
    (rule,) = route["spec"]["rules"]
    services = [canary["stableService"], canary["canaryService"]]
    # The plugin sets the weights; an apply may take requests from a canary, but must not give it any.
    assert [(one["name"], one["port"], one["weight"]) for one in rule["backendRefs"]] == [
        (services[0], 8080, 100),
        (services[1], 8080, 0),
    ]
    labels = the(manifests, "Deployment", "simile-serve")["spec"]["template"]["metadata"]["labels"]
    for name in services:
        spec = the(manifests, "Service", name)["spec"]
        assert spec["selector"].items() <= labels.items()
        assert [(port["name"], port["port"]) for port in spec["ports"]] == [("http", 8080)]
    (allowed,) = the(manifests, "Role", "simile-canary")["rules"]
    assert (allowed["resources"], allowed["resourceNames"]) == (["httproutes"], [plugin["httpRoute"]])
    assert set(allowed["verbs"]) == {"get", "update", "patch"}


def test_prometheus_finds_each_pod_once(render):
    manifests = render("production with canary")
    (monitor,) = [one for one in of_kind(manifests, "ServiceMonitor") if one["metadata"]["name"] == "simile-serve"]
    (endpoint,) = monitor["spec"]["endpoints"]
    watched = [
        service["metadata"]["name"]
        for service in of_kind(manifests, "Service")
        if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        and endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    ]
    assert watched == ["simile"]


def test_analysis_gets_its_arguments_and_enough_time(manifests, canary):
    template = the(manifests, "AnalysisTemplate")
    analysis = canary["analysis"]
    assert analysis["templates"] == [{"templateName": template["metadata"]["name"]}]
    assert {one["name"] for one in analysis["args"]} == {one["name"] for one in template["spec"]["args"]}
    pauses = [step["pause"]["duration"] for step in canary["steps"] if step.get("pause")]
    delays = [metric["initialDelay"] for metric in template["spec"]["metrics"]]
    assert max(int(delay.removesuffix("m")) for delay in delays) < int(pauses[0].removesuffix("m"))


def test_prometheus_of_the_analysis_is_that_of_the_autoscaler(render):
    manifests = render("production with canary and keda")
    addresses = {
        one["provider"]["prometheus"]["address"] for one in the(manifests, "AnalysisTemplate")["spec"]["metrics"]
    }
    addresses |= {one["metadata"]["serverAddress"] for one in the(manifests, "ScaledObject")["spec"]["triggers"]}
    assert len(addresses) == 1


def test_mirror_copies_requests_to_a_canary_that_serves_nobody(render):
    manifests = render("production with canary and keda")
    canary = the(manifests, "Rollout")["spec"]["strategy"]["canary"]
    plain = the(render("production with canary"), "Rollout")["spec"]["strategy"]["canary"]
    (rule,) = the(manifests, "HTTPRoute")["spec"]["rules"]
    (copied,) = rule["filters"]
    assert copied["requestMirror"]["backendRef"] == {"name": canary["canaryService"], "port": 8080}
    *mirrored, last = canary["steps"][: -len(plain["steps"])]
    assert mirrored == [{"setWeight": 0}, {"setCanaryScale": {"replicas": 1}}, {"pause": {}}]
    assert last == {"setCanaryScale": {"matchTrafficWeight": True}}
    assert canary["steps"][-len(plain["steps"]) :] == plain["steps"]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (("canary", "keda"), "testing value /spec/scaleTargetRef/kind failed"),
        (("mirror",), "no matches for Id Rollout"),
        (("mirror", "canary"), "no matches for Id Rollout"),
    ],
)
def test_order_that_would_lose_something_is_refused(tmp_path, order, message):
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = compose(tmp_path / "k8s", "production", *order)
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr


def test_route_of_the_example_does_not_take_the_place_of_the_canarys(tmp_path):
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = compose(tmp_path / "k8s", "example", "canary")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "HTTPRoute" in done.stderr
