"""The commands of docs/deployment.md do what it says, as far as that can be seen without a cluster."""

import os
import re
import shlex
import shutil
import subprocess

import pytest
import yaml

from pipeline.bulk import SHARDS
from serving.settings import ENVIRONMENT_ONLY, ENVIRONMENT_PREFIX, Settings
from tests.command_lines import read_options
from tests.k8s.conftest import compose
from tests.k8s.fake_api import fake_cluster
from tests.k8s.manifests import K8S, ROOT, TIMEOUT_S, kustomize, of_kind, parsed, pods, rendered, the

TEXT = (ROOT / "docs" / "deployment.md").read_text()
COMMANDS = [
    line
    # What begins a block follows an empty line, what ends one does not.
    for block in re.findall(r"\n\n```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", "").splitlines()
]
RENDERED = [command for command in COMMANDS if command.startswith("kubectl kustomize ")]
APPLIED = list(dict.fromkeys(one for one in COMMANDS if one.startswith("kubectl apply ") and " -l " in one))
DRIFT = "k8s/overlays/retrain-on-drift"
BUILT = [command for command in COMMANDS if command.startswith("docker build ")]
KINDS = {
    "cronjob": "CronJob",
    "deployment": "Deployment",
    "jobset": "JobSet",
    "rayjob": "RayJob",
    "service": "Service",
    "trainjob": "TrainJob",
}


def test_commands_of_every_sort_are_found():
    assert (len(RENDERED), len(BUILT)) == (6, 9)
    assert len(APPLIED) == 6


@pytest.mark.parametrize("command", RENDERED)
def test_command_without_a_cluster_runs(command):
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here, so that nothing renders the manifests")
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert of_kind(list(yaml.safe_load_all(done.stdout)), "CronJob")


@pytest.mark.parametrize("command", APPLIED)
def test_command_applies_its_part_and_nothing_else(command, tmp_path):
    """Against an API server of our own, which has nothing yet: kubectl itself chooses what to create."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    parts = re.findall(r"component(?:=| in \()([\w,]+)", command)[0].split(",")
    copy = tmp_path / "k8s"
    shutil.copytree(K8S, copy)
    compose(copy, "production", "monitoring", "bulk")
    kubectl, *words = shlex.split(command)
    with fake_cluster() as cluster:
        there = ["--server", cluster.url, "--cache-dir", str(tmp_path / "cache"), "--kubeconfig", "/dev/null"]
        argv = [kubectl, *there, *words, "--validate=false"]
        done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    made = {f"{one['kind']}/{re.sub('-[a-z0-9]{10}$', '', one['metadata']['name'])}" for one in cluster.created}
    objects = {
        "store": {
            "Namespace/simile",
            "NetworkPolicy/simile-nothing",
            "PersistentVolumeClaim/simile-bulk",
            "PersistentVolumeClaim/simile-bundles",
            "PersistentVolumeClaim/simile-work",
        },
        "files": {"CronJob/simile-files"},
        "monitoring": {
            "ConfigMap/simile-dashboard",
            "ConfigMap/simile-pushgateway",
            "Deployment/simile-pushgateway",
            "NetworkPolicy/simile-metrics",
            "NetworkPolicy/simile-pushgateway",
            "NetworkPolicy/simile-train-tells",
            "PrometheusRule/simile",
            "Role/prometheus-k8s",
            "RoleBinding/prometheus-k8s",
            "Service/simile-pushgateway",
            "ServiceMonitor/simile-pushgateway",
            "ServiceMonitor/simile-serve",
        },
        "bulk": {"ConfigMap/simile-score", "CronJob/simile-score", "ServiceAccount/simile-bulk"},
        "train": {
            "ConfigMap/simile-train",
            "ConfigMap/simile-train-files",
            "CronJob/simile-train",
            "ServiceAccount/simile-train",
        },
        "serve": {
            "ConfigMap/simile-serve",
            "Deployment/simile-serve",
            "NetworkPolicy/simile-serve",
            "PodDisruptionBudget/simile-serve",
            "HorizontalPodAutoscaler/simile-serve",
            "Service/simile",
            "ServiceAccount/simile-serve",
        },
    }
    assert made == set().union(*(objects[part] for part in parts))


def test_everything_that_commands_name_is_in_the_manifests(render):
    names = (" with retraining", " with bulk", " with members", " with ray and monitoring", " with trainjob", "-bucket")
    overlays = [f"production{name}" for name in names]
    drift = kustomize(ROOT / DRIFT)
    assert f"kubectl apply -k {DRIFT}" in COMMANDS
    manifests = [one for name in overlays for one in render(name)]
    there = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    text = "\n".join(COMMANDS)
    named = {(KINDS[kind], name) for kind, name in re.findall(rf"\b({'|'.join(KINDS)})/([a-z][\w-]*)", text)}
    assert {kind for kind, _ in named} == set(KINDS.values())
    assert named <= there
    created = set(re.findall(r"create job --from=cronjob/[\w-]+ ([\w-]+)", text))
    (trigger,) = the(drift, "Sensor")["spec"]["triggers"]
    created.add(trigger["template"]["k8s"]["source"]["resource"]["metadata"]["name"])
    # KubeRay creates one that is named like the RayJob.
    assert set(re.findall(r"\bjob/([a-z][\w-]*)", text)) == created - {"simile-train-2"} | {"simile-score"}
    spaces = set(re.findall(r" -n (\S+)", text))
    assert spaces == {one["metadata"]["name"] for one in of_kind(manifests, "Namespace")} | {"argo-events"}
    assert {one["metadata"]["namespace"] for one in drift} == spaces
    containers = {container["name"] for pod in pods(manifests) for container in pod.containers}
    assert set(re.findall(r"--container (\w+)", text)) <= containers
    secrets = {
        volume["secret"]["secretName"]
        for pod in pods(manifests)
        for volume in pod.spec.get("volumes", ())
        if "secret" in volume
    }
    secrets |= {
        source["secretRef"]["name"]
        for pod in pods(manifests)
        for container in pod.containers
        for source in container.get("envFrom", ())
        if "secretRef" in source
    }
    secrets |= {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for pod in pods(manifests)
        for container in pod.containers
        for entry in container.get("env", ())
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    secrets |= {webhook["authSecret"]["name"] for webhook in the(drift, "EventSource")["spec"]["webhook"].values()}
    assert set(re.findall(r"secret(?: generic)? (\S+)", text)) == secrets


def test_pull_request_of_the_page_sets_the_published_bundle(tmp_path):
    (workflow,) = [text for text in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL) if "repository_dispatch" in text]
    (job,) = yaml.safe_load(workflow)["jobs"].values()
    script = "".join(
        line + "\n" for line in job["steps"][1]["run"].splitlines() if line.startswith(("bundle=", "sed "))
    )
    assert script.count("\n") == 2
    shutil.copytree(K8S, tmp_path / "k8s")
    digest = "5" * 64
    environ = {"PATH": os.environ["PATH"], "ADDRESS": f"s3://example/simile/{digest}"}
    subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environ, check=True)
    manifests = parsed(rendered(tmp_path / "k8s/overlays/production-bucket"))
    served = [one["data"]["BUNDLE"] for one in of_kind(manifests, "ConfigMap") if "BUNDLE" in one.get("data", {})]
    assert served == [digest]


def test_simile_commands_are_ones_that_it_takes():
    commands = [command.rpartition(" -- ")[2] for command in COMMANDS if " -- simile " in command]
    assert commands
    for command in commands:
        words = shlex.split(command)[1:]
        read_options(words)


def test_images_that_are_built_are_those_that_the_overlays_run(render):
    tags = set()
    for command in BUILT:
        words = shlex.split(command)
        dockerfile = (ROOT / words[words.index("--file") + 1]).read_text()
        for i in [i for i, word in enumerate(words) if word == "--build-arg"]:
            assert f"ARG {words[i + 1].partition('=')[0]}=" in dockerfile
        tags.add(words[words.index("--tag") + 1])
    run = {
        container["image"]
        for name in ("dev", "production", "production-bucket", "production-gpu")
        for pod in pods(render(name))
        for container in pod.containers
        if "/simile-" in container["image"]
    }
    assert tags == run


def test_table_of_settings_is_that_of_the_code():
    settings = (ROOT / "docs" / "settings.md").read_text()
    rows = dict(
        re.findall(r"^\| `(SIMILE_[A-Z_]+)` (\|.*\|)$", settings.partition("<!-- generated: begin -->")[2], re.M)
    )
    assert list(rows) == [ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields]
    for (name, setting), row in zip(Settings.model_fields.items(), rows.values(), strict=True):
        default = "" if setting.default in (None, (), False) else f"`{setting.default}`"
        assert f"| {default} |".replace("  ", " ") in row.replace("  ", " ")
        assert setting.description.replace("``", "`") in row
        assert ("no option of the command line" in row.lower()) == (name in ENVIRONMENT_ONLY)


def test_settings_that_the_text_names_are_there():
    elsewhere = {"SIMILE_API_KEY", "SIMILE_THREADS", "SIMILE_WEBHOOK_URL", SHARDS}
    names = set(re.findall(r"`(SIMILE_[A-Z_]+)", TEXT)) - elsewhere
    assert names
    assert names <= {ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"
