"""Bundles that arrive from elsewhere: whole and verified at their place, or not at all."""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from simile.artifacts.bundle import Bundle
from simile.artifacts.bundle_files import read_bundle
from simile.errors import BundleError
from simile.files import require_writable, sync, temporary_beside, tree

Check = Callable[[Path], object]
"""Raises a `BundleError` for a folder with a bundle that is no good."""


@contextmanager
def arriving(path: Path, source: str) -> Iterator[Path]:
    """Yield a new folder beside ``path`` to write a bundle into; errors about a file in it name ``source``."""
    require_writable(path, directory=True)
    with temporary_beside(path) as temporary:
        folder = temporary / "bundle"
        folder.mkdir()
        try:
            yield folder
        except BundleError as error:
            raise BundleError(str(error).replace(str(folder), source)) from error


def place(folder: Path, path: Path, check: Check) -> Bundle:
    """Move the folder with a bundle to ``path`` once it is verified, and return the bundle that is there then."""
    bundle = read_bundle(folder)
    check(folder)
    try:
        sync(tree(folder))
        folder.rename(path)
        sync([path.parent])
    except OSError as error:
        # Another process that fetches the same bundle may have been faster.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not (there := present(path, bundle.manifest.digest, check)):
            raise
        return there
    return bundle


def present(path: Path, digest: str, check: Check) -> Bundle | None:
    """Return the bundle if it is at the path already, or None if nothing is; anything else is refused."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    try:
        bundle = read_bundle(path)
        if bundle.manifest.digest == digest:
            check(path)
    except BundleError as error:
        raise BundleError(f"{error}; remove {path} and pull again") from error
    if bundle.manifest.digest != digest:
        raise BundleError(f"{path}: holds {bundle.identity}, need a new or empty directory")
    return bundle
