"""The patch in docs/deployment.md by which the service mounts a bundle as an image volume."""

import re
import shutil

import kubernetes_validate
import yaml

from tests.k8s.manifests import K8S, ROOT, environment, parsed, rendered, the

SECTION = (ROOT / "docs" / "deployment.md").read_text().partition("## Bundles in a registry")[2]


def test_patch_of_the_page_mounts_the_image_that_push_writes(tmp_path):
    shutil.copytree(K8S, tmp_path / "k8s")
    file = tmp_path / "k8s/overlays/production/kustomization.yaml"
    overlay = yaml.safe_load(file.read_text())
    overlay["patches"] += yaml.safe_load(re.search(r"```yaml\n(.*?)```", SECTION, re.DOTALL)[1])
    overlay["configMapGenerator"][0]["literals"].append(re.search("`(BUNDLE=[a-z]+)`", SECTION)[1])
    file.write_text(yaml.safe_dump(overlay))
    manifests = parsed(rendered(file.parent))
    deployment = the(manifests, "Deployment")
    assert kubernetes_validate.validate(deployment, "1.35", strict=True) == "1.35"
    pod = deployment["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "bundles"]
    assert volume["image"]["reference"].startswith("registry.example.org/simile/tuned@sha256:")
    (container,) = pod["containers"]
    assert container["args"] == ["serve", "/bundles/$(BUNDLE)"]
    assert environment(container, manifests)["BUNDLE"] == "models"
