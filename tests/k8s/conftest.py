"""Renders each overlay with `kubectl kustomize`, alone and with the components that may be added."""

import shutil
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.manifests import K8S, Manifest, parsed, rendered

COMPOSED = {
    "dev": ("dev",),
    "dev with everything": ("dev", "members", "keda", "monitoring", "ray/score", "ray/train"),
    "dev with trainjob": ("dev", "trainjob"),
    "example": ("example",),
    "example with ray": ("example", "ray/score", "ray/train"),
    "production": ("production",),
    "production with canary": ("production", "monitoring", "canary"),
    "production with canary and keda": ("production", "keda", "canary", "mirror"),
    "production with bulk": ("production", "bulk"),
    "production with members": ("production", "members"),
    "production with members and monitoring": ("production", "members", "keda", "monitoring"),
    "production with monitoring": ("production", "keda", "monitoring"),
    "production with retraining": ("production", "retrain"),
    "production with ray and monitoring": ("production", "ray/score", "ray/train", "monitoring"),
    "production with trainjob": ("production", "trainjob"),
    "production with trainjob and monitoring": ("production", "trainjob", "monitoring"),
    "production-bucket": ("production-bucket",),
    "production-bucket with members": ("production-bucket", "members"),
    "production-bucket with retraining": ("production-bucket", "retrain"),
    "production-bucket with ray": ("production-bucket", "ray/score", "ray/train"),
    "production-bucket with trainjob": ("production-bucket", "trainjob"),
    "production-gpu": ("production-gpu",),
    "production-gpu with members": ("production-gpu", "members"),
    "production-gpu with ray": ("production-gpu", "ray/score", "ray/train"),
    "production-gpu with trainjob": ("production-gpu", "trainjob"),
    "production-gpu on production-bucket": ("production-gpu", "bucket"),
    "production-gpu on production-bucket with members": ("production-gpu", "bucket", "members"),
}
"""Each composition's overlay, and the components added to it; `bucket` puts production-gpu on production-bucket."""


def compose(copy: Path, overlay: str, *components: str) -> Path:
    """Add the components to the overlay that names the images, in a copy of k8s/; return the overlay's folder."""
    if "bucket" in components:
        edit(copy / "overlays" / overlay, resources=["../production-bucket"])
    added = [f"../../components/{component}" for component in components if component != "bucket"]
    edit(copy / "overlays" / ("dev" if overlay == "dev" else "production"), components=added)
    return copy / "overlays" / overlay


def edit(folder: Path, **fields: Any) -> None:
    """Set fields of the folder's kustomization."""
    file = folder / "kustomization.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | fields))


@pytest.fixture(scope="session")
def render(made_once, tmp_path_factory) -> Callable[[str], list[Manifest]]:
    """Renders a composition by its name in `COMPOSED`, once for all test processes."""

    def write(name: str, file: Path) -> None:
        copy = tmp_path_factory.mktemp("k8s") / "k8s"
        shutil.copytree(K8S, copy)
        file.write_text(rendered(compose(copy, *COMPOSED[name])))

    @cache
    def render(name: str) -> list[Manifest]:
        return parsed(made_once(name.replace(" ", "-"), partial(write, name)).read_text())

    return render


@pytest.fixture(params=sorted(COMPOSED))
def manifests(request, render) -> list[Manifest]:
    return render(request.param)


@pytest.fixture
def production(render) -> list[Manifest]:
    return render("production")


@pytest.fixture
def every(render) -> Mapping[str, list[Manifest]]:
    """The manifests of every composition, by name."""
    return {name: render(name) for name in COMPOSED}
