"""Checks the way from the alert to the training and to the notice, piece by piece."""

import json
import re
import subprocess
from copy import deepcopy

import kubernetes_validate
import pytest
import yaml

from pipeline.run_config import read_run_config
from tests.command_lines import read_options
from tests.k8s.fake_api import fake_cluster
from tests.k8s.manifests import K8S, ROOT, TIMEOUT_S, arguments, kustomize, of_kind, pods, the
from tests.k8s.policy import violations
from tests.k8s.test_schemas import VERSIONS

RULES = yaml.safe_load((ROOT / "k8s/components/monitoring/rules.yaml").read_text())["spec"]
ALERTS = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
LABELS = {"alertname": "SimileTrafficDrifts", "namespace": "simile", "severity": "warning"}
CRON_JOB = "apis/batch/v1/namespaces/simile/cronjobs/simile-train"


@pytest.fixture(scope="module")
def drift():
    return kustomize(K8S / "overlays" / "retrain-on-drift")


@pytest.fixture(scope="module")
def starter(drift):
    """The Job that the Sensor creates."""
    (trigger,) = the(drift, "Sensor")["spec"]["triggers"]
    return trigger["template"]["k8s"]["source"]["resource"]


def test_alertmanager_calls_the_event_source_with_its_token(drift):
    source, config = the(drift, "EventSource"), the(drift, "AlertmanagerConfig")
    ((event, webhook),) = source["spec"]["webhook"].items()
    ((called,),) = [receiver["webhookConfigs"] for receiver in config["spec"]["receivers"]]
    name, namespace = source["metadata"]["name"], source["metadata"]["namespace"]
    # Argo Events gives the Service this name.
    service = f"{name}-eventsource-svc.{namespace}.svc"
    assert called["url"] == f"http://{service}:{webhook['port']}{webhook['endpoint']}"
    assert called["httpConfig"]["authorization"]["credentials"] == webhook["authSecret"]
    assert [port["port"] for port in source["spec"]["service"]["ports"]] == [int(webhook["port"])]
    (dependency,) = the(drift, "Sensor")["spec"]["dependencies"]
    assert (dependency["eventSourceName"], dependency["eventName"]) == (name, event)
    policy = the(drift, "NetworkPolicy")
    assert (
        policy["spec"]["podSelector"]["matchLabels"].items() <= source["spec"]["template"]["metadata"]["labels"].items()
    )
    assert policy["metadata"]["namespace"] == namespace
    assert [port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]] == [int(webhook["port"])]


def test_alert_is_one_of_ours_and_is_grouped_by_what_the_sensor_looks_at(drift):
    route = the(drift, "AlertmanagerConfig")["spec"]["route"]
    (matcher,) = route["matchers"]
    assert matcher["value"] in ALERTS
    (dependency,) = the(drift, "Sensor")["spec"]["dependencies"]
    looked_at = {one["path"].rpartition(".")[2] for one in dependency["filters"]["data"]} - {"status"}
    assert looked_at == set(route["groupBy"])


def passes(drift, body):
    """Return whether the Sensor's filters let the body through, by the rules of Argo Events' documentation."""
    (dependency,) = the(drift, "Sensor")["spec"]["dependencies"]
    for one in dependency["filters"]["data"]:
        value = {"body": body}
        for part in one["path"].split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None or not any(re.search(pattern, value) for pattern in one["value"]):
            return False
    return True


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "firing", "commonLabels": LABELS}, True),
        ({"status": "firing", "commonLabels": LABELS | {"instance": "10.0.0.7:9090", "of": "scores"}}, True),
        ({"status": "resolved", "commonLabels": LABELS}, False),
        ({"status": "firing", "commonLabels": LABELS | {"alertname": "SimileDown"}}, False),
        ({"status": "firing", "commonLabels": LABELS | {"namespace": "simile-dev"}}, False),
        ({"status": "firing", "commonLabels": {}}, False),
        ({}, False),
    ],
)
def test_sensor_acts_on_the_drift_of_this_service_alone(drift, body, expected):
    # The shape of Alertmanager's webhook, version 4: a group's status, and the labels that all its alerts have.
    assert passes(drift, body) is expected


def test_training_is_started_as_the_cluster_has_its_template(render, drift, starter, tmp_path):
    """Runs the Job's command with the kubectl of this machine, against an API server of our own."""
    (container,) = starter["spec"]["template"]["spec"]["containers"]
    line = [word.replace("$(RUN)", "simile-train-drift-x7k2p") for word in container["args"]]
    template = the(render("production with retraining"), "CronJob", "simile-train")
    with fake_cluster() as cluster:
        cluster.objects[CRON_JOB] = template | {"metadata": template["metadata"] | {"uid": "0"}}
        there = ["--server", cluster.url, "--cache-dir", str(tmp_path), "--kubeconfig", "/dev/null"]
        # kubectl would send it in a format that our server cannot read.
        argv = ["kubectl", *there, *line, "--dry-run=client", "--output=json"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    job = json.loads(done.stdout)
    assert job["metadata"]["name"] == "simile-train-drift-x7k2p"
    made = job["spec"]["template"]["spec"]
    assert made["initContainers"][0]["args"] == [
        *("run", "/etc/simile/run.yaml", "--set", "out=/work/runs/$(RUN)", "--set", "target=/work/target.jsonl")
    ]
    assert job["spec"]["podFailurePolicy"] == template["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]
    assert [path for path in cluster.requests if path.startswith("api")] == [CRON_JOB]
    # The role allows this request, the one that sends the Job, and nothing else.
    rules = the(drift, "Role", "simile-retrain")["rules"]
    assert [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in rules] == [
        (["cronjobs"], ["simile-train"], ["get"]),
        (["jobs"], None, ["create"]),
    ]


def test_accounts_have_no_other_rights(drift, starter):
    bound = {
        (one["metadata"]["namespace"], one["roleRef"]["name"], *(who["name"] for who in one["subjects"]))
        for one in of_kind(drift, "RoleBinding")
    }
    assert bound == {
        ("argo-events", "simile-retrain-sensor", "simile-retrain-sensor"),
        ("simile", "simile-retrain", "simile-retrain"),
    }
    assert the(drift, "Sensor")["spec"]["template"]["serviceAccountName"] == "simile-retrain-sensor"
    assert starter["spec"]["template"]["spec"]["serviceAccountName"] == "simile-retrain"
    assert the(drift, "Role", "simile-retrain-sensor")["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"]}
    ]


def test_second_alert_within_a_week_starts_nothing(starter):
    assert "generateName" not in starter["metadata"]
    assert starter["spec"]["ttlSecondsAfterFinished"] == 7 * 24 * 3600
    assert starter["spec"]["backoffLimit"] == 0
    # The alerts on failed and stalled trainings know it by this.
    assert starter["metadata"]["name"].startswith("simile-train")


def test_pod_that_starts_the_training_keeps_all_rules_but_one(starter):
    assert violations([starter]) == [
        "Job/simile-train-drift: mounts a service account's token",
        # Nothing denies all traffic of argo-events, where it runs, because that namespace is not ours.
        "Job/simile-train-drift: no NetworkPolicy for its ingress",
        "Job/simile-train-drift: no NetworkPolicy for its egress",
    ]


@pytest.mark.parametrize("name", ["production with retraining", "production-bucket with retraining"])
def test_training_mines_for_the_target_and_announces_its_bundle(render, name, tmp_path):
    manifests = render(name)
    (pod,) = [pod for pod in pods(manifests) if pod.name == "CronJob/simile-train"]
    train, publish = pod.containers
    (config,) = [one["data"] for one in of_kind(manifests, "ConfigMap") if "run.yaml" in one.get("data", {})]
    (tmp_path / "run.yaml").write_text(config["run.yaml"])
    options = read_options([word.replace("/etc/simile", str(tmp_path)) for word in arguments(train, manifests)])
    assert str(read_run_config(options.source, options.set, options).target) == "/work/target.jsonl"
    wanted = {
        one["name"]: one["valueFrom"]["secretKeyRef"]
        for one in publish["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    }
    assert wanted == {
        "SIMILE_WEBHOOK_URL": {"name": "simile-webhook", "key": "url"},
        "SIMILE_WEBHOOK_TOKEN": {"name": "simile-webhook", "key": "token", "optional": True},
    }
    assert "RUN" in {one["name"] for one in publish["env"]}
    others = [one for pod in pods(manifests) for one in pod.containers if one["name"] != "publish"]
    assert "simile-webhook" not in str(others)


def test_argo_events_knows_every_field(drift, starter):
    models = pytest.importorskip(
        "hera.events.models", reason="hera, which has the models of Argo Events, is not installed"
    )

    def known(model, value):
        """Return the value without the fields that the model does not know."""
        return model.model_validate(value).model_dump(mode="json", by_alias=True, exclude_none=True)

    source, sensor = (deepcopy(the(drift, kind)["spec"]) for kind in ("EventSource", "Sensor"))
    # The models of these two parts are empty.
    assert sensor["triggers"][0]["template"]["k8s"]["source"].pop("resource") == starter
    webhooks = source.pop("webhook")
    assert known(models.SensorSpec, sensor) == sensor
    assert known(models.EventSourceSpec, source) == source
    for webhook in webhooks.values():
        assert known(models.WebhookContext, webhook) == webhook


@pytest.mark.parametrize("version", VERSIONS)
def test_job_that_starts_the_training_is_valid_strictly(starter, version):
    assert kubernetes_validate.validate(starter, version, strict=True) == version
