"""Runs an OCI registry (Debian's docker-registry) on this machine, over http, with its blobs in a folder."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import yaml

PROGRAM = "docker-registry"
MISSING = f"{PROGRAM} is not on the path (Debian's package of that name)"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
USER, PASSWORD = "somebody", "planted-password"
_BCRYPT = "$2b$05$8LyBucQOcc3cptsEPS0mH.Dn6bbYFkyQ.VUrCE5cG14gKMsL6fcP2"


def is_missing() -> bool:
    """Return whether the program is not installed."""
    return shutil.which(PROGRAM) is None


@dataclass(frozen=True)
class Registry:
    """A running registry."""

    host: str
    folder: Path

    def manifest(self, name: str, reference: str) -> dict[str, Any]:
        """Return the manifest as another client reads it: not the one that is tested."""
        url = f"http://{self.host}/v2/{name}/manifests/{reference}"
        answer = httpx2.get(url, headers={"accept": MANIFEST_TYPE}, trust_env=False).raise_for_status()
        return {"digest": answer.headers["docker-content-digest"]} | answer.json()

    def blob(self, digest: str) -> Path:
        """Return the file that holds the blob."""
        sha256 = digest.removeprefix("sha256:")
        return self.folder / "docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"


@contextmanager
def registry(folder: Path, *, with_password: bool = False) -> Iterator[Registry]:
    """Run a registry that stores in the folder; the password is that of `USER`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder)}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if with_password:
        (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
        config["auth"] = {"htpasswd": {"realm": "registry", "path": str(folder / "htpasswd")}}
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, "serve", folder / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            with suppress(httpx2.TransportError):
                httpx2.get(f"http://127.0.0.1:{port}/v2/", trust_env=False)
                break
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Registry(f"127.0.0.1:{port}", folder)
    finally:
        process.kill()
        process.wait()
