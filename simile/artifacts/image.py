"""The OCI image of a bundle: what Kubernetes mounts as an image volume, and what `simile pull` reads.

It is an image and no artifact of a type of its own, because containerd mounts only what has an image's config, whose
`diff_ids` name the layers (https://github.com/containerd/containerd/issues/11907). The bundle lies in `models/`, where
KServe looks for it. The first layer holds the files that the manifest lists, the second one all others, so that signing
or evaluating changes the second one only. Layers are not compressed: their bytes depend on the files alone.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, Field

from simile.artifacts.bundle import CARD, EVALUATION, MANIFEST, SIGNATURE, TEXTS, Bundle, Sha256
from simile.errors import BundleError
from simile.files import sha256_bytes

FOLDER = "models"
"""The folder of the image that holds the bundle."""
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_DIGEST = "simile.digest"
"""The annotation that states the bundle's digest."""
_TITLE = "org.opencontainers.image.title"
_ALL_FILES = 0o644
_ALL_FOLDERS = 0o755


class Archive:
    """A tar archive of files, which is written anew, file by file, each time that it is iterated over."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        digest, self._size = hashlib.sha256(), 0
        for part in self:
            digest.update(part)
            self._size += len(part)
        self.sha256 = digest.hexdigest()

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        names = sorted(self._files)
        folders = {PurePosixPath(FOLDER, parent) for name in names for parent in PurePosixPath(name).parents}
        for folder in sorted(folders):
            yield _header(f"{folder}/", tarfile.DIRTYPE, _ALL_FOLDERS, 0)
        for name in names:
            data = self._files[name]
            yield _header(f"{FOLDER}/{name}", tarfile.REGTYPE, _ALL_FILES, len(data))
            yield data
            yield bytes(-len(data) % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    """Return the header of a file or folder of root and of no time."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size = kind, mode, size
    return entry.tobuf()


class Image(NamedTuple):
    """A bundle as an image that can be uploaded: first the layers and the config, then the manifest."""

    layers: tuple[Archive, ...]
    config: bytes
    manifest: bytes


def image_of(bundle: Bundle) -> Image:
    """Return the bundle's image.

    Raises:
        BundleError: a file of the bundle has changed since it was read.
    """
    names = [name for name in (MANIFEST, EVALUATION, CARD, TEXTS, SIGNATURE) if (bundle.path / name).exists()]
    own = {name: (bundle.path / name).read_bytes() for name in names}
    if sha256_bytes(own[MANIFEST]) != bundle.manifest_sha256:
        raise BundleError(f"{bundle.path}: {MANIFEST} was changed meanwhile; run the command again")
    layers = Archive(bundle.data), Archive(own)
    digests = [f"sha256:{layer.sha256}" for layer in layers]
    # A bundle runs nowhere, but every image names a platform.
    config = _canonical(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}, "config": {}}
    )
    described = [
        {"mediaType": _LAYER_TYPE, "digest": digest, "size": len(layer)}
        for digest, layer in zip(digests, layers, strict=True)
    ]
    config_entry = {"mediaType": _CONFIG_TYPE, "digest": f"sha256:{sha256_bytes(config)}", "size": len(config)}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_entry,
        "layers": described,
        "annotations": {_TITLE: bundle.manifest.name, _DIGEST: bundle.manifest.digest},
    }
    return Image(layers, config, _canonical(manifest))


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class LayerEntry(BaseModel):
    """What the manifest of an image says of a layer."""

    media_type: Annotated[Literal["application/vnd.oci.image.layer.v1.tar"], Field(alias="mediaType")]
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0, lt=2**40)]


class _Annotations(BaseModel):
    digest: Annotated[Sha256, Field(alias=_DIGEST)]


class ImageManifest(BaseModel):
    """The manifest of a bundle's image, as far as `simile pull` needs it."""

    layers: Annotated[tuple[LayerEntry, ...], Field(min_length=1, max_length=100)]
    annotations: _Annotations
