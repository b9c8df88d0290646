"""Scans every composition and both Dockerfiles with checkov, which `make checkov` installs apart from all else.

Checkov does not look into JobSets and TrainingRuntimes; `tests.k8s.policy` does.
"""

import json
import os
import shutil
import subprocess
from copy import deepcopy

import pytest
import yaml

from tests.k8s.manifests import ROOT, the

pytestmark = pytest.mark.checkov

CHECKOV = os.environ.get("SIMILE_CHECKOV", "checkov")
TIMEOUT_S = 600
ACCEPTED = {
    "CKV_K8S_15": "Images are not pulled always: nodes start pods without the registry, and no tag is used twice.",
    "CKV_K8S_35": "The bucket's clients read credentials from the environment; roles need no Secret at all.",
    "CKV_K8S_43": "Digests are those of the operator's own registry; overlays/production says where they go.",
    "CKV_DOCKER_2": "The manifests' probes take the place of HEALTHCHECK, which the kubelet ignores.",
    "CKV_DOCKER_7": "Checkov does not see the tag of the base, which is the default of a build argument.",
}
"""Findings that stay, by check, with the reason."""


@pytest.fixture
def scan(tmp_path):
    """Returns the failed checks of the folder's files, each with its resources."""
    if not shutil.which(CHECKOV):
        pytest.skip(f"no {CHECKOV} here (make checkov)")

    def scan(framework):
        options = ["--framework", framework, "--skip-download", "--quiet", "--compact", "--output", "json"]
        argv = [CHECKOV, "--directory", str(tmp_path), *options]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        report = json.loads(done.stdout)
        assert report["summary"]["parsing_errors"] == 0
        assert report["summary"]["passed"]
        failed = {}
        for one in report["results"]["failed_checks"]:
            failed.setdefault(one["check_id"], set()).add(one["resource"])
        return failed

    return scan


def accepted(prefix):
    return {check for check in ACCEPTED if check.startswith(prefix)}


def test_manifests_have_no_findings_but_the_accepted(every, scan, tmp_path):
    for name, manifests in every.items():
        (tmp_path / f"{name.replace(' ', '-')}.yaml").write_text(yaml.safe_dump_all(manifests))
    failed = scan("kubernetes")
    assert set(failed) == accepted("CKV_K8S_"), failed


def test_dockerfiles_have_no_findings_but_the_accepted(scan, tmp_path):
    for file in ROOT.glob("Dockerfile.*"):
        shutil.copy(file, tmp_path)
    failed = scan("dockerfile")
    assert set(failed) == accepted("CKV_DOCKER_"), failed


def test_planted_finding_is_reported(production, scan, tmp_path):
    deployment = deepcopy(the(production, "Deployment", "simile-serve"))
    deployment["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    (tmp_path / "planted.yaml").write_text(yaml.safe_dump(deployment))
    assert "CKV_K8S_16" in scan("kubernetes")
