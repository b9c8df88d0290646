"""The versions of Kubernetes that manifests are validated against, and the definitions of custom resources."""

import os
from functools import cache
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

CRDS = Path(os.environ.get("SIMILE_CRDS", Path(__file__).parents[3] / "shared" / "crds"))
VERSIONS = ("1.33", "1.35", "1.36", "1.37")


def is_core(manifest):
    """Return whether Kubernetes itself defines the kind."""
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." not in group or (group.endswith(".k8s.io") and group != "gateway.networking.k8s.io")


def strict(schema):
    """Return the schema, with unknown fields refused wherever the definition lists the known ones."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


@cache
def crd_validator(kind, api_version):
    """Return the validator of a custom resource's kind; skip the test where its definition is missing."""
    file = CRDS / f"{kind.lower()}.yaml"
    if not file.is_file():
        pytest.skip(f"no definition of {kind} at {file} (SIMILE_CRDS names the folder)")
    definition = yaml.load(file.read_text(), yaml.CSafeLoader)
    group, _, version = api_version.partition("/")
    assert (definition["spec"]["group"], definition["spec"]["names"]["kind"]) == (group, kind)
    (served,) = [one for one in definition["spec"]["versions"] if one["name"] == version]
    schema = strict(served["schema"]["openAPIV3Schema"])
    # The API server adds these to every definition; of metadata, the definition says only that it is an object.
    schema["properties"] |= {"apiVersion": {"const": api_version}, "kind": {"const": kind}}
    return Draft202012Validator(schema)
