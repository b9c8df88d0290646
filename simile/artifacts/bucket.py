"""Bundles in a bucket, each in a folder named by its digest. Any fsspec URL works; s3:// and file:// are tested.

The bucket's own client finds credentials in the environment (botocore's variables, web identity and files). No argument
takes any, and messages of the client that quote the environment are not passed on.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from simile.artifacts.arrival import Check, arriving, place, present
from simile.artifacts.bundle import CARD, EVALUATION, MANIFEST, SIGNATURE, TEXTS
from simile.artifacts.bundle_files import listed_files, read_bundle, read_manifest
from simile.artifacts.json_file import MAX_BYTES
from simile.artifacts.object_store import open_url, reaching
from simile.errors import BundleError
from simile.files import sweep, write_whole

_MAX_TEXTS_BYTES = 2**30
"""Most bytes of the hashes of training texts: 16 million texts."""


def push_bundle(path: Path, url: str) -> str:
    """Write the bundle into a folder under ``url`` named by its digest, and return the folder's address.

    Files that are there already are not written again. The manifest is written last: a folder without one is no bundle.

    Raises:
        InputError: there is no such bundle or bucket, or writing to it is not permitted.
        StoppedError: the bucket cannot be reached now.
    """
    bundle = read_bundle(path)
    own = [name for name in (EVALUATION, CARD, TEXTS, SIGNATURE, MANIFEST) if (bundle.path / name).exists()]
    address = f"{url.rstrip('/')}/{bundle.manifest.digest}"
    with reaching(address):
        bucket, root = open_url(address)
        is_local = url.startswith("file:")
        if is_local:
            sweep(Path(root))
        sizes = {file: info["size"] for file, info in bucket.find(root, detail=True).items()}
        for name in (*bundle.data, *own):
            data = (bundle.path / name).read_bytes() if name in own else bundle.data[name]
            file = f"{root}/{name}"
            # The bytes are compared, because an evaluation may be newer and an object may be damaged.
            if sizes.get(file) != len(data) or bucket.cat_file(file) != data:
                # A bucket replaces an object as a whole by itself.
                write_whole(Path(file), data) if is_local else bucket.pipe_file(file, data)
    return address


def pull_bundle(url: str, path: Path, check: Check) -> str:
    """Fetch the bundle at ``url`` to ``path``, verified and as a whole or not at all, and return its identity.

    A bundle that is there already stays. Several processes may fetch to one path at once. ``check`` is called with the
    folder of the fetched bundle before that is moved to its path, or with the path of the one that is there.

    Raises:
        InputError: there is no such bundle, reading it is not permitted, or ``path`` holds something else.
        BundleError: it is damaged, or its digest is not the one that the address ends with.
        StoppedError: the bucket cannot be reached now.
    """
    with arriving(path, url) as folder:
        with reaching(url):
            bucket, root = open_url(url)
            _fetch(bucket, f"{root}/{MANIFEST}", folder / MANIFEST, MAX_BYTES)
            manifest, _ = read_manifest(folder, folder)
            # Anyone with write access could have put another bundle there.
            digest = url.rstrip("/").rpartition("/")[2]
            if re.fullmatch("[0-9a-f]{64}", digest) and digest != manifest.digest:
                got = f"{url}: got a bundle with the digest {manifest.digest[:12]}…"
                raise BundleError(f"{got}, need the one of its address")
            if there := present(path, manifest.digest, check):
                return there.identity
            for name, entry in listed_files(folder, manifest).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                _fetch(bucket, f"{root}/{name}", folder / name, entry.size_bytes)
            for name in (EVALUATION, CARD, TEXTS, SIGNATURE):
                with suppress(FileNotFoundError):
                    max_bytes = _MAX_TEXTS_BYTES if name == TEXTS else MAX_BYTES
                    _fetch(bucket, f"{root}/{name}", folder / name, max_bytes)
        return place(folder, path, check).identity


def _fetch(bucket: Any, source: str, file: Path, max_bytes: int) -> None:
    """Fetch one file, unless the bucket says that it is larger than it may be."""
    if (size := bucket.size(source)) > max_bytes:
        raise BundleError(f"{source}: got {size} bytes, need at most {max_bytes}")
    bucket.get_file(source, str(file))
