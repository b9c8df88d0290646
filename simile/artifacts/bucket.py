"""Bundles in a bucket, each in a folder named by its digest. Any fsspec URL works; s3:// and file:// are tested.

The bucket's own client finds credentials in the environment (botocore's variables, web identity and files). No argument
takes any, and messages of the client that quote the environment are not passed on.
"""

import errno
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError, HTTPClientError, NoCredentialsError
from botocore.exceptions import ConnectionError as NoConnectionError
from fsspec.core import url_to_fs

from simile.artifacts.bundle import CARD, EVALUATION, MANIFEST, TEXTS, Bundle, Manifest
from simile.artifacts.bundle_files import listed_files, read_bundle, read_manifest
from simile.errors import BundleError, InputError, StoppedError

_RETRYABLE_STATUSES = {408, 409, 429, *range(500, 600)}


def push_bundle(path: Path, url: str) -> str:
    """Write the bundle into a folder under ``url`` named by its digest, and return the folder's address.

    Files that are there already are not written again. The manifest is written last: a folder without one is no bundle.

    Raises:
        InputError: there is no such bundle or bucket, or writing to it is not permitted.
        StoppedError: the bucket cannot be reached now.
    """
    bundle = read_bundle(path)
    files = dict(bundle.data)
    for name in (EVALUATION, CARD, TEXTS, MANIFEST):
        with suppress(FileNotFoundError):
            files[name] = (bundle.path / name).read_bytes()
    address = f"{url.rstrip('/')}/{bundle.manifest.digest}"
    with _reaching(address):
        bucket, root = _open(address)
        sizes = {file: info["size"] for file, info in bucket.find(root, detail=True).items()}
        for name, data in files.items():
            file = f"{root}/{name}"
            # The bytes are compared, because an evaluation may be newer and an object may be damaged.
            if sizes.get(file) != len(data) or bucket.cat_file(file) != data:
                bucket.pipe_file(file, data)
    return address


def pull_bundle(url: str, path: Path) -> str:
    """Fetch the bundle at ``url`` to ``path``, verified and as a whole or not at all, and return its identity.

    A bundle that is there already stays. Several processes may fetch to one path at once.

    Raises:
        InputError: there is no such bundle, reading it is not permitted, or ``path`` holds something else.
        BundleError: it is damaged, or its digest is not the one that the address ends with.
        StoppedError: the bucket cannot be reached now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        folder = Path(temporary, "bundle")
        folder.mkdir()
        try:
            with _reaching(url):
                bucket, root = _open(url)
                bucket.get_file(f"{root}/{MANIFEST}", str(folder / MANIFEST))
                manifest = read_manifest(folder, folder)
                # Anyone with write access could have put another bundle there.
                digest = url.rstrip("/").rpartition("/")[2]
                if re.fullmatch("[0-9a-f]{64}", digest) and digest != manifest.digest:
                    got = f"{url}: got a bundle with the digest {manifest.digest[:12]}…"
                    raise BundleError(f"{got}, need the one of its address")
                if there := _bundle_at(path, manifest):
                    return there.identity
                for name in listed_files(folder, manifest):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    bucket.get_file(f"{root}/{name}", str(folder / name))
                for name in (EVALUATION, CARD, TEXTS):
                    with suppress(FileNotFoundError):
                        bucket.get_file(f"{root}/{name}", str(folder / name))
            fetched = read_bundle(folder)
        except BundleError as error:
            raise BundleError(str(error).replace(str(folder), url)) from error
        try:
            folder.rename(path)
        except OSError as error:
            # Another process that fetches the same bundle may have been faster.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not _bundle_at(path, manifest):
                raise
    return fetched.identity


def _bundle_at(path: Path, manifest: Manifest) -> Bundle | None:
    """Return the bundle if it is at the path already, or None if nothing is; anything else is refused."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    try:
        present = read_bundle(path)
    except BundleError as error:
        raise BundleError(f"{error}; remove {path} and pull again") from error
    if present.manifest.digest != manifest.digest:
        raise BundleError(f"{path}: holds {present.identity}, need a new or empty directory")
    return present


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of the address and the path in it."""
    if not re.fullmatch(r"[a-z][a-z0-9]*://[^@?#\s]+", url):
        # The address is not shown, because a key written into it would end up in a log.
        raise InputError("got no bucket address, need s3://BUCKET/FOLDER (or file:///FOLDER) without credentials")
    # A bucket has no folders to make.
    options = {"auto_mkdir": True} if url.startswith("file:") else {}
    try:
        bucket, root = url_to_fs(url.rstrip("/"), use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}") from error
    return bucket, root.rstrip("/")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Translate exceptions of the bucket's client into Simile's."""
    try:
        yield
    except NoCredentialsError as error:
        need = "need AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web identity"
        raise InputError(f"{url}: got no credentials, {need}") from error
    except (NoConnectionError, HTTPClientError, ClientError, TimeoutError) as error:
        # Only the name is shown: the text quotes AWS_ENDPOINT_URL, which may contain a password.
        reason = type(error).__name__
        raise StoppedError(f"{url}: cannot be reached now ({reason}); run the command again to continue") from error
    except BotoCoreError as error:
        raise InputError(f"{url}: {error}") from error
    except ValueError as error:
        # The text is not shown, because it quotes the settings.
        raise InputError(f"{url}: got an invalid AWS_ENDPOINT_URL or other AWS_ setting") from error
    except RecursionError as error:
        raise InputError(f"{url}: redirected too often, need the bucket's AWS_DEFAULT_REGION") from error
    except OSError as error:
        reason, answer = error.strerror or str(error), getattr(error.__cause__, "response", None)
        if isinstance(error, FileNotFoundError | PermissionError):
            got = "access denied" if isinstance(error, PermissionError) else "no such bundle or bucket"
            raise InputError(f"{url}: {got} ({reason})") from error
        if answer is None:
            # The error concerns local files.
            raise
        if answer["ResponseMetadata"]["HTTPStatusCode"] in _RETRYABLE_STATUSES:
            raise StoppedError(f"{url}: cannot be used now ({reason}); run the command again to continue") from error
        raise InputError(f"{url}: refused ({reason})") from error
