"""Where bulk work reads and writes: folders of this machine, and prefixes of buckets by their URLs."""

import glob
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from simile.errors import InputError
from simile.files import FULL_DISK, require_replaceable, require_writable, sweep, sync, temporary_beside

_BUFFER_BYTES = 4 << 20
"""Bytes per request for text in a bucket."""
_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as its storage describes it."""

    address: str
    size_bytes: int
    version: str
    """The time of the last change in nanoseconds, or the ETag of an object."""

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.address.rpartition("/")[2]


class Storage(Protocol):
    """Files by their addresses."""

    def files(self, address: str) -> list[Stored]:
        """Return the file at the address, or the files of a folder or a glob by name; an `InputError` if none is."""

    def listing(self, folder: str) -> dict[str, Stored]:
        """Return the files of a folder by name; none if it does not exist."""

    def stat(self, address: str) -> Stored | None:
        """Return what is stored under the address now, or None."""

    def opened(self, address: str) -> IO[bytes]:
        """Open the file; it can seek."""

    def require_writable(self, folder: str) -> None:
        """Refuse, by an `InputError`, a folder that cannot be written to, before the work that would be lost."""

    def whole(self, address: str) -> AbstractContextManager[Path]:
        """Give the path of a new file that appears under the address when the block ends, whole or not at all."""

    def remove(self, address: str) -> None:
        """Remove the file if it is there."""


def is_url(address: str) -> bool:
    """Return whether the address is one in a bucket."""
    return "://" in address


def is_glob(address: str) -> bool:
    """Return whether the address is a pattern; a path that exists is none, whatever its characters."""
    return not _GLOB.isdisjoint(address) and not os.path.exists(address)


def storage_of(address: str) -> Storage:
    """Return the storage that an address belongs to."""
    return Bucket() if is_url(address) else LocalFolders()


def _chosen(files: list[Stored], address: str) -> list[Stored]:
    """Return the files without hidden ones and those that begin with an underscore; refuse none."""
    if chosen := sorted((file for file in files if file.name[0] not in "._"), key=lambda file: file.address):
        return chosen
    raise InputError(f"{address}: got no files, need at least one")


class LocalFolders:
    """Files of this machine, by absolute or relative paths."""

    def files(self, address: str) -> list[Stored]:
        """Return the file at the path, or the files of a folder or a glob by name."""
        path = Path(address)
        if path.is_dir():
            paths = [str(one) for one in path.iterdir()]
        elif is_glob(address):
            paths = glob.glob(address, recursive=True)
        elif path.is_file():
            return [_local(path)]
        else:
            raise InputError(f"{address}: no such file")
        visible = [Path(one) for one in paths if Path(one).name[0] not in "._"]
        if other := next((one for one in sorted(visible) if not one.is_file()), None):
            raise InputError(f"{other}: is no file, need a folder or a glob of files only")
        return _chosen([_local(one) for one in visible], address)

    def listing(self, folder: str) -> dict[str, Stored]:
        """Return the files of a folder by name; none if it does not exist."""
        path = Path(folder)
        return {one.name: _local(one) for one in path.iterdir() if one.is_file()} if path.is_dir() else {}

    def stat(self, address: str) -> Stored | None:
        """Return what the path holds now, or None."""
        try:
            return _local(Path(address))
        except FileNotFoundError:
            return None

    def opened(self, address: str) -> IO[bytes]:
        """Open the file."""
        return Path(address).open("rb")

    def require_writable(self, folder: str) -> None:
        """Refuse a folder that cannot be written to; remove what killed processes have left in it."""
        if Path(folder).exists():
            require_replaceable(Path(folder).absolute(), directory=True)
        require_writable(Path(folder) / "new")
        sweep(Path(folder))

    @contextmanager
    def whole(self, address: str) -> Iterator[Path]:
        """Give the path of a new file that is synced and renamed when the block ends."""
        path = Path(address)
        require_replaceable(path)
        with temporary_beside(path) as temporary:
            new = temporary / path.name
            try:
                yield new
            except OSError as error:
                if error.errno not in FULL_DISK or error.filename:
                    raise
                # Arrow names no file, which would read as a full disk behind standard output.
                raise OSError(error.errno, error.strerror, str(path)) from error
            sync([new])
            os.replace(new, path)
            sync([path.parent])

    def remove(self, address: str) -> None:
        """Remove the file if it is there."""
        Path(address).unlink(missing_ok=True)


class Bucket:
    """Objects of an S3-compatible bucket, or of another that fsspec knows; a folder is a prefix."""

    def files(self, address: str) -> list[Stored]:
        """Return the object at the address, or the objects of a prefix or a glob by name."""
        with _reaching(address):
            client, root = _open(address)
            if is_glob(address):
                entries = client.glob(root, detail=True).values()
            elif _is_object(client, root):
                return [_stored(client.info(root), address)]
            else:
                entries = client.ls(root, detail=True)
            visible = [
                one for one in entries if one["name"].rstrip("/") != root and _basename(one)[:1] not in (".", "_")
            ]
            if other := next((one for one in visible if one["type"] != "file"), None):
                raise InputError(f"{address}: got the folder {_basename(other)!r} in it, need files only, or a glob")
            return _chosen([_stored(one, address) for one in visible], address)

    def listing(self, folder: str) -> dict[str, Stored]:
        """Return the objects of a prefix by name."""
        with _reaching(folder):
            client, root = _open(folder)
            try:
                entries = client.ls(root, detail=True)
            except FileNotFoundError:
                # A prefix without objects does not exist; of a bucket that does not, the first part will tell.
                return {}
            return {_basename(one): _stored(one, folder) for one in entries if one["type"] == "file"}

    def stat(self, address: str) -> Stored | None:
        """Return the object's size and ETag now, or None."""
        with _reaching(address):
            client, root = _open(address)
            try:
                return _stored(client.info(root), address)
            except FileNotFoundError:
                return None

    def opened(self, address: str) -> IO[bytes]:
        """Open the object; it is read in ranges of a few MiB."""
        return io.BufferedReader(_ObjectReader(address), _BUFFER_BYTES)

    def require_writable(self, folder: str) -> None:
        """Refuse a folder of a bucket that does not exist; whether it may be written to shows with the first part."""
        with _reaching(folder):
            client, root = _open(folder)
            client.info(root.partition("/")[0])

    @contextmanager
    def whole(self, address: str) -> Iterator[Path]:
        """Give the path of a temporary file that is uploaded when the block ends; an upload is whole by itself."""
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / "new"
            yield new
            with _reaching(address):
                client, root = _open(address)
                client.put_file(str(new), root)

    def remove(self, address: str) -> None:
        """Remove the object if it is there."""
        with _reaching(address):
            client, root = _open(address)
            if client.exists(root):
                client.rm_file(root)


class _ObjectReader(io.RawIOBase):
    """An object as a file: each read is one request for a range, and a failure is one of Simile's exceptions."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address, self._position = address, 0
        with _reaching(address):
            self._client, self._root = _open(address)
            self._size = int(self._client.info(self._root)["size"])

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        stop = min(self._position + len(buffer), self._size)
        if stop <= self._position:
            return 0
        with _reaching(self._address):
            data = self._client.cat_file(self._root, start=self._position, end=stop)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _local(path: Path) -> Stored:
    status = path.stat()
    return Stored(str(path.absolute()), status.st_size, str(status.st_mtime_ns))


def _stored(entry: dict[str, Any], address: str) -> Stored:
    """Return an entry of fsspec under the scheme of the address that it was listed by."""
    version = entry.get("ETag") or entry.get("etag") or entry.get("mtime") or entry.get("LastModified")
    scheme = address.partition("://")[0]
    return Stored(f"{scheme}://{entry['name']}", int(entry["size"]), str(version).strip('"'))


def _basename(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def _is_object(client: Any, root: str) -> bool:
    try:
        return bool(client.info(root)["type"] == "file")
    except FileNotFoundError:
        return False


# Imported on use, because local work needs no client of buckets.
def _open(address: str) -> tuple[Any, str]:
    from simile.artifacts.object_store import open_url

    return open_url(address)


def _reaching(address: str) -> AbstractContextManager[None]:
    from simile.artifacts.object_store import reaching

    return reaching(address, "file, folder")
