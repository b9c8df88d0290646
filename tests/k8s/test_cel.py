"""Evaluates the CEL rules of the custom resources' definitions, as an API server does when it takes a manifest."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import celpy
import pytest

from tests.k8s.definitions import crd_validator
from tests.k8s.manifests import the
from tests.k8s.test_schemas import OURS


def rules(schema: dict[str, Any], value: Any) -> Iterator[tuple[str, Any]]:
    """Yield each rule that the schema has for the value or for a part of it, with that part.

    Rules that compare with `oldSelf` are left out: they hold for updates only, and the objects are new.
    """
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"]:
            yield rule["rule"], value
    if isinstance(value, dict):
        for name, part in value.items():
            other = schema.get("additionalProperties")
            yield from rules(schema.get("properties", {}).get(name, other if isinstance(other, dict) else {}), part)
    elif isinstance(value, list):
        for part in value:
            yield from rules(schema.get("items", {}), part)


@cache
def program(rule: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(rule))


def broken(manifest: dict[str, Any]) -> list[str]:
    """Return the rules that the resource breaks."""
    schema = crd_validator(manifest["kind"], manifest["apiVersion"]).schema
    return [
        rule for rule, part in rules(schema, manifest) if not program(rule).evaluate({"self": celpy.json_to_cel(part)})
    ]


@pytest.mark.parametrize("kind", OURS)
def test_rendered_resources_break_no_rule(every, kind):
    resources = [one for manifests in every.values() for one in manifests if one["kind"] == kind]
    assert resources
    assert [broken(one) for one in resources] == [[]] * len(resources)


@pytest.mark.parametrize(
    ("composition", "kind", "plant", "expected"),
    [
        ("production-gpu", "ScaledObject", lambda one: one["spec"].update(minReplicaCount=101), "minReplicaCount <="),
        ("dev with trainjob", "TrainJob", lambda one: one["metadata"].update(name="1st"), "[a-z]"),
        ("dev with trainjob", "TrainJob", lambda one: one["metadata"].update(name="a" * 64), "<= 63"),
        ("dev with trainjob", "TrainJob", lambda one: one["spec"].update(managedBy="me"), "kueue.x-k8s.io/multikueue"),
        ("dev with trainjob", "TrainJob", lambda one: one["spec"]["trainer"].update(numProcPerNode=0), "self >= 1"),
    ],
)
def test_planted_violation_is_detected(render, composition, kind, plant, expected):
    changed = deepcopy(the(render(composition), kind))
    plant(changed)
    (rule,) = broken(changed)
    assert expected in rule
