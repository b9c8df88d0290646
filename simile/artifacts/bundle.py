"""The bundle: a directory that holds everything a score needs, and the only definition of it.

manifest.json      what the bundle is; its canonical form is what the digest is taken of
members/<name>/    model.onnx, model.fp16.onnx, tokenizer.json    kind "encoder"
members/<name>/    lexical.npz                                    kind "lexical"
evaluation.json    what evaluation found; not part of the digest
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simile.errors import BundleError
from simile.files import sha256_bytes, whole_directory, write_whole

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
EVALUATION = "evaluation.json"

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
Name = Annotated[str, Field(pattern=_NAME)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FileEntry(_Strict):
    """One file of the bundle."""

    path: str
    """Relative to the bundle, with forward slashes."""
    sha256: Sha256
    size_bytes: int = Field(ge=0)


class EncoderMember(_Strict):
    """A text encoder: pooling and L2 normalisation are inside its graphs, output ``[B, D]``."""

    kind: Literal["encoder"] = "encoder"
    name: Name
    model: FileEntry
    model_fp16: FileEntry | None = None
    """For CUDA."""
    tokenizer: FileEntry
    base: str
    """The model it was made from, by its public name."""
    revision: str | None
    pooling: Literal["mean", "cls"]
    prompt: str = ""
    """Put before every text."""
    max_length: int = Field(ge=2)
    """In tokens, special tokens included; what is longer is cut."""
    pad_id: int = Field(ge=0)
    dimension: int = Field(ge=1)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the member."""
        return tuple(file for file in (self.model, self.model_fp16, self.tokenizer) if file)


class LexicalMember(_Strict):
    """A TF-IDF cosine (sublinear term frequency, smoothed inverse document frequency), as scikit-learn defines it."""

    kind: Literal["lexical"] = "lexical"
    name: Name
    vocabulary: FileEntry
    dimension: int = Field(ge=1)

    @property
    def files(self) -> tuple[FileEntry, ...]:
        """Every file of the member."""
        return (self.vocabulary,)


Member = Annotated[EncoderMember | LexicalMember, Field(discriminator="kind")]


class Combine(_Strict):
    """How the members' cosines become one score: their weighted mean."""

    method: Literal["mean", "learned"] = "mean"
    weights: dict[str, Annotated[float, Field(ge=0)]]
    """By member; they sum to 1."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> "Combine":
        if abs(sum(self.weights.values()) - 1) > 1e-6:
            raise ValueError(f"got weights that sum to {sum(self.weights.values()):g}, need 1")
        return self


class Calibration(_Strict):
    """Probability that a pair is positive: ``1 / (1 + exp(-(slope * score + intercept)))`` (Platt 1999)."""

    method: Literal["platt"] = "platt"
    slope: float
    intercept: float
    positive_share: float = Field(gt=0, lt=1)
    """Share of positives among the pairs it was fitted on."""


class Thresholds(_Strict):
    """Scores to decide at, found on the dev pairs."""

    best_f1: float
    precision_95: float | None
    """The lowest score from which on 95 % of the pairs are positive; None where no score reaches that."""


class GoldenPair(_Strict):
    """A pair of the project's own with the score that each member gave it when the bundle was made."""

    text_a: str
    text_b: str
    scores: dict[str, float]


class Manifest(_Strict):
    """What a bundle is."""

    schema_version: Literal[1] = 1
    name: Name
    members: tuple[Member, ...] = Field(min_length=1)
    combine: Combine
    calibration: Calibration | None = None
    thresholds: Thresholds | None = None
    golden: tuple[GoldenPair, ...]
    made: dict[str, Any]
    """How it was made: config without secrets and paths, seed, versions, data hashes."""

    @model_validator(mode="after")
    def _names_agree(self) -> "Manifest":
        names = [member.name for member in self.members]
        if len(set(names)) < len(names):
            raise ValueError(f"got members {names}, need one a name")
        if set(self.combine.weights) != set(names):
            raise ValueError(f"got weights for {sorted(self.combine.weights)}, need one for each of {sorted(names)}")
        if any(set(golden.scores) != set(names) for golden in self.golden):
            raise ValueError(f"got a golden pair without a score of each of {sorted(names)}")
        return self

    @property
    def digest(self) -> str:
        """The sha256 of the canonical manifest, which holds the sha256 of every file."""
        value = self.model_dump(mode="json")
        return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in memory: its files were read once, and what is here is what was hashed."""

    path: Path
    """Resolved, so that it stays the same where the caller's path is a link that moves."""
    manifest: Manifest
    data: Mapping[str, bytes]
    """The files' bytes, by their path in the manifest."""

    @property
    def identity(self) -> str:
        """``name@sha256:digest``."""
        return f"{self.manifest.name}@sha256:{self.manifest.digest}"


def read_bundle(path: Path) -> Bundle:
    """Return the bundle at ``path``, every file read and verified.

    Raises:
        BundleError: there is none, or it is damaged, of an unknown version, or holds links or files not listed.
    """
    root = path.resolve()
    manifest = _read_manifest(path, root)
    entries = _entries(path, manifest)
    _check_listed(root, path, set(entries))
    return Bundle(root, manifest, {name: _read_verified(root, path, entry) for name, entry in entries.items()})


def _read_manifest(path: Path, root: Path) -> Manifest:
    file = root / MANIFEST
    if not root.is_dir():
        raise BundleError(f"{path}: no such bundle (need a directory with {MANIFEST})")
    if not file.is_file() or file.is_symlink():
        raise BundleError(f"{path}: no bundle, it has no {MANIFEST}")
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
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{file}: {where + ': ' if where else ''}{first['msg']}") from error


def _entries(path: Path, manifest: Manifest) -> dict[str, FileEntry]:
    """Return the manifest's files by their path, each of which stays inside the bundle and stands for one content."""
    entries: dict[str, FileEntry] = {}
    for entry in (entry for member in manifest.members for entry in member.files):
        _check_entry_path(entry.path, path)
        if entries.setdefault(entry.path, entry) != entry:
            raise BundleError(f"{path}: the manifest lists {entry.path} with two contents, need one")
    return entries


def _check_entry_path(name: str, path: Path) -> None:
    pure = PurePosixPath(name)
    if (
        pure.is_absolute()
        or ".." in pure.parts
        or "\\" in name
        or "\0" in name
        or pure.as_posix() != name
        or name in (MANIFEST, EVALUATION)
    ):
        raise BundleError(f"{path}: the manifest lists {name!r}, need a plain path inside the bundle")


def _check_listed(root: Path, path: Path, listed: set[str]) -> None:
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            file = Path(folder, name)
            relative = file.relative_to(root).as_posix()
            if file.is_symlink():
                raise BundleError(f"{path}: {relative} is a link, need plain files only")
            if name in files and relative not in listed | {MANIFEST, EVALUATION}:
                raise BundleError(f"{path}: holds {relative}, which its manifest does not list")


def _read_verified(root: Path, path: Path, entry: FileEntry) -> bytes:
    try:
        data = (root / entry.path).read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: {entry.path} is listed but cannot be read ({error.strerror})") from error
    _check_content(path, entry, data)
    return data


def _check_content(path: Path, entry: FileEntry, data: bytes) -> None:
    if (found := sha256_bytes(data)) != entry.sha256:
        raise BundleError(f"{path}: {entry.path} is damaged, got sha256 {found[:12]}…, need {entry.sha256[:12]}…")


def file_entry(path: str, data: bytes) -> FileEntry:
    """Return the manifest's entry for a file of these bytes."""
    return FileEntry(path=path, sha256=sha256_bytes(data), size_bytes=len(data))


def write_bundle(path: Path, manifest: Manifest, data: Mapping[str, bytes]) -> Bundle:
    """Write the bundle, whole or not at all, and return it as `read_bundle` would.

    Raises:
        BundleError: ``data`` is not what the manifest lists, or ``path`` holds something that is no bundle.
    """
    listed = _entries(path, manifest)
    if set(listed) != set(data):
        raise BundleError(f"{path}: got files {sorted(data)}, the manifest lists {sorted(listed)}")
    for name, entry in listed.items():
        _check_content(path, entry, data[name])
    check_replaceable(path)
    with whole_directory(path) as folder:
        for name, content in data.items():
            write_whole(folder / name, content)
        write_whole(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return read_bundle(path)


def check_replaceable(path: Path) -> None:
    """Refuse a place that no bundle can be written to, before any work is done.

    Raises:
        BundleError: writing a bundle to ``path`` would remove what is no bundle, or its last part is no name of one.
    """
    if not re.fullmatch(_NAME, path.name):
        raise BundleError(
            f"{path}: got a bundle named {path.name!r}, need letters, digits, '.', '_' and '-', at most 64"
        )
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BundleError(f"{path}: is a file or a link, need a new directory for the bundle")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise BundleError(f"{path}: holds files that are no bundle, need a new or empty directory")
