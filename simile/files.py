"""Atomic writes of files and directories, and hashes."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of the data in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file in lower-case hexadecimal, without reading it into memory at once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: str | bytes) -> None:
    """Write the file atomically: into a temporary folder beside it, then renamed."""
    with _folder_beside(path) as temporary:
        file = temporary / path.name
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(file, path)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory that replaces ``path`` when the block ends; after an error, ``path`` is unchanged."""
    with _folder_beside(path) as temporary:
        new, old = temporary / "new", temporary / "old"
        new.mkdir()
        yield new
        try:
            with suppress(FileNotFoundError):
                os.replace(path, old)
            os.replace(new, path)
        except BaseException:
            if old.exists() and not path.exists():
                os.replace(old, path)
            raise


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        yield Path(folder)
