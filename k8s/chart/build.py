"""Writes the Helm chart into dist/simile: `python -m k8s.chart.build`, which needs kubectl (make chart).

The templates are the rendered overlays, with Helm's expressions wherever values.yaml has a value. An object that
production and production-bucket have in different forms becomes one template with both.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from k8s.chart.edits import EDITS, Manifest, Name, revealed

CHART = Path(__file__).parent
STATIC = ("Chart.yaml", "values.yaml", "values.schema.json")
COMPONENTS = ["../../components/keda", "../../components/monitoring"]
HEADER = "{{- /* Written by k8s/chart/build.py from k8s/overlays. Change those. */}}\n"
CONDITIONS = {
    "HorizontalPodAutoscaler": "not .Values.keda.enabled",
    "NetworkPolicy": ".Values.networkPolicy.enabled",
    "ScaledObject": ".Values.keda.enabled",
}
"""What the objects of a kind depend on."""


def rendered(overlay: Path) -> dict[Name, Manifest]:
    """Return the overlay's objects by kind and name, without namespaces and hashes in names, which are Helm's matter.

    Raises:
        FileNotFoundError: kubectl is missing.
        subprocess.CalledProcessError: kubectl cannot render the overlay; its message is on standard error.
    """
    done = subprocess.run(["kubectl", "kustomize", str(overlay)], stdout=subprocess.PIPE, text=True, check=True)
    manifests = list(yaml.load_all(done.stdout, yaml.CSafeLoader))
    configs = [one["metadata"]["name"] for one in manifests if one["kind"] == "ConfigMap"]
    plain_names = {name: re.sub("-[a-z0-9]{10}$", "", name) for name in configs}
    objects = {}
    for manifest in [_renamed(one, plain_names) for one in manifests]:
        manifest["metadata"].pop("namespace", None)
        objects[manifest["kind"], manifest["metadata"]["name"]] = manifest
    # A release cannot have its own namespace.
    del objects["Namespace", "simile"]
    return objects


def _renamed(node: Any, names: Mapping[str, str]) -> Any:
    """Return the node with every text that is one of the names replaced."""
    if isinstance(node, dict):
        return {key: _renamed(child, names) for key, child in node.items()}
    if isinstance(node, list):
        return [_renamed(child, names) for child in node]
    return names.get(node, node) if isinstance(node, str) else node


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def check_simple_key(self) -> bool:
        # PyYAML would write long keys, as the words are, in a form of two lines.
        super().check_simple_key()
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def template(manifest: Manifest) -> str:
    """Return the manifest as a template."""
    text = yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return revealed(text)


def templates() -> dict[str, str]:
    """Return the chart's templates by their file names."""
    with TemporaryDirectory() as folder:
        overlays = Path(folder) / "k8s" / "overlays"
        shutil.copytree(CHART.parent, overlays.parent)
        plain = rendered(overlays / "production")
        file = overlays / "production" / "kustomization.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"components": COMPONENTS}))
        on_volume, on_bucket = rendered(overlays / "production"), rendered(overlays / "production-bucket")
    # The components delete what they replace.
    replaced = {name: manifest for name, manifest in plain.items() if name not in on_volume}
    on_volume, on_bucket = on_volume | replaced, on_bucket | replaced
    return {
        f"{kind.lower()}-{name}.yaml": _file(on_volume.get((kind, name)), on_bucket.get((kind, name)))
        for kind, name in on_volume | on_bucket
    }


def _file(on_volume: Manifest | None, on_bucket: Manifest | None) -> str:
    """Return the template of an object in its two forms, of which one may be absent."""
    forms = [_edited(manifest) for manifest in (on_volume, on_bucket) if manifest]
    kind, labels = forms[0]["kind"], forms[0]["metadata"]["labels"]
    conditions = [CONDITIONS[kind]] if kind in CONDITIONS else []
    if labels["app.kubernetes.io/component"] == "monitoring":
        conditions.append(".Values.monitoring.enabled")
    if len(forms) == 1:
        conditions.append(".Values.bucket.url" if on_bucket else "not .Values.bucket.url")
    text = template(forms[0])
    if forms[-1] != forms[0]:
        text = f"{{{{- if .Values.bucket.url }}}}\n{template(forms[1])}{{{{- else }}}}\n{text}{{{{- end }}}}\n"
    if conditions:
        joined = conditions[0] if len(conditions) == 1 else "and " + " ".join(f"({one})" for one in conditions)
        text = f"{{{{- if {joined} }}}}\n{text}{{{{- end }}}}\n"
    return HEADER + text


def _edited(manifest: Manifest) -> Manifest:
    edited = deepcopy(manifest)
    if edit := EDITS.get((edited["kind"], edited["metadata"]["name"])):
        edit(edited)
    return edited


def build(out: Path) -> None:
    """Write the chart into the folder, whole, in place of what is there."""
    made = templates()
    with TemporaryDirectory(dir=out.parent) as folder:
        chart = Path(folder) / "chart"
        (chart / "templates").mkdir(parents=True)
        for name in STATIC:
            shutil.copy(CHART / name, chart)
        for name, text in made.items():
            (chart / "templates" / name).write_text(text, encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        chart.rename(out)


def main() -> None:
    """Write the chart into dist/simile."""
    out = Path("dist/simile")
    out.parent.mkdir(exist_ok=True)
    try:
        build(out)
    except FileNotFoundError as error:
        sys.exit(f"chart: {error}; need kubectl, which renders the overlays")
    except subprocess.CalledProcessError as error:
        sys.exit(f"chart: kubectl ended with {error.returncode}; nothing was written")
    sys.stdout.write(f"{out}\n")


if __name__ == "__main__":
    main()
