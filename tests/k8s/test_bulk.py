"""Bulk scoring on Kubernetes: runs the pods of an Indexed Job with their own arguments, on a tiny encoder."""

import re
import shutil

import pytest

from pipeline.bulk import INDEX, SHARDS
from pipeline.cli import main
from tests.k8s.conftest import compose
from tests.k8s.manifests import JOB_NAME, K8S, arguments, environment, kustomize, of_kind, pods, the
from tests.k8s.policy import holds
from tests.pipeline.bulk_inputs import parts, read, rows, write_parquet

ROWS = 400
SMALL = ("--shard-rows=8", "--device=cpu")


def scoring(manifests):
    """Return the pod that scores."""
    (pod,) = [pod for pod in pods(manifests) if pod.name == "CronJob/simile-score"]
    return pod


@pytest.fixture
def run_pod(render, bundle, tmp_path, monkeypatch):
    """Runs the pod of an index with local folders for its volumes; returns the exit code."""
    manifests = render("production with bulk")
    (container,) = scoring(manifests).containers
    shutil.copytree(bundle.path, tmp_path / "bundles" / "current")
    (tmp_path / "bulk" / "pairs").mkdir(parents=True)
    write_parquet(tmp_path / "bulk" / "pairs" / "a.parquet", rows(ROWS))
    monkeypatch.setenv(SHARDS, environment(container, manifests)[SHARDS])

    def run(index):
        monkeypatch.setenv(INDEX, str(index))
        words = arguments(container, manifests)
        for folder in ("bundles", "bulk"):
            words = [word.replace(f"/{folder}/", f"{tmp_path}/{folder}/") for word in words]
        return main([*words, *SMALL])

    run.out = tmp_path / "bulk" / "scored" / JOB_NAME
    return run


def test_pods_of_a_job_score_each_pair_once(run_pod, render):
    num_pods = scoring(render("production with bulk")).job["completions"]
    assert [run_pod(index) for index in reversed(range(num_pods))] == [0] * num_pods
    assert [row["id"] for row in read(run_pod.out)] == list(range(ROWS))
    assert "_SUCCESS" in parts(run_pod.out)
    times = {path.name: path.stat().st_mtime_ns for path in run_pod.out.glob("*.parquet")}
    # A pod that is started again finds its parts whole.
    assert run_pod(0) == 0
    assert {path.name: path.stat().st_mtime_ns for path in run_pod.out.glob("*.parquet")} == times


def test_shares_and_completions_are_one_number(tmp_path):
    shutil.copytree(K8S, tmp_path / "k8s")
    file = tmp_path / "k8s" / "components" / "bulk" / "cronjob.yaml"
    file.write_text(file.read_text().replace("completions: 40", "completions: 1000"))
    manifests = kustomize(compose(tmp_path / "k8s", "production", "bulk"))
    pod = scoring(manifests)
    assert environment(pod.containers[0], manifests)[SHARDS] == "1000"
    assert pod.job["completions"] == 1000


def test_several_shares_wait_for_each_pod_and_one_that_fails_leaves_the_others_alone(render):
    for name in ("production with bulk", "production-bucket with ray", "production-gpu with ray"):
        job = scoring(render(name)).job
        assert job["completions"] >= 5 * job["parallelism"]
        # The API server refuses more failed indexes than there are.
        assert 0 < job["maxFailedIndexes"] <= job["completions"]
        assert "backoffLimit" not in job


def test_bulk_work_sees_pairs_and_bundles_but_no_documents(render):
    pod = scoring(render("production with bulk"))
    claims = {one["persistentVolumeClaim"]["claimName"] for one in pod.spec["volumes"] if "emptyDir" not in one}
    assert claims == {"simile-bulk", "simile-bundles"}
    (mount,) = [one for one in pod.containers[0]["volumeMounts"] if one["name"] == "bundles"]
    assert mount["readOnly"] is True


def test_pairs_are_copied_to_where_they_are_read(render):
    manifests = render("production with bulk")
    (files,) = the(manifests, "CronJob", "simile-files")["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ]
    mounts = {one["mountPath"]: one["name"] for one in files["volumeMounts"]}
    (score,) = scoring(manifests).containers
    assert mounts["/bulk"] == "bulk"
    variables = environment(score, manifests)
    assert all(variables[name].startswith("/bulk/") for name in ("PAIRS", "SCORED"))


def test_with_a_bucket_each_pod_pulls_its_bundle_and_mounts_no_claim(render):
    manifests = render("production-bucket with ray")
    pod = scoring(manifests)
    pull, score = (arguments(container, manifests) for container in pod.containers)
    address, _, digest = pull[1].rpartition("/")
    assert (pull[0], address, pull[2]) == ("pull", "s3://example/simile", score[1])
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert score[2:4] == ["--pairs=s3://example/pairs", f"--out=s3://example/scored/{JOB_NAME}/"]
    assert not [one for one in pod.spec["volumes"] if "persistentVolumeClaim" in one]
    assert pod.containers[0]["image"] == pod.containers[1]["image"]
    for container in pod.containers:
        assert {"secretRef": {"name": "simile-bucket", "optional": True}} in container["envFrom"]
    assert not of_kind(manifests, "PersistentVolumeClaim", "simile-bulk")
    (files,) = [pod for pod in pods(manifests) if pod.name == "CronJob/simile-files"]
    assert {one["name"] for one in files.spec["volumes"]} == {"work", "tmp"}
    assert holds(the(manifests, "NetworkPolicy", "simile-bucket"), pod, "Egress")


def test_gpu_is_one_that_the_command_insists_on(render):
    manifests = render("production-gpu with ray")
    (container,) = scoring(manifests).containers
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "--device=cuda" in arguments(container, manifests)


def test_bulk_work_tells_the_gateway(render):
    manifests = render("production with ray and monitoring")
    pod = scoring(manifests)
    assert environment(pod.containers[0], manifests)["PROMETHEUS_PUSHGATEWAY_URL"] == "http://simile-pushgateway:9091"
    assert holds(the(manifests, "NetworkPolicy", "simile-train-tells"), pod, "Egress")
    (rule,) = the(manifests, "NetworkPolicy", "simile-pushgateway")["spec"]["ingress"]
    (peer,) = rule["from"]
    (expression,) = peer["podSelector"]["matchExpressions"]
    assert pod.labels[expression["key"]] in expression["values"]
