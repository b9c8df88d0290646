"""Unpacking the layers of a bundle's image: plain files at plain paths only, and exactly the bytes that were stated."""

import hashlib
import io
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from simile.artifacts.bundle_files import PLAIN_PATH
from simile.artifacts.image import FOLDER, LayerEntry
from simile.errors import BundleError


def unpack(chunks: Iterator[bytes], layer: LayerEntry, folder: Path, source: str) -> None:
    """Write the files of a layer into the folder while its bytes arrive, from the source that errors name.

    Raises:
        BundleError: the bytes are not those of the layer, or it holds something else than a bundle's files.
    """
    stream = _Hashed(chunks, layer, source)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                if not entry.isdir():
                    _write(archive, entry, folder, source)
        stream.require_whole()
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise BundleError(f"{source}: layer {layer.digest[:19]}… is damaged or no archive ({error!s:.100})") from error


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path, source: str) -> None:
    inside, _, name = entry.name.partition("/")
    # A sparse file of a few bytes could fill the disk with zeros.
    if inside != FOLDER or not re.fullmatch(PLAIN_PATH, name) or entry.type != tarfile.REGTYPE or entry.sparse:
        raise BundleError(f"{source}: its layers hold {entry.name[:80]!r}, need plain files in {FOLDER}/ only")
    content = archive.extractfile(entry)
    assert content, "a regular file has a content"
    file = folder / name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with content, file.open("xb") as opened:
            shutil.copyfileobj(content, opened)
    except (FileExistsError, NotADirectoryError) as error:
        raise BundleError(f"{source}: its layers hold {entry.name[:80]!r} twice, need each file once") from error


class _Hashed(io.RawIOBase):
    """What arrives of a layer, as a file that is hashed as it is read."""

    def __init__(self, chunks: Iterator[bytes], layer: LayerEntry, source: str) -> None:
        self._chunks, self._layer, self._source = chunks, layer, source
        self._digest, self._size, self._rest = hashlib.sha256(), 0, b""

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read the next bytes into the buffer; return their number."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
            self._digest.update(self._rest)
            self._size += len(self._rest)
            if self._size > self._layer.size:
                got = f"{self._source}: layer {self._layer.digest[:19]}… is damaged"
                raise BundleError(f"{got}, got more than the {self._layer.size} bytes that the image's manifest states")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def require_whole(self) -> None:
        """Read what is left, and refuse bytes that are not those of the layer."""
        while self.read(io.DEFAULT_BUFFER_SIZE):
            pass
        if (got := f"sha256:{self._digest.hexdigest()}") != self._layer.digest:
            need = f"need {self._layer.digest[:19]}…"
            raise BundleError(f"{self._source}: a layer is damaged, got {self._size} bytes with {got[:19]}…, {need}")
