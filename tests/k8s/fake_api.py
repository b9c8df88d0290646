"""A stand-in for a Kubernetes API server: it has what a test puts there, and accepts all that kubectl creates."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.k8s.manifests import Manifest

KINDS = {
    "v1": ("Namespace", "ServiceAccount", "ConfigMap", "Service", "PersistentVolumeClaim", "Pod"),
    "apps/v1": ("Deployment",),
    "autoscaling/v2": ("HorizontalPodAutoscaler",),
    "batch/v1": ("CronJob",),
    "keda.sh/v1alpha1": ("ScaledObject",),
    "monitoring.coreos.com/v1": ("PrometheusRule", "ServiceMonitor"),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
}


@dataclass
class Cluster:
    """The server's address, the objects that are there by their paths, and those created since."""

    url: str = ""
    objects: dict[str, Manifest] = field(default_factory=dict)
    created: list[Manifest] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """The path of each request for an object."""


@contextmanager
def fake_cluster() -> Iterator[Cluster]:
    """Serve the API in a thread."""
    cluster = Cluster()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            document = discovery(path)
            if not document:
                cluster.requests.append(path)
                document = cluster.objects.get(path)
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            self._answer(document or missing, 200 if document else 404)

        def do_POST(self) -> None:
            cluster.created.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self._answer(cluster.created[-1], 201)

        def _answer(self, body: dict[str, Any], status: int) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        cluster.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield cluster
        finally:
            server.shutdown()
            thread.join(10)


def discovery(path: str) -> dict[str, Any] | None:
    """Return the discovery document at the path."""
    if path == "api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "apis":
        versions = [{"groupVersion": name, "version": name.partition("/")[2]} for name in KINDS if "/" in name]
        groups = [
            {"name": one["groupVersion"].partition("/")[0], "versions": [one], "preferredVersion": one}
            for one in versions
        ]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    version = path.removeprefix("apis/").removeprefix("api/")
    resources = [
        {
            "name": f"{kind.lower().removesuffix('y')}{'ies' if kind.endswith('y') else 's'}",
            "singularName": "",
            "namespaced": kind != "Namespace",
            "kind": kind,
            "verbs": ["create", "get", "list", "patch"],
        }
        for kind in KINDS.get(version, ())
    ]
    return (
        {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
        if resources
        else None
    )
