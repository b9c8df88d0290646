"""Bundles on disk: read and verified as a whole, written as a whole or not at all."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from simile.artifacts.bundle import (
    CARD,
    EVALUATION,
    MANIFEST,
    NAME,
    SCHEMA_VERSION,
    SIGNATURE,
    TEXTS,
    Bundle,
    FileEntry,
    Manifest,
)
from simile.artifacts.card import model_card
from simile.artifacts.evaluation_report import BundleReport, StoredEvaluations
from simile.artifacts.json_file import parsed_json, read_bounded, read_model, validated
from simile.artifacts.text_hashes import texts_content, texts_digest
from simile.errors import BundleError, InputError
from simile.files import is_temporary, require_writable, sha256_bytes, whole_directory, write_whole

_OWN = {MANIFEST, EVALUATION, CARD, TEXTS, SIGNATURE}
"""Files that the manifest does not list."""
PLAIN_PATH = r"(?=.{1,255}$)[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*"


class _Files(Mapping[str, bytes]):
    """The files of a bundle by their path in the manifest; what is returned is what was hashed."""

    def __init__(self, path: Path, root: Path, entries: Mapping[str, FileEntry]) -> None:
        self._path, self._root, self._entries = path, root, entries

    def __getitem__(self, name: str) -> bytes:
        with self._opened(name) as file:
            data = file.read(self._entries[name].size_bytes)
        _require_sha256(self._path, self._entries[name], sha256_bytes(data))
        return data

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def verify(self) -> None:
        """Hash every file, none of which is in memory as a whole."""
        for name, entry in self._entries.items():
            with self._opened(name) as file:
                _require_sha256(self._path, entry, hashlib.file_digest(file, "sha256").hexdigest())

    @contextmanager
    def _opened(self, name: str) -> Iterator[BufferedReader]:
        need = self._entries[name].size_bytes
        try:
            with _open_regular(self._root / name) as file:
                if (size := os.fstat(file.fileno()).st_size) != need:
                    raise BundleError(f"{self._path}: {name} is damaged, got {size} bytes, need {need}")
                yield file
        except OSError as error:
            raise BundleError(f"{self._path}: {name} is listed but cannot be read ({error.strerror})") from error


def read_bundle(path: Path) -> Bundle:
    """Return the bundle at ``path`` after verifying every file.

    Raises:
        BundleError: there is none, it is damaged or of an unknown version, or it holds links or unlisted files.
    """
    try:
        # Path.resolve raises a RuntimeError for links that lead in a circle.
        root = Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: no such bundle ({error})") from error
    manifest, manifest_sha256 = read_manifest(path, root)
    entries = listed_files(path, manifest)
    for folder, folders, files in os.walk(root):
        # An evaluation of this bundle may be writing its report.
        folders[:] = [name for name in folders if not is_temporary(name)]
        for name in folders + files:
            file = Path(folder, name)
            relative = file.relative_to(root).as_posix()
            if file.is_symlink():
                raise BundleError(f"{path}: {relative} is a link, need plain files only")
            if name in files and relative not in entries.keys() | _OWN:
                raise BundleError(f"{path}: holds {relative}, which its manifest does not list")
            if name in files and not file.is_file():
                raise BundleError(f"{path}: {relative} is a device, FIFO or socket, need plain files only")
    data = _Files(path, root, entries)
    data.verify()
    return Bundle(root, manifest, data, manifest_sha256)


def read_manifest(path: Path, root: Path) -> tuple[Manifest, str]:
    """Return the manifest in ``root`` and the SHA-256 of its file, or raise a `BundleError` that names ``path``."""
    file = root / MANIFEST
    try:
        if not root.is_dir():
            raise BundleError(f"{path}: no such bundle (need a directory with {MANIFEST})")
        if not file.is_file() or file.is_symlink():
            raise BundleError(f"{path}: not a bundle, it has no {MANIFEST}")
        data = read_bounded(file)
        value = parsed_json(file, data)
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror})") from error
    except InputError as error:
        raise BundleError(str(error)) from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        got = f"{file}: got schema version {repr(version)[:40]}, this Simile reads {SCHEMA_VERSION}"
        raise BundleError(f"{got}; make the bundle anew" if version in range(SCHEMA_VERSION) else got)
    try:
        return validated(value, Manifest, file), sha256_bytes(data)
    except InputError as error:
        raise BundleError(str(error)) from error


def require_digest(bundle: Bundle, digest: str | None) -> None:
    """Refuse, by a `BundleError`, a bundle whose digest is not the given one (``sha256:…``, or the 64 digits alone)."""
    if digest and digest.rpartition("sha256:")[2] != bundle.manifest.digest:
        raise BundleError(f"{bundle.path}: got the digest {bundle.manifest.digest}, need {digest}")


def listed_files(path: Path, manifest: Manifest) -> dict[str, FileEntry]:
    """Return the manifest's files by path; each path stays inside the bundle and has one content."""
    entries: dict[str, FileEntry] = {}
    for entry in (entry for member in manifest.members for entry in member.files):
        if not re.fullmatch(PLAIN_PATH, entry.path) or entry.path in _OWN:
            got = f"{path}: the manifest lists {entry.path[:80]!r}"
            raise BundleError(f"{got}, need a plain path inside the bundle")
        if entries.setdefault(entry.path, entry) != entry:
            raise BundleError(f"{path}: the manifest lists {entry.path} with two contents, need one")
    return entries


def _open_regular(file: Path) -> BufferedReader:
    """Open a file to read; an ``OSError`` for a link, a folder, or what could block, such as a FIFO."""
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(file))
    return os.fdopen(descriptor, "rb")


def _require_sha256(path: Path, entry: FileEntry, digest: str) -> None:
    if digest != entry.sha256:
        raise BundleError(f"{path}: {entry.path} is damaged, got sha256 {digest[:12]}…, need {entry.sha256[:12]}…")


def stored_evaluations(bundle: Bundle) -> tuple[BundleReport, ...]:
    """Return the evaluation reports in the bundle, the latest last, or raise a `BundleError` where they are damaged."""
    file = bundle.path / EVALUATION
    try:
        return read_model(file, StoredEvaluations, "no valid evaluation, so remove it and evaluate again").reports
    except FileNotFoundError:
        return ()
    except InputError as error:
        raise BundleError(str(error)) from error


def write_bundle(
    path: Path, manifest: Manifest, data: Mapping[str, bytes], training_hashes: Collection[str] | None = None
) -> Bundle:
    """Write the bundle as a whole or not at all, and return it as `read_bundle` would.

    ``training_hashes`` are the hashes of its training texts (`text_hash`), None where it has none or they are unknown.

    Raises:
        BundleError: data or hashes do not match the manifest, or ``path`` holds something other than a bundle.
    """
    stated = getattr(manifest.made, "texts", None)
    if training_hashes is not None and stated != texts_digest(training_hashes):
        raise BundleError(f"{path}: got hashes of other training texts than the manifest states")
    listed = listed_files(path, manifest)
    if set(listed) != set(data):
        raise BundleError(f"{path}: got files {sorted(data)}, the manifest lists {sorted(listed)}")
    for name, entry in listed.items():
        _require_sha256(path, entry, sha256_bytes(data[name]))
    check_replaceable(path)
    with whole_directory(path) as folder:
        for name, content in data.items():
            write_whole(folder / name, content)
        if training_hashes is not None:
            with (folder / TEXTS).open("wb") as file:
                file.writelines(texts_content(training_hashes))
        write_whole(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
        write_whole(folder / CARD, model_card(manifest))
    return read_bundle(path)


def check_replaceable(path: Path) -> None:
    """Refuse, by a `BundleError`, a path whose last part is no valid name or that holds something other than a bundle.

    Commands call it before any work is done.
    """
    if not re.fullmatch(NAME, path.name):
        need = "need letters, digits, '.', '_' and '-', at most 64"
        raise BundleError(f"{path}: got a bundle named {path.name!r}, {need}")
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BundleError(f"{path}: is a file or a link, need a new directory for the bundle")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise BundleError(f"{path}: holds files that are not a bundle, need a new or empty directory")
    require_writable(path, directory=True)
