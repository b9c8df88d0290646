"""Validates every rendered manifest against its schema; unknown fields are refused."""

import json
from collections.abc import Iterator
from copy import deepcopy

import kubernetes_validate
import pytest
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet
from kubeflow_trainer_api.models.trainer_v1alpha1_training_runtime import TrainerV1alpha1TrainingRuntime
from pydantic import ValidationError

from tests.k8s.definitions import VERSIONS, crd_validator, is_core
from tests.k8s.manifests import of_kind, pods, replicated_jobs, the

OURS = (
    "AnalysisTemplate",
    "HTTPRoute",
    "PrometheusRule",
    "RayJob",
    "Rollout",
    "ScaledObject",
    "ServiceMonitor",
    "TrainJob",
)
"""Kinds of custom resources that are validated against their definitions."""


MODELS = {"JobSet": JobsetV1alpha2JobSet, "TrainingRuntime": TrainerV1alpha1TrainingRuntime}
"""Kubeflow's models of kinds whose definitions are not at hand."""


def as_core(manifest) -> Iterator[dict]:
    """Yield the parts of a manifest that Kubernetes itself defines: all of it, or its Jobs or pods."""
    if is_core(manifest):
        yield manifest
    elif manifest["kind"] == "RayJob":
        for pod in pods([manifest]):
            yield {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": pod.labels}, "spec": pod.spec}
    elif manifest["kind"] in MODELS:
        for job in replicated_jobs(manifest):
            yield {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}} | {
                "spec": job["template"]["spec"]
            }


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid_strictly(every, version):
    # Most manifests are the same in many compositions, and validating one takes a while.
    distinct = {json.dumps(core): core for manifests in every.values() for one in manifests for core in as_core(one)}
    for core in distinct.values():
        assert kubernetes_validate.validate(core, version, strict=True) == version


@pytest.mark.parametrize("kind", OURS)
def test_custom_resources_are_valid_strictly(every, kind):
    resources = [one for manifests in every.values() for one in manifests if one["kind"] == kind]
    assert resources
    for manifest in resources:
        errors = list(crd_validator(kind, manifest["apiVersion"]).iter_errors(manifest))
        assert errors == []


@pytest.mark.parametrize("kind", MODELS)
def test_sets_of_jobs_survive_kubeflows_models(every, kind):
    """Kubeflow's models drop the fields that they do not know."""
    sets = [one for manifests in every.values() for one in manifests if one["kind"] == kind]
    assert sets
    for manifest in sets:
        assert MODELS[kind].from_dict(manifest).to_dict() == manifest


@pytest.mark.parametrize(
    "plant",
    [
        lambda spec: spec.update(mlPolicies={}),
        lambda spec: spec["mlPolicy"].update(numNode=1),
        lambda spec: spec["template"]["spec"]["replicatedJobs"][0].update(replica=2),
        lambda spec: spec["template"]["spec"]["replicatedJobs"][1]["dependsOn"][0].update(statuses="Complete"),
    ],
)
def test_defect_planted_in_a_training_runtime_is_detected(render, plant):
    changed = deepcopy(the(render("dev with trainjob"), "TrainingRuntime"))
    plant(changed["spec"])
    assert TrainerV1alpha1TrainingRuntime.from_dict(changed).to_dict() != changed


@pytest.mark.parametrize(
    "plant",
    [
        lambda spec: spec["network"].update(enableDNSHostname=False),
        lambda spec: spec["replicatedJobs"][0].update(replica=2),
        lambda spec: spec["replicatedJobs"][2]["dependsOn"][0].update(statuses="Complete"),
    ],
)
def test_defect_planted_in_a_job_set_is_detected(render, plant):
    changed = deepcopy(the(render("production with members"), "JobSet"))
    plant(changed["spec"])
    assert JobsetV1alpha2JobSet.from_dict(changed).to_dict() != changed


def test_training_runtime_of_a_wrong_type_is_refused(render):
    changed = deepcopy(the(render("dev with trainjob"), "TrainingRuntime"))
    changed["spec"]["mlPolicy"]["numNodes"] = "1"
    with pytest.raises(ValidationError):
        TrainerV1alpha1TrainingRuntime.from_dict(changed)


def test_every_kind_is_validated_by_something(every):
    kinds = {one["kind"] for manifests in every.values() for one in manifests if not is_core(one)}
    assert kinds == {*OURS, *MODELS}


def test_route_has_the_fields_of_the_gateway_api(render):
    """The definition is not at hand, so these are the fields of the documentation that the route may have."""
    route = the(render("example"), "HTTPRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert set(route["spec"]) == {"parentRefs", "hostnames", "rules"}
    assert route["spec"]["rules"] == [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "timeouts": {"request": "40s"},
            "backendRefs": [{"name": "simile", "port": 8080}],
        }
    ]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("Deployment", lambda spec: spec.update(replica=2)),
        ("Deployment", lambda spec: spec["template"]["spec"]["containers"][0].update(livenesProbe={})),
        ("Deployment", lambda spec: spec["template"]["spec"].update(terminationGracePeriodSeconds="40")),
        ("CronJob", lambda spec: spec["jobTemplate"]["spec"]["template"]["spec"].update(restartPolice="Never")),
        ("NetworkPolicy", lambda spec: spec.update(policyType=["Ingress"])),
    ],
)
def test_planted_defect_is_detected_by_every_version(production, version, kind, plant):
    changed = deepcopy(next(one for one in production if one["kind"] == kind))
    plant(changed["spec"])
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(changed, version, strict=True)


@pytest.mark.parametrize(
    ("name", "kind", "plant", "expected"),
    [
        ("production-gpu", "ScaledObject", lambda spec: spec.update(maxReplicas=8), "'maxReplicas' was unexpected"),
        (
            "production-gpu",
            "ScaledObject",
            lambda spec: spec["triggers"][0].pop("type"),
            "'type' is a required property",
        ),
        (
            "production-gpu",
            "ScaledObject",
            lambda spec: spec["fallback"].update(replicas="2"),
            "is not of type 'integer'",
        ),
        (
            "production with ray and monitoring",
            "RayJob",
            lambda spec: spec.update(entryPoint=""),
            "'entryPoint' was unexpected",
        ),
        (
            "production with ray and monitoring",
            "RayJob",
            lambda spec: spec["rayClusterSpec"]["headGroupSpec"].update(replicas=1),
            "'replicas' was unexpected",
        ),
        (
            "production with ray and monitoring",
            "RayJob",
            lambda spec: spec["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"].update(
                restartPolice="Never"
            ),
            "'restartPolice' was unexpected",
        ),
        ("dev with trainjob", "TrainJob", lambda spec: spec.update(runtime={}), "'runtime' was unexpected"),
        (
            "dev with trainjob",
            "TrainJob",
            lambda spec: spec["trainer"].update(arguments=[]),
            "'arguments' was unexpected",
        ),
        ("dev with trainjob", "TrainJob", lambda spec: spec.pop("runtimeRef"), "'runtimeRef' is a required property"),
    ],
)
def test_defect_planted_in_a_custom_resource_is_detected(render, name, kind, plant, expected):
    changed = deepcopy(of_kind(render(name), kind)[0])
    plant(changed["spec"])
    (error,) = crd_validator(kind, changed["apiVersion"]).iter_errors(changed)
    assert expected in error.message
