"""Bundles on disk: read and verified as a whole, written as a whole or not at all."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from simile.artifacts.bundle import CARD, EVALUATION, MANIFEST, NAME, SCHEMA_VERSION, TEXTS, Bundle, FileEntry, Manifest
from simile.artifacts.card import model_card
from simile.artifacts.evaluation_report import EvaluationReport, StoredEvaluations
from simile.artifacts.texts import texts_content
from simile.errors import BundleError
from simile.files import sha256_bytes, whole_directory, write_whole

_OWN = {MANIFEST, EVALUATION, CARD, TEXTS}
"""Files that the manifest does not list."""


def read_bundle(path: Path) -> Bundle:
    """Return the bundle at ``path`` after reading and verifying every file.

    Raises:
        BundleError: there is none, it is damaged or of an unknown version, or it holds links or unlisted files.
    """
    root = path.resolve()
    manifest = read_manifest(path, root)
    entries = listed_files(path, manifest)
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            file = Path(folder, name)
            relative = file.relative_to(root).as_posix()
            if file.is_symlink():
                raise BundleError(f"{path}: {relative} is a link, need plain files only")
            if name in files and relative not in entries.keys() | _OWN:
                raise BundleError(f"{path}: holds {relative}, which its manifest does not list")
    data = {}
    for name, entry in entries.items():
        try:
            data[name] = _verified(path, entry, (root / name).read_bytes())
        except OSError as error:
            raise BundleError(f"{path}: {name} is listed but cannot be read ({error.strerror})") from error
    return Bundle(root, manifest, data)


def read_manifest(path: Path, root: Path) -> Manifest:
    """Return the manifest in ``root``, or raise a `BundleError` that names ``path``."""
    file = root / MANIFEST
    if not root.is_dir():
        raise BundleError(f"{path}: no such bundle (need a directory with {MANIFEST})")
    if not file.is_file() or file.is_symlink():
        raise BundleError(f"{path}: not a bundle, it has no {MANIFEST}")
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: no valid JSON ({error})") from error
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version != SCHEMA_VERSION:
        raise BundleError(f"{file}: got schema version {version!r}, this Simile reads {SCHEMA_VERSION}")
    try:
        return Manifest.model_validate(value)
    except ValidationError as error:
        raise BundleError(f"{file}: {_first_fault(error)}") from error


def listed_files(path: Path, manifest: Manifest) -> dict[str, FileEntry]:
    """Return the manifest's files by path; each path stays inside the bundle and has one content."""
    entries: dict[str, FileEntry] = {}
    for entry in (entry for member in manifest.members for entry in member.files):
        name = PurePosixPath(entry.path)
        is_plain = name.as_posix() == entry.path and not name.is_absolute() and not set("\\\0") & set(entry.path)
        if not is_plain or ".." in name.parts or entry.path in _OWN:
            raise BundleError(f"{path}: the manifest lists {entry.path!r}, need a plain path inside the bundle")
        if entries.setdefault(entry.path, entry) != entry:
            raise BundleError(f"{path}: the manifest lists {entry.path} with two contents, need one")
    return entries


def _verified(path: Path, entry: FileEntry, data: bytes) -> bytes:
    if (digest := sha256_bytes(data)) != entry.sha256:
        raise BundleError(f"{path}: {entry.path} is damaged, got sha256 {digest[:12]}…, need {entry.sha256[:12]}…")
    return data


def stored_evaluations(bundle: Bundle) -> tuple[EvaluationReport, ...]:
    """Return the evaluation reports in the bundle, the latest last, or raise a `BundleError` where they are damaged."""
    file = bundle.path / EVALUATION
    try:
        return StoredEvaluations.model_validate_json(file.read_bytes()).reports
    except FileNotFoundError:
        return ()
    except ValidationError as error:
        fault = _first_fault(error)
        raise BundleError(f"{file}: no valid evaluation ({fault}); remove it and evaluate again") from error


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))


def write_bundle(
    path: Path, manifest: Manifest, data: Mapping[str, bytes], training_hashes: Iterable[str] | None = None
) -> Bundle:
    """Write the bundle as a whole or not at all, and return it as `read_bundle` would.

    ``training_hashes`` are the hashes of its training texts (`text_hash`), None where it has none or they are unknown.

    Raises:
        BundleError: data or hashes do not match the manifest, or ``path`` holds something other than a bundle.
    """
    texts = None if training_hashes is None else texts_content(training_hashes)
    if texts is not None and getattr(manifest.made, "texts", None) != sha256_bytes(texts.encode()):
        raise BundleError(f"{path}: got hashes of other training texts than the manifest states")
    listed = listed_files(path, manifest)
    if set(listed) != set(data):
        raise BundleError(f"{path}: got files {sorted(data)}, the manifest lists {sorted(listed)}")
    for name, entry in listed.items():
        _verified(path, entry, data[name])
    check_replaceable(path)
    with whole_directory(path) as folder:
        for name, content in data.items():
            write_whole(folder / name, content)
        if texts is not None:
            write_whole(folder / TEXTS, texts)
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
