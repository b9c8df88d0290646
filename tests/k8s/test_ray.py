"""The RayJobs: their entrypoints as a shell expands them, and who reaches the pods of their clusters."""

import re
import shlex
import subprocess

import pytest

from pipeline.bulk import is_bulk, share
from tests.command_lines import read_options
from tests.k8s.manifests import ROOT, arguments, environment, of_kind, pods, the
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


def test_gpus_are_those_of_the_workers(render):
    _, head, workers = ray_pods(render("production-gpu with ray"), "simile-score")
    assert "nvidia.com/gpu" not in head.spec["containers"][0]["resources"]["limits"]
    for pod in workers:
        assert pod.spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert pod.spec["tolerations"]
    assert read_options(entrypoint(render("production-gpu with ray"), "simile-score")[1:]).num_gpus == 1
