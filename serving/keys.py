"""The API keys that may call, by the names of their owners, and their rotation while the service runs."""

import asyncio
import logging
import re
from collections.abc import Mapping
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from serving.settings import NEED_KEYS, Settings, is_key
from simile.artifacts.bundle import NAME
from simile.errors import InputError

UNNAMED = "unnamed"
"""The name of all keys without one."""
_CHECK_S = 1.0
"""Seconds between two looks at the file."""
_NAMED = re.compile(rf"(?P<name>{NAME[1:-1]}):(?P<key>.+)")

_log = logging.getLogger(__name__)


class Keys:
    """The keys of the environment and of the file; the file is read again when it changes, and on SIGHUP."""

    def __init__(self, settings: Settings) -> None:
        """Read the keys, or raise an `InputError` where the file cannot be read or has none."""
        self._in_environment = {_digest(key.get_secret_value()): UNNAMED for key in settings.api_keys or ()}
        self._file = settings.api_keys_file
        self._version = self._current_version()
        self._names: Mapping[bytes, str] = self._read()

    def __bool__(self) -> bool:
        return bool(self._names)

    def owner_of(self, key: str) -> str | None:
        """Return the name of the key's owner; None for an unknown key."""
        digest = _digest(key)
        # Every key is compared, each in constant time, so that the duration reveals nothing about any key.
        matches = [name for known, name in self._names.items() if compare_digest(digest, known)]
        return matches[0] if matches else None

    def reload(self) -> None:
        """Read the file again; if it cannot be read or has no key, the current keys stay."""
        self._version = self._current_version()
        try:
            names = self._read()
        except InputError as error:
            _log.error("keys not replaced: %s", error)
            return
        if names != self._names:
            self._names = names
            _log.info("%d API keys of %d names", len(names), len(set(names.values())))

    async def watch(self) -> None:
        """Read the file again whenever it has changed; a mounted secret changes by a link to another folder."""
        while self._file:
            await asyncio.sleep(_CHECK_S)
            if self._current_version() != self._version:
                self.reload()

    def _current_version(self) -> tuple[int, int, int] | None:
        try:
            state = self._file.stat() if self._file else None
        except OSError:
            return None
        return (state.st_ino, state.st_mtime_ns, state.st_size) if state else None

    def _read(self) -> dict[bytes, str]:
        return self._in_environment | (_read_file(self._file) if self._file else {})


def _read_file(path: Path) -> dict[bytes, str]:
    """Return the names of the file's keys by the keys' digests: a line is ``KEY`` or ``NAME:KEY``, ``#`` a comment."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as API keys ({type(error).__name__})") from None
    names: dict[bytes, str] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        named = _NAMED.fullmatch(line)
        name, key = (named["name"], named["key"].strip()) if named else (UNNAMED, line)
        # The line itself is a secret.
        if not is_key(key):
            raise InputError(f"{path}:{number}: need KEY or NAME:KEY with API {NEED_KEYS}")
        names[_digest(key)] = name
    if not names:
        raise InputError(f"{path}: got no API keys, need one per line")
    return names


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogateescape")).digest()
