"""Checks overlays/kserve: what KServe makes of it is the pod that base/serve runs, under the name that clients call."""

import shutil
from copy import deepcopy

import httpx2
import kubernetes_validate
import pytest

from serving.app import create_app
from serving.settings import Settings
from tests.command_lines import read_options
from tests.k8s.conftest import edit
from tests.k8s.definitions import VERSIONS, crd_validator
from tests.k8s.manifests import K8S, environment, kustomize, of_kind, the
from tests.k8s.policy import violations
from tests.live_servers import served

EXTENSIONS = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "deploymentStrategy", "model")
"""Fields of a predictor that are not those of a pod."""


@pytest.fixture(scope="module")
def manifests():
    return kustomize(K8S / "overlays" / "kserve")


def pod_of(manifests):
    """Return the pod that KServe makes of the runtime and the service whose bundle is on a volume.

    Source: pkg/controller/v1beta1/inferenceservice/components/predictor.go of KServe, and
    pkg/webhook/admission/pod/storage_initializer_injector.go, which mounts the volume.
    """
    runtime, service = the(manifests, "ServingRuntime")["spec"], the(manifests, "InferenceService")
    predictor = service["spec"]["predictor"]
    container = deepcopy(runtime["containers"][0])
    container["args"] = [word.replace("{{.Name}}", service["metadata"]["name"]) for word in container["args"]]
    claim, _, path = predictor["model"]["storageUri"].removeprefix("pvc://").partition("/")
    bundle = {"name": "kserve-pvc-source", "mountPath": "/mnt/models", "subPath": path, "readOnly": True}
    container["volumeMounts"].append(bundle)
    source = {"name": "kserve-pvc-source", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    spec = {key: value for key, value in predictor.items() if key not in EXTENSIONS}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "simile-predictor", "labels": runtime["labels"]},
        "spec": spec | {"containers": [container], "volumes": [*runtime["volumes"], source]},
    }


@pytest.fixture
def pod(manifests):
    return pod_of(manifests)


@pytest.fixture
def deployed(production):
    """The pod template of base/serve."""
    return the(production, "Deployment")["spec"]["template"]["spec"]


@pytest.mark.parametrize("kind", ["ServingRuntime", "InferenceService"])
def test_custom_resource_is_valid_strictly(manifests, kind):
    manifest = the(manifests, kind)
    assert list(crd_validator(kind, manifest["apiVersion"]).iter_errors(manifest)) == []


@pytest.mark.parametrize(
    ("kind", "plant", "expected"),
    [
        ("ServingRuntime", lambda spec: spec["containers"][0].update(livenesProbe={}), "livenesProbe"),
        ("ServingRuntime", lambda spec: spec.update(securityContext={}), "securityContext"),
        ("InferenceService", lambda spec: spec["predictor"].update(minReplica=2), "minReplica"),
        ("InferenceService", lambda spec: spec["predictor"]["model"].update(storageURI="pvc://a"), "storageURI"),
    ],
)
def test_unknown_field_is_refused(manifests, kind, plant, expected):
    changed = deepcopy(the(manifests, kind))
    plant(changed["spec"])
    (error,) = crd_validator(kind, changed["apiVersion"]).iter_errors(changed)
    assert f"'{expected}' was unexpected" in error.message


@pytest.mark.parametrize("version", VERSIONS)
def test_pod_is_valid_strictly(pod, version):
    assert kubernetes_validate.validate(pod, version, strict=True) == version


def test_pod_violates_no_rule(manifests, pod):
    assert violations([*manifests, pod]) == []


def test_pod_differs_from_that_of_the_deployment_only_where_kserve_needs_it(pod, deployed):
    (container,), (expected,) = pod["spec"]["containers"], deepcopy(deployed["containers"])
    assert container["image"] == expected["image"]
    assert container["resources"] == expected["resources"]
    assert container["ports"] == expected["ports"]
    threads = [entry for entry in container["env"] if entry["name"] == "SIMILE_THREADS"]
    assert threads == expected["env"]
    numbers = {port["name"]: port["containerPort"] for port in expected["ports"]}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = expected[name]
        probe["httpGet"]["port"] = numbers[probe["httpGet"]["port"]]
        assert container[name] == probe
    security = deployed["securityContext"] | expected["securityContext"]
    # Groups of volumes are a matter of the pod; the service only reads what user 10001 has published.
    assert container["securityContext"] == {key: security[key] for key in security if not key.startswith("fsGroup")}
    for field in (
        "serviceAccountName",
        "automountServiceAccountToken",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
    ):
        assert pod["spec"][field] == deployed[field]


def test_autoscaler_has_the_bounds_of_the_other_one(manifests, production):
    autoscaler = the(production, "HorizontalPodAutoscaler")["spec"]
    predictor = the(manifests, "InferenceService")["spec"]["predictor"]
    (metric,) = autoscaler["metrics"]
    assert (predictor["minReplicas"], predictor["maxReplicas"], predictor["scaleMetric"], predictor["scaleTarget"]) == (
        autoscaler["minReplicas"],
        autoscaler["maxReplicas"],
        metric["resource"]["name"],
        metric["resource"]["target"]["averageUtilization"],
    )


def test_runtime_is_the_one_that_the_service_asks_for(manifests):
    runtime, model = the(manifests, "ServingRuntime"), the(manifests, "InferenceService")["spec"]["predictor"]["model"]
    assert model["runtime"] == runtime["metadata"]["name"]
    assert model["modelFormat"]["name"] in {one["name"] for one in runtime["spec"]["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert runtime["spec"]["containers"][0]["name"] == "kserve-container"


def test_service_answers_kserves_clients_by_its_name(pod, manifests, scorer):
    (container,) = pod["spec"]["containers"]
    options = read_options(container["args"])
    assert str(options.bundle) == "/mnt/models"
    settings = Settings.resolve({"model_name": options.model_name}, environment(container, manifests))
    assert settings.host == "0.0.0.0"
    name = the(manifests, "InferenceService")["metadata"]["name"]
    with served(create_app(settings, scorer)) as url:
        for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{name}", f"/v2/models/{name}/ready"):
            assert httpx2.get(url + path, trust_env=False).status_code == 200


def test_everything_but_the_service_is_that_of_production(manifests, production):
    def others(manifests):
        part = "app.kubernetes.io/component"
        return [one for one in manifests if one["metadata"]["labels"][part] != "serve"]

    assert others(manifests) == others(production)
    kinds = ("NetworkPolicy", "PodDisruptionBudget", "ServiceAccount")
    for kind in kinds:
        assert of_kind(manifests, kind) == of_kind(production, kind)
    rest = {one["kind"] for one in manifests if one["metadata"]["labels"]["app.kubernetes.io/component"] == "serve"}
    assert rest == {*kinds, "ServingRuntime", "InferenceService"}


def test_volume_and_ports_that_the_pod_names_are_there(manifests, pod):
    claims = {claim["metadata"]["name"] for claim in of_kind(manifests, "PersistentVolumeClaim")}
    assert pod["spec"]["volumes"][-1]["persistentVolumeClaim"]["claimName"] in claims
    (rule,) = the(manifests, "NetworkPolicy", "simile-serve")["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} <= {port["name"] for port in pod["spec"]["containers"][0]["ports"]}


def test_prometheus_scrapes_the_service_that_kserve_makes(tmp_path):
    """KServe's Service has the labels of the runtime and the ports of its container."""
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = tmp_path / "k8s" / "overlays" / "kserve"
    edit(folder, components=["../../components/monitoring"])
    manifests = kustomize(folder)
    runtime = the(manifests, "ServingRuntime")["spec"]
    monitor = the(manifests, "ServiceMonitor", "simile-serve")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= runtime["labels"].items()
    ports = {port["name"] for port in runtime["containers"][0]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= ports
