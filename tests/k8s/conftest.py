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
    "dev": (),
    "production": (),
    "dev with gpu": ("gpu",),
    "dev with keda": ("keda",),
    "dev with members": ("members",),
    "dev with monitoring": ("monitoring",),
    "dev with trainjob": ("trainjob",),
    "production with members": ("members",),
    "production with monitoring": ("monitoring",),
    "production with members and monitoring": ("members", "monitoring"),
    "production with trainjob and monitoring": ("trainjob", "monitoring"),
    "production with trainjob": ("trainjob",),
    "production-bucket": (),
    "production-bucket with members": ("members",),
    "production-bucket with trainjob": ("trainjob",),
}
"""The components added before an overlay's own, or before those of the overlay that it builds on."""


@pytest.fixture(scope="session")
def render(made_once, tmp_path_factory) -> Callable[[str], list[Manifest]]:
    """Renders an overlay by its name in `COMPOSED`, once for all test processes."""

    def write(name: str, file: Path) -> None:
        copy = tmp_path_factory.mktemp("k8s") / "k8s"
        shutil.copytree(K8S, copy)
        overlay = name.partition(" ")[0]
        kustomization = copy / "overlays" / overlay.removesuffix("-bucket") / "kustomization.yaml"
        asked: dict[str, Any] = yaml.safe_load(kustomization.read_text())
        added = [f"../../components/{component}" for component in COMPOSED[name]]
        kustomization.write_text(yaml.safe_dump(asked | {"components": [*added, *asked.get("components", ())]}))
        file.write_text(rendered(copy / "overlays" / overlay))

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
