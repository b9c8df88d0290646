"""The hashes of training texts, which may be too many for memory."""

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Set

import numpy as np
from numpy.typing import NDArray

_TYPE, _SIZE = "S32", 32
_ROWS = 65_536
"""Hashes that are read from the file at once."""


class TextHashes(Set[str]):
    """A set of hashes in hexadecimal, in their order.

    They lie in a temporary file without a name that is mapped into memory, of which the system keeps as much as there
    is room for.
    """

    def __init__(self, hashes: Iterable[str]) -> None:
        with tempfile.TemporaryFile(prefix="simile-") as file:
            file.writelines(map(bytes.fromhex, hashes))
            file.flush()
            num = file.tell() // _SIZE
            # An empty file cannot be mapped.
            self._hashes: NDArray[np.bytes_] = np.memmap(file, _TYPE, "r+", shape=(num,)) if num else np.empty(0, _TYPE)
        self._hashes.sort()
        self._len = 0
        for part in self._distinct():
            self._hashes[self._len : self._len + len(part)] = part
            self._len += len(part)
        self._hashes = self._hashes[: self._len]

    def _distinct(self) -> Iterator[NDArray[np.bytes_]]:
        """Yield the sorted hashes in parts, each once."""
        last = None
        for start in range(0, len(self._hashes), _ROWS):
            part = np.unique(self._hashes[start : start + _ROWS])
            if part[0] == last:
                part = part[1:]
            if len(part):
                last = part[-1]
                yield part

    def __len__(self) -> int:
        return self._len

    def __iter__(self) -> Iterator[str]:
        for start in range(0, self._len, _ROWS):
            content = self._hashes[start : start + _ROWS].tobytes().hex()
            yield from (content[i : i + 2 * _SIZE] for i in range(0, len(content), 2 * _SIZE))

    def __contains__(self, value: object) -> bool:
        key = np.array(bytes.fromhex(str(value)), _TYPE)
        place = int(np.searchsorted(self._hashes, key))
        return place < self._len and bool(self._hashes[place] == key)

    @classmethod
    def _from_iterable(cls, values: Iterable[str]) -> Set[str]:  # type: ignore[override]
        """Return what operators such as ``&`` give: a small set."""
        return frozenset(values)


def texts_content(hashes: Iterable[str]) -> Iterator[bytes]:
    """Yield the content of a bundle's file of hashes: one per line, in order."""
    ordered = hashes if isinstance(hashes, TextHashes) else sorted(set(hashes))
    yield from (f"{line}\n".encode() for line in ordered)


def texts_digest(hashes: Iterable[str]) -> str:
    """Return the sha256 of the file of these hashes, which the manifest states in ``made.texts``."""
    digest = hashlib.sha256()
    for line in texts_content(hashes):
        digest.update(line)
    return digest.hexdigest()
