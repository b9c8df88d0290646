"""Durable and atomic writes of files and directories, exclusive use of an output, and hashes.

What is written appears under its name whole or not at all, also after a kill or a power cut: it is written into a
hidden folder beside its place (``.NAME.xxxxxxxx.tmp``), synced to the disk, and renamed. A process locks its hidden
folder, so that the next writer can tell the folders of killed processes, which it removes. The locks work on local file
systems and on NFS. On a file system without locks, such folders stay, and two processes may use one output at once.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simile.errors import InputError, StoppedError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a full disk and of an exhausted quota."""
_TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp", re.DOTALL)
_NEW, _OLD, _LOCK = "new", "old", "lock"
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of the data in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the file in lower-case hexadecimal, without reading it into memory at once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_whole(path: Path, data: str | bytes) -> None:
    """Write the file durably and atomically; refuse, by an `InputError`, to replace what is no regular file."""
    require_replaceable(path)
    with temporary_beside(path) as temporary:
        new = temporary / _NEW
        new.write_bytes(data.encode() if isinstance(data, str) else data)
        sync([new])
        os.replace(new, path)
        sync([path.parent])


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory that replaces ``path`` when the block ends; after an error, ``path`` is unchanged."""
    require_replaceable(path, directory=True)
    with temporary_beside(path) as temporary:
        new, old = temporary / _NEW, temporary / _OLD
        new.mkdir()
        yield new
        sync(tree(new))
        if not _exchange(new, path):
            try:
                with suppress(FileNotFoundError):
                    os.replace(path, old)
                os.replace(new, path)
            except BaseException:
                if old.exists() and not path.exists():
                    os.replace(old, path)
                raise
        sync([path.parent])


def remove(path: Path) -> None:
    """Remove what is at the path, if anything is: after a kill, it is there whole or gone."""
    if path.is_dir() and not path.is_symlink():
        with temporary_beside(path) as temporary:
            os.replace(path, temporary / _OLD)
    else:
        path.unlink(missing_ok=True)


def require_replaceable(path: Path, *, directory: bool = False) -> None:
    """Refuse, by an `InputError`, an output path without a name, or at which something is that must not be replaced.

    A file may replace a regular file, a directory may replace a directory. Links, devices and pipes stay.
    """
    need = "a folder" if directory else "a regular file"
    if path.name in ("", ".."):
        raise InputError(f"{path}: has no name of its own, need the path of {need}, which may be new")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    if not (stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode)):
        raise InputError(
            f"{path}: is {_KINDS.get(stat.S_IFMT(mode), 'a device')}, need {need} or a new path to write to"
        )


def require_writable(*paths: Path | None, directory: bool = False) -> None:
    """Refuse outputs that must not be replaced or cannot be written, before the work that would be lost.

    What killed processes have left beside them is removed.
    """
    for path in filter(None, paths):
        require_replaceable(path, directory=directory)
        try:
            folder = next(parent for parent in path.absolute().parents if parent.exists())
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=folder):
                _remove_dead(_temporaries_of(path))
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the output for this process while the block runs, and begin by removing what killed processes have left.

    Raises:
        StoppedError: another process holds it.
    """
    made = _make_folder(path.parent)
    file = path.with_name(f".{path.name}.lock")
    try:
        lock = _open_locked(file)
        if lock is None:
            raise StoppedError(f"{path}: another process is writing it; wait for that one, or choose another output")
        try:
            sweep(path)
            yield
        finally:
            file.unlink(missing_ok=True)
            os.close(lock)
    finally:
        for folder in made:
            # A folder that now holds something stays.
            with suppress(OSError):
                folder.rmdir()


def is_temporary(name: str) -> bool:
    """Return whether a hidden folder of this name belongs to a process that writes, or that was killed."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(path: Path) -> None:
    """Remove the hidden folders that killed processes have left beside the path and, in a directory, below it."""
    _remove_dead(_temporaries_of(path))
    for parent, _, _ in os.walk(path):
        _remove_dead(_temporaries(Path(parent)))


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield a new hidden folder on the path's file system, which is removed at the end, or later if this is killed."""
    _make_folder(path.parent)
    _remove_dead(_temporaries_of(path))
    lock = None
    while lock is None:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        # Until it is locked, another process may remove the folder as one of a killed process.
        with suppress(FileNotFoundError):
            lock = _open_locked(folder / _LOCK)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def tree(folder: Path) -> Iterator[Path]:
    """Yield the files and folders in a folder, and at last the folder, each after what is in it."""
    for parent, _, names in os.walk(folder, topdown=False):
        yield from (Path(parent, name) for name in names)
        yield Path(parent)


def sync(paths: Iterable[Path]) -> None:
    """Wait until these files, and the names in these folders, are on the disk."""
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError as error:
            # Some network file systems cannot sync a folder.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(opened)


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder with its parents, durably; return those that were made, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    sync(path.parent for path in missing)
    return missing


def _temporaries(folder: Path) -> list[Path]:
    try:
        return [Path(entry) for entry in os.scandir(folder) if is_temporary(entry.name) and not entry.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _temporaries_of(path: Path) -> list[Path]:
    return [folder for folder in _temporaries(path.parent) if _written_path(folder) == path]


def _written_path(temporary: Path) -> Path:
    """Return the path that a hidden folder stands beside."""
    match = _TEMPORARY.fullmatch(temporary.name)
    assert match, "the name is that of a hidden folder"
    return temporary.with_name(match[1])


def _remove_dead(folders: Iterable[Path]) -> None:
    """Remove the hidden folders that no process has locked."""
    for folder in folders:
        # It may be gone by now, or another user's.
        with suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                if _lock(lock):
                    _finish_replacing(folder)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _finish_replacing(folder: Path) -> None:
    """Put the new directory in its place if the process was killed between moving the old one away and that."""
    path = _written_path(folder)
    if (folder / _OLD).is_dir() and (folder / _NEW).is_dir() and not path.exists():
        os.replace(folder / _NEW, path)
        sync([path.parent])


def _open_locked(file: Path) -> int | None:
    """Return the descriptor of the lock file, locked until it is closed or the process ends; None if another has it."""
    while True:
        opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        if _lock(opened) is False:
            os.close(opened)
            return None
        # The holder before this one may have removed the file since it was opened.
        if os.fstat(opened).st_nlink:
            return opened
        os.close(opened)


def _lock(opened: int) -> bool | None:
    """Lock an open file; return False if another process has it locked, None if the file system has no locks."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _exchange(new: Path, path: Path) -> bool:
    """Swap two directories in one step, so that no reader finds neither; return whether the system can."""
    # Imported here, because only few processes replace a directory.
    import ctypes

    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    done: int = renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(path), _RENAME_EXCHANGE)
    return done == 0
