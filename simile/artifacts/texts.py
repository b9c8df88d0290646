"""The key that equal texts share, and the hashes by which training texts are recognised."""

from collections.abc import Iterable
from pathlib import Path

from simile.artifacts.bundle import Bundle
from simile.artifacts.provenance import BaselineProvenance
from simile.files import sha256_bytes, write_whole

MAX_CHARACTERS = 20_000
"""The longest text of a document, and of a key: far more than any encoder reads, and it bounds memory."""
_FILE = "texts.sha256"


def text_key(text: str) -> str:
    """Return the key of a text: two texts have the same one if they differ only in case and white space."""
    return " ".join(text[:MAX_CHARACTERS].lower().split())


def text_hash(text: str) -> str:
    """Return the sha256 of the text's key."""
    return sha256_bytes(text_key(text).encode())


def work_folder(bundle: Path) -> Path:
    """Return the work folder of a bundle's training, which stands beside the bundle."""
    return bundle.with_name(bundle.name + ".work")


def write_training_texts(bundle: Path, texts: Iterable[str]) -> None:
    """Write the hashes of the bundle's training texts beside it."""
    write_training_hashes(bundle, map(text_hash, texts))


def write_training_hashes(bundle: Path, hashes: Iterable[str]) -> None:
    """Write these hashes of training texts beside the bundle."""
    write_whole(work_folder(bundle) / _FILE, _content(hashes))


def texts_digest(hashes: Iterable[str]) -> str:
    """Return the sha256 of the hashes, which the manifest states in ``made.texts``."""
    return sha256_bytes(_content(hashes).encode())


def _content(hashes: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(set(hashes)))


def read_training_texts(bundle: Bundle) -> frozenset[str] | None:
    """Return the hashes of the bundle's training texts: none for an untouched encoder, None where they are unknown.

    Hashes of another bundle, which was or will be at the same path, do not count.
    """
    made = bundle.manifest.made
    if isinstance(made, BaselineProvenance):
        return frozenset()
    file = work_folder(bundle.path) / _FILE
    if not file.is_file():
        return None
    content = file.read_bytes()
    return frozenset(content.decode().split()) if made.texts == sha256_bytes(content) else None
