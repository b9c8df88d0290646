"""Tests publish.sh, which the training Job's last container runs: it stores the bundle by digest and announces it."""

import os
import shutil
import subprocess
import sys

import pytest

from simile.artifacts import read_bundle
from tests.evaluation_reports import evaluation_report
from tests.k8s.manifests import K8S, ROOT
from tests.live_servers import Reply, scripted
from tests.registries import MISSING, is_missing, registry

SCRIPT = K8S / "base" / "train" / "publish.sh"


@pytest.fixture
def publish(tmp_path):
    """Runs the script with this environment's `simile` and `python` on the path."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("simile", "-m pipeline.cli"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        (programs / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    (tmp_path / "store").mkdir()

    def publish(bundle, store=tmp_path / "store", **variables):
        argv = ["sh", str(SCRIPT), str(bundle), str(store)]
        return subprocess.run(argv, env=environ | variables, capture_output=True, text=True, check=False)

    return publish


def test_first_bundle_is_published_and_becomes_current(publish, bundle, tmp_path):
    done = publish(bundle.path)
    name = bundle.manifest.digest[:12]
    assert (done.returncode, done.stdout) == (0, f"published {name}; current is {name}\n"), done.stderr
    assert read_bundle(tmp_path / "store" / "current").manifest.digest == bundle.manifest.digest
    assert {path.name for path in (tmp_path / "store").iterdir()} == {name, "current"}


def test_later_bundle_is_published_and_waits(publish, bundle, tiny, tmp_path):
    publish(bundle.path)
    done = publish(tiny.path)
    names = [one.manifest.digest[:12] for one in (bundle, tiny)]
    assert done.stdout == f"published {names[1]}; current is {names[0]}\n"
    assert {path.name for path in (tmp_path / "store").iterdir()} == {*names, "current"}


def test_publishing_again_changes_nothing(publish, bundle, tmp_path):
    first = publish(bundle.path)
    manifest = tmp_path / "store" / bundle.manifest.digest[:12] / "manifest.json"
    before = manifest.stat()
    assert publish(bundle.path).stdout == first.stdout
    assert (manifest.stat().st_ino, manifest.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_a_killed_publication_left_is_replaced(publish, bundle, tmp_path):
    left = tmp_path / "store" / f".{bundle.manifest.digest[:12]}"
    left.mkdir()
    (left / "half").write_text("half")
    assert publish(bundle.path).returncode == 0
    assert not left.exists()
    assert not (tmp_path / "store" / "current" / "half").exists()


def test_damaged_bundle_is_not_published_and_ends_as_bad_input(publish, bundle, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "damaged")
    graph = next((tmp_path / "damaged").rglob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0\0")
    done = publish(tmp_path / "damaged")
    assert done.returncode == 2
    assert done.stdout == ""
    assert list((tmp_path / "store").iterdir()) == []


@pytest.fixture
def finished(bundle, tmp_path):
    """The folder of a run whose bundle passed the gate."""
    folder = tmp_path / "simile-train-1"
    shutil.copytree(bundle.path, folder / "bundle")
    report = evaluation_report(bundle={"digest": bundle.manifest.digest}, verdict="pass")
    (folder / "report.json").write_text(report.model_dump_json())
    return folder


def test_published_bundle_is_announced_where_somebody_wants_to_know(publish, finished, bundle, tmp_path):
    with scripted(lambda _: Reply(204)) as webhook:
        done = publish(finished / "bundle", SIMILE_WEBHOOK_URL=webhook.url, NOTICE="github")
    assert done.returncode == 0, done.stderr
    (request,) = webhook.requests
    assert request.body["client_payload"]["run"] == "simile-train-1"
    assert request.body["client_payload"]["address"] == bundle.manifest.digest[:12]


def test_notice_that_did_not_arrive_fails_and_is_sent_by_the_retry(publish, finished, bundle, tmp_path):
    statuses = iter([503, 204])
    with scripted(lambda _: Reply(next(statuses))) as webhook:
        first, second = (publish(finished / "bundle", SIMILE_WEBHOOK_URL=webhook.url) for _ in range(2))
    assert (first.returncode, second.returncode) == (75, 0)
    assert first.stdout == second.stdout
    assert {path.name for path in (tmp_path / "store").iterdir()} == {bundle.manifest.digest[:12], "current"}


@pytest.mark.skipif(is_missing(), reason=MISSING)
def test_address_in_place_of_a_folder_is_pushed_to_and_announced(publish, finished, tmp_path):
    pytest.importorskip("oras", reason="oras is not installed (the extra oci)")
    with registry(tmp_path / "registry") as made, scripted(lambda _: Reply(204)) as webhook:
        store = f"oci://{made.host}/simile/tuned:v1"
        done = publish(finished / "bundle", store, SIMILE_WEBHOOK_URL=webhook.url)
    assert done.returncode == 0, done.stderr
    address = done.stdout.strip()
    assert address.startswith(f"oci://{made.host}/simile/tuned@sha256:")
    (request,) = webhook.requests
    assert request.body["address"] == address


def test_bundle_that_cannot_be_pushed_is_not_announced(publish, finished):
    with scripted(lambda _: Reply(204)) as webhook:
        done = publish(finished / "bundle", "nonsense://here", SIMILE_WEBHOOK_URL=webhook.url)
    assert done.returncode == 2
    assert webhook.requests == []
