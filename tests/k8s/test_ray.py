"""The RayJobs: what their entrypoints run, and who reaches the pods of their clusters."""

import re
import shlex
import subprocess

import pytest

from pipeline.bulk import is_bulk, share
from pipeline.output import GATE_FAILED
from pipeline.run_config import read_run_config
from tests.command_lines import read_options
from tests.k8s.manifests import K8S, ROOT, arguments, environment, of_kind, pods, the
from tests.k8s.policy import holds

COMPOSED = (
    "dev with everything",
    "production with ray and monitoring",
    "production-bucket with ray",
    "production-gpu with ray",
)


@pytest.fixture(params=COMPOSED)
def manifests(request, render):
    return render(request.param)


def ray_pods(manifests, name):
    """Return the pods of a RayJob: the submitter, the head, and the workers."""
    submitter, head, *workers = [pod for pod in pods(manifests) if pod.name.startswith(f"RayJob/{name} ")]
    return submitter, head, workers


def entrypoint(manifests, name):
    """Return the words of the entrypoint; the shells of submitter and head see the same variables."""
    command = the(manifests, "RayJob", name)["spec"]["entrypoint"]
    submitter, head, _ = ray_pods(manifests, name)
    environs = [environment(pod.spec["containers"][0], manifests) for pod in (submitter, head)]
    expanded = [
        subprocess.run(["bash", "-cu", f"echo {command}"], env=environ, capture_output=True, text=True, check=True)
        for environ in environs
    ]
    assert expanded[0].stdout == expanded[1].stdout
    return shlex.split(expanded[0].stdout)


def test_scoring_is_the_command_of_a_job_by_rays_engine(manifests):
    simile, *words = entrypoint(manifests, "simile-score")
    assert simile == "simile"
    options = read_options(words)
    assert (options.engine, is_bulk(options.pairs, options.out)) == ("ray", True)
    (job,) = [pod for pod in pods(manifests) if pod.name == "CronJob/simile-score"]
    (container,) = job.spec["containers"]
    by_job = read_options(arguments(container, manifests, RUN="first"))
    assert options.model_copy(update={"engine": "local", "num_gpus": 0}) == by_job
    # The head has no share of its own: the command deals out all shards.
    _, head, _ = ray_pods(manifests, "simile-score")
    assert share(options.shard, environment(head.spec["containers"][0], manifests)) == (1, 1)


@pytest.fixture
def train(render, tmp_path):
    """Runs the entrypoint of the training with programs that only note their arguments; returns exit code and notes."""
    manifests = render("production with ray and monitoring")
    assert entrypoint(manifests, "simile-train") == ["sh", "/etc/simile/train.sh"]
    (files,) = [one["data"] for one in of_kind(manifests, "ConfigMap") if "train.sh" in one.get("data", {})]
    note = f'echo "$(basename "$0")" "$@" >> {tmp_path}/notes'
    (tmp_path / "simile").write_text(f"#!/bin/sh\n{note}\nexit $CODE\n")
    (tmp_path / "simile").chmod(0o755)
    (tmp_path / "publish.sh").write_text(f"{note}\n")
    (tmp_path / "train.sh").write_text(files["train.sh"].replace("/etc/simile/publish.sh", f"{tmp_path}/publish.sh"))
    _, head, _ = ray_pods(manifests, "simile-train")

    def run(code=0, **more):
        environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CODE": str(code)}
        environ |= environment(head.spec["containers"][0], manifests) | more
        done = subprocess.run(["sh", tmp_path / "train.sh"], env=environ, check=False)
        return done.returncode, [shlex.split(line) for line in (tmp_path / "notes").read_text().splitlines()]

    return run


def test_training_publishes_what_passes_the_gate(train):
    code, (run, publish) = train()
    assert code == 0
    assert run[-4:] == ["--engine", "ray", "--num-gpus", "0"]
    options = read_options([word.replace("/etc/simile", str(K8S / "base" / "train")) for word in run[1:-4]])
    assert str(read_run_config(options.source, options.set, options).out) == "/work/runs/first"
    assert publish == ["publish.sh", "/work/runs/first/bundle", "/bundles"]


def test_training_pushes_to_the_bucket_where_there_is_one(train):
    _, (run, push) = train(BUCKET="s3://example/simile", GPUS="1")
    assert run[-1] == "1"
    assert read_options(push[1:])
    assert push == ["simile", "push", "/work/runs/first/bundle", "s3://example/simile"]


def test_training_whose_gate_fails_publishes_nothing(train):
    code, notes = train(code=GATE_FAILED)
    assert (code, len(notes)) == (GATE_FAILED, 1)


def test_nothing_starts_until_somebody_says_so(manifests):
    for job in of_kind(manifests, "RayJob"):
        assert job["spec"]["suspend"] is True
        assert job["spec"]["shutdownAfterJobFinishes"] is True


def test_ray_is_of_the_version_that_the_image_installs(manifests):
    (version,) = re.findall("^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    for job in of_kind(manifests, "RayJob"):
        assert job["spec"]["rayClusterSpec"]["rayVersion"] == version


def test_workers_are_there_when_the_command_counts_them(manifests):
    for job in of_kind(manifests, "RayJob"):
        cluster = job["spec"]["rayClusterSpec"]
        assert "enableInTreeAutoscaling" not in cluster
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in cluster["workerGroupSpecs"]:
            assert group["replicas"] == group["minReplicas"] == group["maxReplicas"]


def test_pods_of_a_cluster_reach_each_other_and_only_the_operator_reaches_them(manifests):
    for job in of_kind(manifests, "RayJob"):
        name = job["metadata"]["name"]
        policy = the(manifests, "NetworkPolicy", name.replace("simile-", "simile-ray-"))
        submitter, head, workers = ray_pods(manifests, name)
        for pod in (submitter, head, *workers):
            assert holds(policy, pod, "Ingress")
            assert holds(policy, pod, "Egress")
        of_cluster, of_operator = policy["spec"]["ingress"]
        assert of_cluster["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
        assert of_cluster["ports"] == [{"port": 1024, "endPort": 65535}]
        assert [list(peer) for peer in of_operator["from"]] == [["namespaceSelector"]]
        assert of_operator["ports"] == [{"port": 8265}]
        assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
        others = [pod for pod in pods(manifests) if pod not in (submitter, head, *workers)]
        assert not any(holds(policy, pod, "Ingress") for pod in others)


def test_probes_ask_what_ray_answers_without_a_token_and_call_no_program(manifests):
    for job in of_kind(manifests, "RayJob"):
        _, head, workers = ray_pods(manifests, job["metadata"]["name"])
        for pod in (head, *workers):
            (container,) = pod.spec["containers"]
            asked = {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
            assert asked <= {"/api/local_raylet_healthz", "/api/gcs_healthz"}


def test_with_a_bucket_head_and_workers_pull_the_bundle_and_have_the_keys(render):
    manifests = render("production-bucket with ray")
    submitter, head, workers = ray_pods(manifests, "simile-score")
    keys = {"secretRef": {"name": "simile-bucket", "optional": True}}
    for pod in (head, *workers):
        pull, ray = pod.containers
        assert arguments(pull, manifests)[2] == entrypoint(manifests, "simile-score")[2]
        assert pull["image"] == ray["image"]
        assert keys in pull["envFrom"]
        assert keys in ray["envFrom"]
        assert not [one for one in pod.spec["volumes"] if "persistentVolumeClaim" in one]
        assert holds(the(manifests, "NetworkPolicy", "simile-bucket"), pod, "Egress")
    assert keys not in submitter.spec["containers"][0]["envFrom"]


def test_with_a_bucket_the_head_of_a_training_has_the_keys_and_mounts_no_bundles(render):
    manifests = render("production-bucket with ray")
    _, head, workers = ray_pods(manifests, "simile-train")
    (container,) = head.containers
    assert {"secretRef": {"name": "simile-bucket", "optional": True}} in container["envFrom"]
    assert environment(container, manifests)["BUCKET"] == "s3://example/simile"
    for pod in (head, *workers):
        assert {one["name"] for one in pod.spec["volumes"]} == {"work", "config", "tmp"}


@pytest.mark.parametrize("name", ["simile-score", "simile-train"])
def test_gpus_are_those_of_the_workers(render, name):
    _, head, workers = ray_pods(render("production-gpu with ray"), name)
    assert "nvidia.com/gpu" not in head.spec["containers"][0]["resources"]["limits"]
    for pod in workers:
        assert pod.spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert pod.spec["tolerations"]


def test_commands_ask_for_the_gpus_of_their_workers(render):
    manifests = render("production-gpu with ray")
    assert read_options(entrypoint(manifests, "simile-score")[1:]).num_gpus == 1
    _, head, _ = ray_pods(manifests, "simile-train")
    assert environment(head.spec["containers"][0], manifests)["GPUS"] == "1"
