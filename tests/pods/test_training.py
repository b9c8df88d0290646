"""The training's pod of `overlays/dev`: killed once, it resumes in the next pod and publishes its bundle."""

import re

import pytest

from simile.artifacts import read_bundle

pytestmark = pytest.mark.pods


def test_killed_training_resumes_in_the_next_pod(trained):
    assert trained.killed_code == 137
    assert f"/work/runs/{trained.name}/mined is there already" in trained.log
    assert re.search(r"resuming from checkpoint-\d+", trained.log)
    assert 0 < steps_to_go(trained.log) < steps_to_go(trained.killed_log)
    assert "gate      pass" in trained.log


def test_training_publishes_the_bundle_that_passed_the_gate(trained, podman):
    digest = read_bundle(podman.volume("simile-work") / "runs" / trained.name / "bundle").manifest.digest
    assert trained.publish_log == f"published {digest[:12]}; current is {digest[:12]}\n"
    assert read_bundle(podman.volume("simile-bundles") / digest[:12]).manifest.digest == digest


def steps_to_go(log):
    (num_steps,) = re.findall(r"steps to go: ([\d,]+)", log)
    return int(num_steps.replace(",", ""))
