"""Puts the values of the chart into the objects of the overlays, at the places that each of them names.

Helm's expressions and actions are not YAML. Until an object is written as text, words stand for them, which encode them
in hexadecimal digits.
"""

import re
from collections.abc import Callable
from typing import Any

Manifest = dict[str, Any]
Name = tuple[str, str]
"""Kind and name."""


def expression(text: str) -> str:
    """Return the word that stands for ``{{ text }}`` in YAML, where braces would need quotes."""
    return f"Expression{text.encode().hex()}x"


def value(path: str) -> str:
    """Return the word that stands for a value as JSON, which is YAML as well."""
    return expression(f"toJson .Values.{path}")


def action(text: str, number: int) -> str:
    """Return the word whose line becomes ``{{- text }}``; the number keeps the words of a mapping apart."""
    return f"Action{text.encode().hex()}x{number}"


def revealed(text: str) -> str:
    """Return the YAML with expressions and actions in place of their words.

    Braces of the YAML itself, such as those of alerts, are none of Helm's, and are escaped.
    """
    text = text.replace("{{", '{{ "{{" }}')
    text = re.sub(
        r"^ *(?:- )?Action([0-9a-f]+)x\d+(?:: null)?$",
        lambda word: f"{{{{- {bytes.fromhex(word[1]).decode()} }}}}",
        text,
        flags=re.MULTILINE,
    )
    return re.sub(r"Expression([0-9a-f]+)x", lambda word: f"{{{{ {bytes.fromhex(word[1]).decode()} }}}}", text)


def only_if(condition: str, mapping: Manifest, *keys: str) -> None:
    """Move the entries to the mapping's end, where they are rendered only if the condition holds."""
    entries, number = {key: mapping.pop(key) for key in keys}, len(mapping)
    mapping |= {action(f"if {condition}", number): None, **entries, action("end", number): None}


def item_only_if(condition: str, items: list[Any], name: str) -> None:
    """Render the list's item of this name only if the condition holds."""
    (i,) = [i for i, item in enumerate(items) if isinstance(item, dict) and item["name"] == name]
    items[i : i + 1] = [action(f"if {condition}", i), items[i], action("end", i)]


def optional(mapping: Manifest, **paths: str) -> None:
    """Add the entries whose values are not empty."""
    for key, path in paths.items():
        mapping[key] = value(path)
        only_if(f".Values.{path}", mapping, key)


def each(mapping: Manifest, *paths: str) -> None:
    """Add all entries of the values, which are mappings of texts."""
    source, number = " ".join(f".Values.{path}" for path in paths), len(mapping)
    mapping[action(f"range $name, $text := merge (dict) {source}", number)] = None
    mapping[expression("toJson $name")] = expression("toJson $text")
    mapping[action("end", number)] = None


def named(items: list[Manifest], name: str) -> Manifest:
    """Return the item of this name."""
    (item,) = [item for item in items if item["name"] == name]
    return item


def _pod(manifest: Manifest) -> Manifest:
    spec = manifest["spec"]
    template = spec["jobTemplate"]["spec"]["template"] if manifest["kind"] == "CronJob" else spec["template"]
    pod: Manifest = template["spec"]
    for container in [*pod.get("initContainers", ()), *pod["containers"]]:
        image = re.search(r"/simile-(serve|train):", container["image"])
        if image:
            container["image"] = value(f"images.{image[1]}")
        for source in container.get("envFrom", ()):
            if "secretRef" in source:
                source["secretRef"]["name"] = value("bucket.secret")
    return pod


def _placement(pod: Manifest, values: str) -> None:
    keys = ("nodeSelector", "tolerations", "priorityClassName")
    optional(pod, **{key: f"{values}.{key}" for key in keys})


def _deployment(manifest: Manifest) -> None:
    pod = _pod(manifest)
    serve = named(pod["containers"], "serve")
    serve["resources"] = value("serve.resources")
    for pull in pod.get("initContainers", ()):
        # The pull needs as much memory as the service at its start: one whole bundle.
        pull["resources"]["limits"]["memory"] = expression('dig "limits" "memory" "2Gi" .Values.serve.resources')
    named(pod["volumes"], "keys")["secret"]["secretName"] = value("serve.apiKeysSecret")
    for items in (pod["volumes"], serve["volumeMounts"]):
        item_only_if(".Values.serve.apiKeysSecret", items, "keys")
    _placement(pod, "serve")
    # The name of a ConfigMap does not change with its content here, so the annotation causes the rollout.
    settings = '(print .Template.BasePath "/configmap-simile-serve.yaml")'
    annotations = manifest["spec"]["template"]["metadata"].setdefault("annotations", {})
    annotations["checksum/settings"] = expression(f"include {settings} . | sha256sum")


def _serve_settings(manifest: Manifest) -> None:
    data = manifest["data"]
    data["BUNDLE"] = value("serve.bundle")
    only_if(".Values.serve.apiKeysSecret", data, "SIMILE_API_KEYS_FILE")
    each(data, "serve.settings", *_bucket(data))


def _train_settings(manifest: Manifest) -> None:
    data = manifest["data"]
    bucket = _bucket(data)
    only_if(".Values.monitoring.enabled", data, "PROMETHEUS_PUSHGATEWAY_URL")
    each(data, "train.settings", *bucket)
    if not bucket:
        only_if("or .Values.monitoring.enabled .Values.train.settings", manifest, "data")


def _bucket(data: dict[str, str]) -> list[str]:
    """Set the bucket among the settings, if they have one; return the values with its further settings."""
    if "BUCKET" not in data:
        return []
    data["BUCKET"] = value("bucket.url")
    del data["AWS_DEFAULT_REGION"]
    return ["bucket.environment"]


def _run_config(manifest: Manifest) -> None:
    manifest["data"]["run.yaml"] = value("train.run")


def _training(manifest: Manifest) -> None:
    spec, pod = manifest["spec"], _pod(manifest)
    spec |= {"suspend": value("train.suspend"), "schedule": value("train.schedule")}
    named(pod["initContainers"], "train")["resources"] = value("train.resources")
    _placement(pod, "train")


def _files(manifest: Manifest) -> None:
    # This pod has no account of its own, from which it would get the Secrets.
    optional(_pod(manifest), imagePullSecrets="images.pullSecrets")


def _account(manifest: Manifest) -> None:
    optional(manifest, imagePullSecrets="images.pullSecrets")


def _volume(manifest: Manifest) -> None:
    name, spec = manifest["metadata"]["name"].removeprefix("simile-"), manifest["spec"]
    # The documents and the bundles stay when the release is removed.
    manifest["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    spec["accessModes"] = [value(f"volumes.{name}.accessMode")]
    spec["resources"]["requests"]["storage"] = value(f"volumes.{name}.size")
    optional(spec, storageClassName=f"volumes.{name}.storageClass")


def _autoscaler(manifest: Manifest) -> None:
    manifest["spec"] |= {key: value(f"serve.{key}") for key in ("minReplicas", "maxReplicas")}


def _scaled_object(manifest: Manifest) -> None:
    spec = manifest["spec"]
    spec["minReplicaCount"] = spec["fallback"]["replicas"] = value("serve.minReplicas")
    spec["maxReplicaCount"] = value("serve.maxReplicas")
    for trigger in spec["triggers"]:
        metadata = trigger["metadata"]
        metadata["serverAddress"] = value("keda.prometheus")
        metadata["query"] = metadata["query"].replace('"simile"', f'"{expression(".Release.Namespace")}"')


def _callers(manifest: Manifest) -> None:
    (rule,) = manifest["spec"]["ingress"]
    rule["from"] = value("networkPolicy.callers")


def _bucket_policy(manifest: Manifest) -> None:
    *_, outside = manifest["spec"]["egress"]
    outside["to"] = value("networkPolicy.bucket")


def _metrics_policy(manifest: Manifest) -> None:
    (peer,) = manifest["spec"]["ingress"][0]["from"]
    peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] = value("monitoring.namespace")


def _prometheus_role(manifest: Manifest) -> None:
    (account,) = manifest["subjects"]
    account["namespace"] = value("monitoring.namespace")


def _monitor(manifest: Manifest) -> None:
    manifest["metadata"]["labels"]["release"] = value("monitoring.release")


def _rules(manifest: Manifest) -> None:
    _monitor(manifest)
    address = expression(".Values.monitoring.runbooks")
    for rule in [rule for group in manifest["spec"]["groups"] for rule in group["rules"] if "alert" in rule]:
        annotations = rule["annotations"]
        annotations["runbook_url"] = annotations["runbook_url"].replace("https://simile.example.org", address)


EDITS: dict[Name, Callable[[Manifest], None]] = {
    ("ConfigMap", "simile-serve"): _serve_settings,
    ("ConfigMap", "simile-train"): _train_settings,
    ("ConfigMap", "simile-train-files"): _run_config,
    ("CronJob", "simile-files"): _files,
    ("CronJob", "simile-train"): _training,
    ("Deployment", "simile-serve"): _deployment,
    ("HorizontalPodAutoscaler", "simile-serve"): _autoscaler,
    ("NetworkPolicy", "simile-bucket"): _bucket_policy,
    ("NetworkPolicy", "simile-metrics"): _metrics_policy,
    ("NetworkPolicy", "simile-serve"): _callers,
    ("PersistentVolumeClaim", "simile-bundles"): _volume,
    ("PersistentVolumeClaim", "simile-work"): _volume,
    ("PrometheusRule", "simile"): _rules,
    ("RoleBinding", "prometheus-k8s"): _prometheus_role,
    ("ScaledObject", "simile-serve"): _scaled_object,
    ("ServiceAccount", "simile-serve"): _account,
    ("ServiceAccount", "simile-train"): _account,
    ("ServiceMonitor", "simile-pushgateway"): _monitor,
    ("ServiceMonitor", "simile-serve"): _monitor,
}
"""What puts the values into each object; objects without values are rendered as they are."""
