"""Runs the three jobs of components/members one after the other, with their own arguments, on tiny encoders."""

import json

import pytest
import yaml

from pipeline.cli import main
from simile.artifacts import read_bundle
from tests.k8s.manifests import ROOT, arguments, pods

SMALLER = {
    "baseline": (),
    "mine": ("--pairs=64", "--dev-share=0.1"),
    "train": (),
    "join": (),
    "evaluate": ("--device=cpu", "--precision=fp32"),
}
"""Arguments that make each step take seconds."""


@pytest.fixture(scope="module")
def run(render, make_base, tmp_path_factory):
    """Runs a container with local folders for its volumes; returns the exit code."""
    manifests = render("production with members")
    folder = tmp_path_factory.mktemp("members")
    (folder / "work").mkdir()
    (folder / "etc").mkdir()
    base = str(make_base("bert"))
    for index in range(3):
        settings = {
            "name": f"seed-{index}",
            "base": base,
            "seed": index,
            "max_length": 32,
            "precision": "fp32",
            "min_base_agreement": 0,
        }
        (folder / "etc" / f"member-{index}.yaml").write_text(yaml.safe_dump(settings))
    lines = (ROOT / "examples" / "helpdesk" / "documents.jsonl").read_text().splitlines(keepends=True)
    (folder / "work" / "documents.jsonl").write_text("".join(lines[:1120]))
    places = {"/work/": f"{folder}/work/", "/etc/simile/": f"{folder}/etc/", "bundled:minilm": base}

    containers = {one["name"]: one for pod in pods(manifests) for one in pod.containers}

    def run(step, **more):
        container = containers[step]
        words = arguments(container, manifests, **more)
        for there, here in places.items():
            words = [word.replace(there, here) for word in words]
        smaller = SMALLER[step]
        replaced = {word.partition("=")[0] for word in smaller}
        return main([*(word for word in words if word.partition("=")[0] not in replaced), *smaller])

    run.out = folder / "work" / "runs" / "first"
    return run


def test_members_are_mined_for_trained_apart_joined_and_judged(run):
    assert run("baseline") == 0
    assert run("mine") == 0
    for index in range(3):
        assert run("train", JOB_COMPLETION_INDEX=str(index)) == 0
    assert run("join") == 0
    joined = read_bundle(run.out / "bundle").manifest
    # Members that do not help on the dev pairs are left out, as some of tiny random encoders may be.
    assert {member.name for member in joined.members} <= {"seed-0", "seed-1", "seed-2"}
    assert len(joined.made.of) == 3
    assert joined.combine.method == "learned"
    assert joined.calibration is not None
    # With tiny random encoders either verdict is right, and both write a report.
    code = run("evaluate")
    report = json.loads((run.out / "report.json").read_text())
    assert code == {"pass": 0, "fail": 3}[report["verdict"]]
    assert report["bundle"]["digest"] == joined.digest
    assert set(report["leaked_texts"].values()) == {0}


def test_pods_that_are_started_again_find_their_work_done(run, capsys):
    assert run("train", JOB_COMPLETION_INDEX="1") == 0
    assert "already trained by this very run" in capsys.readouterr().err
    assert run("join") == 0
