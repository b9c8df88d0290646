"""Renders the chart with Helm's own engine and compares it object by object with the overlays."""

import json
import re
import shutil
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from k8s.chart import build
from simile.version import __version__
from tests.k8s.definitions import VERSIONS, is_core
from tests.k8s.manifests import K8S, ROOT, environment, of_kind, parsed, pods, the
from tests.k8s.policy import violations
from tests.registries import MISSING, is_missing, registry

helm = pytest.importorskip("helm_python", reason="no helm-python-sdk (250 MB; .ci/run installs it)")

DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
VALUES = yaml.safe_load((K8S / "chart" / "values.yaml").read_text())
DIGEST = "0" * 64
BUCKET = {
    "bucket": {"url": "s3://example/simile", "environment": {"AWS_DEFAULT_REGION": "eu-central-1"}},
    "serve": {"bundle": DIGEST},
}
WATCHED = {"monitoring": {"enabled": True}, "keda": {"enabled": True}}
TOLERATIONS = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
GPU = yaml.safe_load(re.search(r"^## Helm.*?```yaml\n(.*?)```", DEPLOYMENT, re.DOTALL | re.MULTILINE)[1])
AS_OVERLAYS = {
    "production": {},
    "production with monitoring": WATCHED,
    "production-bucket": BUCKET,
    "production-gpu": GPU,
}
"""Compositions of overlays, and the values with which the chart is the same."""


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here, so that nothing renders the overlays")
    folder = tmp_path_factory.mktemp("chart") / "simile"
    build.build(folder)
    return folder


@pytest.fixture
def install(chart):
    """Returns the objects that Helm makes of the values."""

    def install(values=None, namespace="simile"):
        with helm.Chart.load(chart) as loaded:
            files = loaded.render(values or {}, name="any", namespace=namespace)
        return [manifest for text in files.values() for manifest in parsed(text)]

    return install


def comparable(manifests):
    """Return the objects by kind and name, without what differs between Helm and kustomize by its nature.

    These are namespaces, the hashes in the names of ConfigMaps, for which the chart has an annotation, the annotation
    that keeps volumes, and comments in the config of a run.
    """
    configs = [one["metadata"]["name"] for one in of_kind(manifests, "ConfigMap")]
    text = json.dumps(manifests)
    for name in configs:
        text = text.replace(f'"{name}"', json.dumps(re.sub("-[a-z0-9]{10}$", "", name)))
    objects = {}
    for manifest in json.loads(text):
        metadata, template = manifest["metadata"], manifest.get("spec", {}).get("template", {})
        metadata.pop("namespace", None)
        for holder in (metadata, template.get("metadata", {})):
            for annotation in ("helm.sh/resource-policy", "checksum/settings"):
                holder.get("annotations", {}).pop(annotation, None)
            if not holder.get("annotations", True):
                del holder["annotations"]
        if "run.yaml" in manifest.get("data", {}):
            manifest["data"]["run.yaml"] = yaml.safe_load(manifest["data"]["run.yaml"])
        if manifest["kind"] != "Namespace":
            objects[manifest["kind"], metadata["name"]] = manifest
    return objects


@pytest.mark.parametrize("name", AS_OVERLAYS)
def test_chart_is_the_overlay(install, render, name):
    made, expected = comparable(install(AS_OVERLAYS[name])), comparable(render(name))
    assert set(made) == set(expected)
    for key in expected:
        assert made[key] == expected[key], key


@pytest.mark.parametrize("name", AS_OVERLAYS)
def test_chart_violates_no_rule(install, name):
    assert violations(install(AS_OVERLAYS[name])) == []


CHANGES = {
    "images.serve": "example.org/other:1",
    "images.train": "example.org/other@sha256:" + DIGEST,
    "images.pullSecrets": [{"name": "registry"}],
    "serve.bundle": "0123456789ab",
    "serve.apiKeysSecret": "",
    "serve.settings": {"SIMILE_CACHE_BYTES": "268435456"},
    "serve.minReplicas": 3,
    "serve.maxReplicas": 30,
    "serve.resources": {"limits": {"cpu": None}},
    "serve.nodeSelector": {"kubernetes.io/arch": "amd64"},
    "serve.tolerations": TOLERATIONS,
    "serve.priorityClassName": "serving",
    "train.suspend": False,
    "train.schedule": "@weekly",
    "train.run": "documents: /work/others.jsonl\n",
    "train.settings": {"MLFLOW_TRACKING_URI": "http://mlflow.mlflow"},
    "train.resources": {"requests": {"cpu": 4}},
    "train.nodeSelector": {"kubernetes.io/arch": "amd64"},
    "train.tolerations": TOLERATIONS,
    "train.priorityClassName": "batch",
    "volumes.work": {"size": "100Gi", "accessMode": "ReadWriteMany", "storageClass": "fast"},
    "volumes.bundles": {"storageClass": "efs"},
    "bucket.url": "s3://other/place",
    "bucket.secret": "other",
    "bucket.environment": {"AWS_ENDPOINT_URL": "https://minio.minio:9000"},
    "networkPolicy.enabled": False,
    "networkPolicy.callers": [{"ipBlock": {"cidr": "35.191.0.0/16"}}],
    "networkPolicy.bucket": [{"ipBlock": {"cidr": "198.51.100.0/24"}}],
    "monitoring.enabled": False,
    "monitoring.namespace": "observability",
    "monitoring.release": "prometheus",
    "monitoring.runbooks": "https://runbooks.example.org",
    "keda.enabled": False,
    "keda.prometheus": "http://prometheus.observability:9090",
}
"""Another value for each of the chart."""
WITHOUT_BUCKET = ("serve.bundle", "volumes.bundles")


def under(base, path, changed):
    group, _, key = path.partition(".")
    return base | {group: base.get(group, {}) | {key: changed}}


def test_every_value_is_changed():
    assert set(CHANGES) == {f"{group}.{key}" for group, values in VALUES.items() for key in values}


@pytest.mark.parametrize("path", CHANGES)
def test_value_has_an_effect_and_leaves_valid_objects(install, path):
    base = WATCHED if path in WITHOUT_BUCKET else WATCHED | BUCKET
    before = install(base)
    changed = [one for one in install(under(base, path, CHANGES[path])) if one not in before]
    assert changed or path.endswith(".enabled")
    for manifest in changed:
        if is_core(manifest):
            assert kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True) == VERSIONS[-1]


@pytest.mark.parametrize(
    ("path", "wrong", "message"),
    [
        ("images.serve", "simile-serve", "at '/images/serve': 'simile-serve' does not match pattern"),
        ("images.serve", "example.org:5000/simile", "at '/images/serve': 'example.org:5000/simile' does not match"),
        ("images.server", "a:1", "at '/images': additional properties 'server' not allowed"),
        ("server.bundle", "a", "at '': additional properties 'server' not allowed"),
        ("serve.minReplicas", "two", "at '/serve/minReplicas': got string, want integer"),
        ("serve.minReplicas", 0, "at '/serve/minReplicas': minimum: got 0, want 1"),
        (
            "serve.settings",
            {"SIMILE_CACHE_BYTES": 1},
            "at '/serve/settings/SIMILE_CACHE_BYTES': got number, want string",
        ),
        ("serve.settings", {"SIMILE_HOST": "::1"}, "at '/serve/settings/SIMILE_HOST': false schema"),
        ("serve.resources", {"requests": {"cpu": None}}, "at '/serve/resources/requests': missing property 'cpu'"),
        ("train.schedule", "weekly", "at '/train/schedule': 'weekly' does not match pattern"),
        ("volumes.work", {"size": "large"}, "at '/volumes/work/size': 'large' does not match pattern"),
        ("volumes.work", {"accessMode": "RWX"}, "at '/volumes/work/accessMode': value must be one of"),
        ("bucket.url", "s3://example/", "at '/bucket/url': 's3://example/' does not match pattern"),
        ("bucket.url", "s3://example", "at '/serve/bundle': 'current' does not match pattern '^[0-9a-f]{64}$'"),
        ("networkPolicy.callers", [], "at '/networkPolicy/callers': minItems: got 0, want 1"),
        ("keda.enabled", "yes", "at '/keda/enabled': got string, want boolean"),
    ],
)
def test_wrong_value_is_refused_by_its_name(install, path, wrong, message):
    with pytest.raises(helm.HelmValuesError) as raised:
        install(under({}, path, wrong))
    assert any(line.startswith(f"- {message}") for line in str(raised.value).splitlines())


def test_objects_of_another_namespace_know_it(install):
    manifests = install(WATCHED, namespace="team")
    queries = [trigger["metadata"]["query"] for trigger in the(manifests, "ScaledObject")["spec"]["triggers"]]
    assert all('namespace="team"' in query and '"simile"' not in query for query in queries)
    assert not any("namespace" in one["metadata"] for one in manifests)


def test_change_of_settings_causes_a_rollout_and_nothing_else_does(install):
    def checksum(values):
        template = the(install(values), "Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["checksum/settings"]

    assert re.fullmatch("[0-9a-f]{64}", checksum({}))
    assert checksum({"serve": {"maxReplicas": 3}}) == checksum({})
    assert checksum({"serve": {"settings": {"SIMILE_PRIOR": "0.1"}}}) != checksum({})


def test_volumes_outlive_the_release(install):
    for claim in of_kind(install(), "PersistentVolumeClaim"):
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_service_without_a_secret_of_keys_answers_everybody(install):
    manifests = install({"serve": {"apiKeysSecret": ""}})
    (pod,) = [pod for pod in pods(manifests) if pod.name == "Deployment/simile-serve"]
    assert "keys" not in {volume["name"] for volume in pod.spec["volumes"]}
    assert "SIMILE_API_KEYS_FILE" not in environment(pod.spec["containers"][0], manifests)


@pytest.mark.parametrize("name", ["production with monitoring", "production-bucket"])
def test_settings_of_the_chart_itself_are_reserved(chart, render, name):
    schema = json.loads((chart / "values.schema.json").read_text())
    reserved = set(schema["definitions"]["settings"]["properties"])
    configs = [
        one
        for one in of_kind(render(name), "ConfigMap")
        if re.fullmatch(r"simile-(serve|train)-\w{10}", one["metadata"]["name"])
    ]
    assert {key for one in configs for key in one.get("data", {})} - {"AWS_DEFAULT_REGION"} <= reserved


def test_helm_finds_no_fault(chart):
    report = helm.lint(chart, strict=True)
    assert report["errors"] == []
    assert [one["error"] for one in report["messages"]] == ["icon is recommended"]


def test_chart_has_the_version_of_simile():
    described = yaml.safe_load((K8S / "chart" / "Chart.yaml").read_text())
    assert (described["version"], described["appVersion"]) == (__version__, __version__)
    commands = re.search(r"^## Helm.*?^\| values", DEPLOYMENT, re.DOTALL | re.MULTILINE)[0]
    assert set(re.findall(r"simile-([\d.]+)\.tgz|--version (\S+)", commands)) == {(__version__, ""), ("", __version__)}


def test_build_replaces_a_former_chart_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "templates", lambda: {"new.yaml": "new: true\n"})
    out = tmp_path / "simile"
    (out / "templates").mkdir(parents=True)
    (out / "templates" / "old.yaml").write_text("old: true\n")
    build.build(out)
    assert [file.name for file in (out / "templates").iterdir()] == ["new.yaml"]
    assert [file.name for file in tmp_path.iterdir()] == ["simile"]


def test_missing_kubectl_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"^chart: .*'kubectl'.*; need kubectl, which renders the overlays$"):
        build.main()
    assert not list(Path("dist").iterdir())


@pytest.mark.skipif(is_missing(), reason=MISSING)
def test_chart_goes_through_a_registry(chart, tmp_path):
    archive = helm.package(chart, destination=tmp_path)
    assert Path(archive).name == f"simile-{__version__}.tgz"
    (tmp_path / "pulled").mkdir()
    with registry(tmp_path / "registry") as running:
        helm.push(archive, f"oci://{running.host}/charts", plain_http=True)
        helm.pull(
            f"oci://{running.host}/charts/simile", version=__version__, destination=tmp_path / "pulled", plain_http=True
        )
    with helm.Chart.load(next((tmp_path / "pulled").glob("*.tgz"))) as pulled, helm.Chart.load(chart) as built:
        assert pulled.templates == built.templates
