"""Bundles in a bucket, each in a folder that its digest names: whatever fsspec reaches, tried with s3:// and file://.

Credentials are the business of the bucket's own client, which finds them in the environment (botocore's variables, web
identity and files): no argument takes any, and what its messages quote of the environment is not passed on.
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

from simile.artifacts.bundle import CARD, EVALUATION, MANIFEST, Bundle, Manifest
from simile.artifacts.bundle_files import listed_files, read_bundle, read_manifest
from simile.errors import BundleError, InputError, StoppedError

_TRY_AGAIN = (408, 409, 429)
"""HTTP's statuses below 500 that say so."""
_OF_THE_SERVER = 500


def push_bundle(path: Path, url: str) -> str:
    """Write the bundle into a folder under ``url`` that its digest names, and return the folder's address.

    What is there as it should be is not written again. The manifest goes last: a folder without one is no bundle.

    Raises:
        InputError: there is no such bundle or bucket, or it may not be written to.
        StoppedError: the bucket cannot be reached now.
    """
    bundle = read_bundle(path)
    files = dict(bundle.data)
    for name in (EVALUATION, CARD, MANIFEST):
        with suppress(FileNotFoundError):
            files[name] = (bundle.path / name).read_bytes()
    address = f"{url.rstrip('/')}/{bundle.manifest.digest}"
    with _reaching(address):
        bucket, root = _open(address)
        found = {file: info["size"] for file, info in bucket.find(root, detail=True).items()}
        for name, data in files.items():
            file = f"{root}/{name}"
            # Its bytes: an evaluation may be a later one, and an object may be damaged.
            if found.get(file) != len(data) or bucket.cat_file(file) != data:
                bucket.pipe_file(file, data)
    return address


def pull_bundle(url: str, path: Path) -> str:
    """Fetch the bundle at ``url`` to ``path``, verified and whole or not at all, and return its identity.

    Where it is already, it stays; several may fetch it to one place at once.

    Raises:
        InputError: there is no such bundle, it may not be read, or ``path`` holds something else.
        BundleError: it is damaged, or not the one whose digest the address ends with.
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
                _check_named(url, manifest)
                if there := _bundle_at(path, manifest):
                    return there.identity
                _fetch_files(bucket, root, folder, manifest)
            fetched = read_bundle(folder)
        except BundleError as error:
            raise BundleError(str(error).replace(str(folder), url)) from error
        try:
            folder.rename(path)
        except OSError as error:
            # Whoever fetches the same at the same time may be faster.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not _bundle_at(path, manifest):
                raise
    return fetched.identity


def _check_named(url: str, manifest: Manifest) -> None:
    """Refuse another bundle than the one that the address names: who may write there could put any."""
    name = url.rstrip("/").rpartition("/")[2]
    if re.fullmatch("[0-9a-f]{64}", name) and name != manifest.digest:
        raise BundleError(f"{url}: got a bundle with the digest {manifest.digest[:12]}…, need the one of its address")


def _fetch_files(bucket: Any, root: str, folder: Path, manifest: Manifest) -> None:
    for name in listed_files(folder, manifest):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        bucket.get_file(f"{root}/{name}", str(file))
    for name in (EVALUATION, CARD):
        with suppress(FileNotFoundError):
            bucket.get_file(f"{root}/{name}", str(folder / name))


def _bundle_at(path: Path, manifest: Manifest) -> Bundle | None:
    """Return the bundle where it is there already, None where nothing is; what else is there is never replaced."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    try:
        found = read_bundle(path)
    except BundleError as error:
        raise BundleError(f"{error}; remove {path} and pull again") from error
    if found.manifest.digest != manifest.digest:
        raise BundleError(f"{path}: holds {found.identity}, need a new or empty directory")
    return found


def _open(url: str) -> tuple[Any, str]:
    """Return the file system of the address, and the path in it."""
    if not re.fullmatch(r"[a-z][a-z0-9]*://[^@?#\s]+", url):
        # Not shown: whoever writes a key into it would find it in a log.
        raise InputError("got no address of a bucket, need s3://BUCKET/FOLDER (or file:///FOLDER), without credentials")
    # A bucket has no folders to make.
    options = {"auto_mkdir": True} if url.startswith("file:") else {}
    try:
        bucket, root = url_to_fs(url.rstrip("/"), use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise InputError(f"{url}: {error}") from error
    return bucket, root.rstrip("/")


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turn what the bucket's client raises into errors of ours."""
    try:
        yield
    except NoCredentialsError as error:
        raise InputError(
            f"{url}: got no credentials, need AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a web identity"
        ) from error
    except (NoConnectionError, HTTPClientError, ClientError, TimeoutError) as error:
        # By its name only: its text quotes AWS_ENDPOINT_URL, in which some write a password.
        reason = type(error).__name__
        raise StoppedError(f"{url}: cannot be reached now ({reason}); the same command goes on") from error
    except BotoCoreError as error:
        raise InputError(f"{url}: {error}") from error
    except ValueError as error:
        # Not its text, which quotes them.
        raise InputError(
            f"{url}: got an AWS_ENDPOINT_URL that is no address, or another AWS_ setting that is no value"
        ) from error
    except RecursionError as error:
        raise InputError(f"{url}: sent elsewhere again and again, need the bucket's AWS_DEFAULT_REGION") from error
    except OSError as error:
        raise _of_answer(url, error) from error


def _of_answer(url: str, error: OSError) -> Exception:
    """Return the error to raise for one of fsspec's, or itself where it is of this machine's files."""
    reason = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        return InputError(f"{url}: no such bundle or bucket ({reason})")
    if isinstance(error, PermissionError):
        return InputError(f"{url}: may not be read or written ({reason})")
    answer = getattr(error.__cause__, "response", None)
    if answer is None:
        return error
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    if status in _TRY_AGAIN or status >= _OF_THE_SERVER:
        return StoppedError(f"{url}: cannot be used now ({reason}); the same command goes on")
    return InputError(f"{url}: refused ({reason})")
