"""The key that equal texts share, and the hashes by which training texts are recognised."""

from collections.abc import Iterable
from pathlib import Path

from simile.artifacts.bundle import TEXTS, Bundle
from simile.artifacts.provenance import BaselineProvenance
from simile.files import sha256_bytes

MAX_CHARACTERS = 20_000
"""The longest text of a document, and of a key: far more than any encoder reads, and it bounds memory."""


def text_key(text: str) -> str:
    """Return the key of a text: two texts have the same one if they differ only in case and white space."""
    return " ".join(text[:MAX_CHARACTERS].lower().split())


def text_hash(text: str) -> str:
    """Return the sha256 of the text's key."""
    return sha256_bytes(text_key(text).encode())


def work_folder(bundle: Path) -> Path:
    """Return the work folder of a bundle's training, which stands beside the bundle."""
    return bundle.with_name(bundle.name + ".work")


def texts_content(hashes: Iterable[str]) -> str:
    """Return the content of a bundle's file of hashes: one per line, in order."""
    return "".join(f"{line}\n" for line in sorted(set(hashes)))


def texts_digest(hashes: Iterable[str]) -> str:
    """Return the sha256 of the file of these hashes, which the manifest states in ``made.texts``."""
    return sha256_bytes(texts_content(hashes).encode())


def read_training_texts(bundle: Bundle) -> frozenset[str] | None:
    """Return the hashes of the bundle's training texts: none for an untouched encoder, None where they are unknown.

    They are unknown where the bundle has no file of hashes, or one with another digest than the manifest states.
    """
    made = bundle.manifest.made
    if isinstance(made, BaselineProvenance):
        return frozenset()
    file = bundle.path / TEXTS
    content = file.read_bytes() if file.is_file() else None
    if content is None or made.texts != sha256_bytes(content):
        return None
    return frozenset(content.decode("ascii", "replace").split())
