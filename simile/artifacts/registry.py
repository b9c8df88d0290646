"""Bundles in OCI registries, as images (`simile.artifacts.image`), over the distribution API.

oras finds the credentials, in Docker's config file or by the helper that it names, and exchanges them for tokens. No
argument takes any, and messages quote neither headers nor what a registry answers, but for its error code.
"""

import json
import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

from oras.auth import get_auth_backend
from oras.client import OrasClient
from oras.container import Container
from oras.logger import logger as oras_logger
from pydantic import ValidationError
from requests import RequestException, Response
from requests.exceptions import SSLError

from simile.artifacts.arrival import Check, arriving, place, present
from simile.artifacts.bundle_files import read_bundle
from simile.artifacts.image import MANIFEST_TYPE, Archive, ImageManifest, image_of
from simile.artifacts.unpacking import unpack
from simile.errors import BundleError, InputError, StoppedError
from simile.files import sha256_bytes

SCHEME = "oci://"
_NAME = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_ADDRESS = re.compile(
    rf"oci://(?P<host>[A-Za-z0-9.-]+(?::[0-9]+)?)/(?P<name>{_NAME}(?:/{_NAME})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LOOPBACK = re.compile(r"(localhost|127(\.[0-9]+){3})(:[0-9]+)?")
_TIMEOUT_S = (10, 120)
"""Seconds to connect, and between two packets."""
_MAX_MANIFEST_BYTES = 4 * 2**20
"""What registries must accept at least."""
_CHUNK_BYTES = 2**20
_RETRYABLE_STATUSES = {408, 429, *range(500, 600)}


class Reference(NamedTuple):
    """The address of an image."""

    host: str
    name: str
    tag: str
    digest: str | None


def push_image(path: Path, url: str) -> str:
    """Upload the bundle as an image, then let the tag of ``url`` lead to it; return the address with its digest.

    Raises:
        InputError: there is no such bundle, or writing to the registry is not permitted.
        StoppedError: the registry cannot be reached now.
    """
    reference = _parsed(url)
    if reference.digest:
        raise InputError(f"{url}: got a digest, need {SCHEME}REGISTRY/NAME:TAG; the digest follows from the bundle")
    image = image_of(read_bundle(path))
    registry = _Registry(reference, url)
    for layer in image.layers:
        registry.upload(f"sha256:{layer.sha256}", layer)
    registry.upload(f"sha256:{sha256_bytes(image.config)}", image.config)
    # The tag moves by this request, when everything that it leads to is there.
    registry.put_manifest(image.manifest)
    return f"{SCHEME}{reference.host}/{reference.name}@sha256:{sha256_bytes(image.manifest)}"


def pull_image(url: str, path: Path, check: Check) -> str:
    """Fetch the bundle at ``url`` to ``path``, verified and as a whole or not at all, and return its identity.

    A bundle that is there already stays. ``check`` is called with the folder of the fetched bundle before that is moved
    to its path, or with the path of the one that is there.

    Raises:
        InputError: there is no such image, reading it is not permitted, or ``path`` holds something else.
        BundleError: it is damaged, or no image of a bundle.
        StoppedError: the registry cannot be reached now.
    """
    registry = _Registry(_parsed(url), url)
    with arriving(path, url) as folder:
        image = registry.manifest()
        if there := present(path, image.annotations.digest, check):
            return there.identity
        for layer in image.layers:
            with registry.blob(layer.digest) as chunks:
                unpack(chunks, layer, folder, url)
        fetched = read_bundle(folder)
        if fetched.manifest.digest != image.annotations.digest:
            got = f"got a bundle with the digest {fetched.manifest.digest[:12]}…"
            raise BundleError(f"{url}: {got}, need {image.annotations.digest[:12]}…, as the image's manifest says")
        return place(folder, path, check).identity


def _parsed(url: str) -> Reference:
    match = _ADDRESS.fullmatch(url)
    host = match["host"] if match else ""
    if not match or not ("." in host or ":" in host or host == "localhost"):
        # The address is not shown, because a password written into it would end up in a log.
        raise InputError(f"got no registry address, need {SCHEME}REGISTRY/NAME:TAG or @sha256:DIGEST in place of :TAG")
    return Reference(host, match["name"], match["tag"] or "latest", match["digest"])


class _Registry:
    """One repository of a registry."""

    def __init__(self, reference: Reference, url: str) -> None:
        oras_logger.set_level(logging.CRITICAL)
        self._reference, self._url = reference, url
        # As Docker does: a registry on this machine needs no TLS.
        self._is_insecure = _LOOPBACK.fullmatch(reference.host) is not None
        self._base = f"{'http' if self._is_insecure else 'https'}://{reference.host}/v2/{reference.name}/"
        self._session = OrasClient(insecure=self._is_insecure).session
        # oras sets no timeout, for tokens neither.
        self._session.request = partial(self._session.request, timeout=_TIMEOUT_S)
        self._authorization: dict[str, str] = {}

    def upload(self, digest: str, blob: Archive | bytes) -> None:
        """Upload the blob unless it is there."""
        with self._reaching():
            if self._request("HEAD", f"blobs/{digest}", expected=(200, 404)).status_code == 200:
                return
            begun = self._request("POST", "blobs/uploads/", expected=(202,))
            place = urljoin(str(begun.url), begun.headers.get("location", ""))
            place += ("&" if urlsplit(place).query else "?") + urlencode({"digest": digest})
            headers = {"content-type": "application/octet-stream", "content-length": str(len(blob))}
            self._request("PUT", place, expected=(201,), data=blob, headers=headers)

    def put_manifest(self, manifest: bytes) -> None:
        """Let the reference's tag lead to this manifest."""
        headers = {"content-type": MANIFEST_TYPE}
        with self._reaching():
            self._request("PUT", f"manifests/{self._reference.tag}", expected=(201,), data=manifest, headers=headers)

    def manifest(self) -> ImageManifest:
        """Return the manifest that the reference leads to."""
        wanted = self._reference.digest
        with self._reaching():
            path, headers = f"manifests/{wanted or self._reference.tag}", {"accept": MANIFEST_TYPE}
            with self._request("GET", path, expected=(200,), headers=headers, stream=True) as answer:
                data = _start(answer, _MAX_MANIFEST_BYTES)
        if wanted and wanted != f"sha256:{sha256_bytes(data)}":
            got = f"got a manifest with the sha256 {sha256_bytes(data)[:12]}…"
            raise BundleError(f"{self._url}: {got}, need the one of its address")
        try:
            return ImageManifest.model_validate_json(data)
        except ValidationError as error:
            fault = error.errors(include_input=False)[0]
            place = ".".join(map(str, fault["loc"]))[:100]
            need = "need an image that simile push has written"
            raise BundleError(f"{self._url}: {': '.join(filter(None, (place, fault['msg'])))[:200]}, {need}") from error

    @contextmanager
    def blob(self, digest: str) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of a blob, unverified and in chunks."""
        with self._reaching(), self._request("GET", f"blobs/{digest}", expected=(200,), stream=True) as answer:
            yield answer.iter_content(_CHUNK_BYTES)

    def _request(self, method: str, path: str, *, expected: Collection[int], **options: Any) -> Response:
        """Return the answer, after authentication where the registry asks for it."""
        address = urljoin(self._base, path)
        headers = options.pop("headers", {})
        # A body cannot be sent to where a registry redirects an upload; ours do not.
        send = partial(self._session.request, method, address, allow_redirects=method in ("GET", "HEAD"), **options)
        is_ours = urlsplit(address).netloc == self._reference.host
        answer: Response = send(headers=headers | (self._authorization if is_ours else {}))
        if answer.status_code == 401 and is_ours:
            self._authorization = self._authorized(answer)
            answer.close()
            answer = send(headers=headers | self._authorization)
        if answer.status_code not in expected:
            raise self._refusal(answer)
        return answer

    def _authorized(self, answer: Response) -> dict[str, str]:
        """Return the header by which the registry will know who asks; empty where there are no credentials."""
        challenge = answer.headers.get("www-authenticate", "").lower()
        backend = "basic" if challenge.startswith("basic") else "token"
        auth = get_auth_backend(backend, self._session, insecure=self._is_insecure)
        folder = os.environ.get("DOCKER_CONFIG")
        try:
            # oras itself knows ~/.docker only.
            auth.load_configs(
                Container(f"{self._reference.host}/{self._reference.name}"),
                configs=[f"{folder}/config.json"] if folder else None,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(f"{self._url}: Docker's config.json cannot be read, need one by docker login") from error
        try:
            headers, _ = auth.authenticate_request(answer, {})
        # oras has no credentials for Basic, or was told no realm.
        except AttributeError:
            return {}
        return {name: value for name, value in headers.items() if name == "Authorization"}

    def _refusal(self, answer: Response) -> Exception:
        status, reason = answer.status_code, f"{answer.status_code} {_error_code(answer)}".strip()
        if status in (401, 403):
            need = f"need credentials that may do this: docker login {self._reference.host}"
            return InputError(f"{self._url}: access denied ({reason}), {need}")
        if status == 404:
            return InputError(f"{self._url}: no such bundle or registry ({reason})")
        if status in _RETRYABLE_STATUSES:
            return StoppedError(f"{self._url}: cannot be used now ({reason}); run the command again to continue")
        return InputError(f"{self._url}: refused ({reason})")

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Translate exceptions of requests into Simile's; their texts are not shown, because they may quote a token."""
        try:
            yield
        except SSLError as error:
            raise InputError(f"{self._url}: got no valid TLS certificate ({type(error).__name__})") from error
        except RequestException as error:
            got = f"{self._url}: cannot be reached now ({type(error).__name__})"
            raise StoppedError(f"{got}; run the command again to continue") from error


def _start(answer: Response, max_bytes: int) -> bytes:
    """Return the answer's body, or its first bytes if it has more than ``max_bytes``."""
    data = bytearray()
    for chunk in answer.iter_content(_CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            break
    return bytes(data[:max_bytes])


def _error_code(answer: Response) -> str:
    """Return the code of the error, such as MANIFEST_UNKNOWN, if the registry says one."""
    try:
        code = json.loads(_start(answer, _CHUNK_BYTES))["errors"][0]["code"]
    except (RequestException, ValueError, LookupError, TypeError):
        return ""
    return code if isinstance(code, str) and re.fullmatch("[A-Z_]{1,40}", code) else ""
