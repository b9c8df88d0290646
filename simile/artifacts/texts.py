"""When two texts are the same, and the hashes by which training texts are known again."""

from collections.abc import Iterable
from pathlib import Path

from simile.artifacts.bundle import Bundle
from simile.artifacts.provenance import BaselineProvenance
from simile.files import sha256_bytes, write_whole

MAX_CHARACTERS = 20_000
"""Of a document, and of what tells one text from another: far past what any encoder reads, and it bounds memory."""
_FILE = "texts.sha256"


def text_key(text: str) -> str:
    """Return what two texts share that are the same but for case and white space, as far as documents are read."""
    return " ".join(text[:MAX_CHARACTERS].lower().split())


def text_hash(text: str) -> str:
    """Return the sha256 of the text's key."""
    return sha256_bytes(text_key(text).encode())


def work_folder(bundle: Path) -> Path:
    """Return the folder beside a bundle that its training works in."""
    return bundle.with_name(bundle.name + ".work")


def write_training_texts(bundle: Path, texts: Iterable[str]) -> None:
    """Keep the hashes of the texts that the bundle is trained on, beside it."""
    write_training_hashes(bundle, map(text_hash, texts))


def write_training_hashes(bundle: Path, hashes: Iterable[str]) -> None:
    """Keep these hashes of training texts beside the bundle."""
    write_whole(work_folder(bundle) / _FILE, _content(hashes))


def texts_digest(hashes: Iterable[str]) -> str:
    """Return the sha256 of such hashes, by which a bundle's manifest knows them: ``made.texts``."""
    return sha256_bytes(_content(hashes).encode())


def _content(hashes: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in sorted(set(hashes)))


def read_training_texts(bundle: Bundle) -> frozenset[str] | None:
    """Return the hashes of the bundle's training texts: none for an untouched encoder, None where not known.

    Those of another bundle, which was or will be at its place, are not its own.
    """
    made = bundle.manifest.made
    if isinstance(made, BaselineProvenance):
        return frozenset()
    file = work_folder(bundle.path) / _FILE
    if not file.is_file():
        return None
    content = file.read_bytes()
    return frozenset(content.decode().split()) if made.texts == sha256_bytes(content) else None
