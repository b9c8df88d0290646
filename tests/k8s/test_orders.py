"""Checks that the order of components changes nothing, and that an order which would lose something is refused."""

import shutil
import subprocess
from itertools import permutations

import pytest
import yaml

from tests.k8s.conftest import compose, edit
from tests.k8s.manifests import K8S, of_kind, parsed, rendered, the

OVERLAYS = ("dev", "production", "production-bucket", "production-gpu")


@pytest.fixture
def copy(tmp_path):
    """Returns a new copy of k8s/."""

    def copy():
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(K8S, folder)
        return folder

    return copy


def objects(text):
    """Return the objects in a text; kustomize keeps the order in which they were listed."""
    return frozenset(one.strip() for one in text.split("---\n"))


@pytest.mark.parametrize("way", ["members", "trainjob", "bulk", "ray/score", "ray/train"])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_order_of_components_changes_nothing(copy, overlay, way):
    components = (way,) if overlay == "production-gpu" else (way, "monitoring", "keda")
    assert len({objects(rendered(compose(copy(), overlay, *order))) for order in permutations(components)}) == 1


LOST = {
    "GPU": (
        {"kind": "JobSet", "name": "simile-train"},
        "/spec/replicatedJobs/1/template/spec/template/spec/containers/0/resources/limits/nvidia.com~1gpu",
        "1",
    ),
    "volume mode": ({"kind": "PersistentVolumeClaim", "name": "simile-work"}, "/spec/accessModes", ["ReadWriteOnce"]),
}
"""Patches that a component must not make, since the order decides whether `members` comes before them."""


@pytest.mark.parametrize("planted", LOST)
def test_order_that_loses_something_is_detected(copy, planted):
    target, path, value = LOST[planted]
    patch = yaml.safe_dump([{"op": "add", "path": path, "value": value}])

    def render(order):
        folder = copy()
        (folder / "components" / "planted").mkdir()
        (folder / "components" / "planted" / "kustomization.yaml").write_text("kind: Component")
        edit(folder / "components" / "planted", patches=[{"target": target, "patch": patch}])
        return rendered(compose(folder, "production", *order))

    assert len({objects(render(order)) for order in permutations(("members", "planted"))}) == 2


@pytest.mark.parametrize("way", ["members", "trainjob"])
@pytest.mark.parametrize("overlay", ["production-gpu", "production-bucket"])
def test_component_that_would_lose_an_overlays_patches_is_refused(copy, overlay, way):
    inside, above = copy() / "overlays" / overlay, copy() / "overlays" / "own"
    edit(inside, components=[f"../../components/{way}"])
    above.mkdir()
    (above / "kustomization.yaml").write_text("kind: Kustomization")
    edit(above, resources=[f"../{overlay}"], components=[f"../../components/{way}"])
    for folder in (inside, above):
        done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "testing value /spec/jobTemplate/spec/template/spec/initContainers/0/image failed" in done.stderr


@pytest.mark.parametrize("way", ["members", "trainjob"])
def test_queue_of_an_overlay_holds_for_whatever_trains(copy, way):
    manifests = parsed(rendered(compose(copy(), "example", way)))
    (training,) = [one for one in manifests if one["kind"] in ("JobSet", "TrainJob")]
    assert training["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "batch"


def test_queue_of_an_overlay_holds_for_ray_jobs(render):
    for job in of_kind(render("example with ray"), "RayJob"):
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "batch"


@pytest.mark.parametrize("name", ["simile-train", "simile-score"])
def test_queue_of_an_overlay_holds_for_jobs_made_from_the_cron_job(render, name):
    template = the(render("example with ray"), "CronJob", name)["spec"]["jobTemplate"]
    assert template["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "batch"
