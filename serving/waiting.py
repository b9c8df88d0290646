"""Connections that wait for their clients: to send a request, or to take a response.

A client that makes the service wait holds a file descriptor and memory. Where all of them together hold too much, those
that have waited longest are closed, so that a slow client cannot harm the others.
"""

import resource
from typing import Protocol

_MAX_FILES = 65_536
_FILES_FOR_ELSE = 256
"""File descriptors that are left for everything but connections, such as those that were just accepted."""
_LIGHT_BYTES = 64 * 1024
"""Bytes that a connection may hold without being closed for them."""
MAX_BYTES = 64 * 2**20
"""Bytes of unfinished requests and unread responses, over all connections that hold more than `_LIGHT_BYTES`."""


def most_connections() -> int:
    """Raise the limit of open files as far as is allowed, and return how many connections may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    num_files = max(soft, most)
    return max(num_files - _FILES_FOR_ELSE, num_files // 4)


class Waiter(Protocol):
    """A connection."""

    def abort(self) -> None:
        """Close the connection at once, whatever it has not sent."""


class Waiting:
    """The waiting connections of one listener. Used by the event loop only."""

    def __init__(self, max_connections: int, max_bytes: int = MAX_BYTES) -> None:
        self._max_connections, self._max_bytes = max_connections, max_bytes
        # Dictionaries keep the order of insertion, so the first one has waited longest.
        self._strangers: dict[Waiter, None] = {}
        """Those that have had no response yet: they are closed before the others."""
        self._others: dict[Waiter, None] = {}
        self._heavy: dict[Waiter, int] = {}
        """Bytes of those that hold more than `_LIGHT_BYTES`."""
        self._heavy_bytes = 0

    def add(self, waiter: Waiter, *, is_stranger: bool = True) -> None:
        """Note that a connection waits, unless that is known; close the first ones where there are too many.

        A stranger has had no response yet.
        """
        if waiter not in self._strangers and waiter not in self._others:
            (self._strangers if is_stranger else self._others)[waiter] = None
        while len(self._strangers) + len(self._others) > self._max_connections:
            self._close(next(iter(self._strangers or self._others)))

    def hold(self, waiter: Waiter, num_bytes: int) -> None:
        """Note how many bytes a waiting connection holds; close the first heavy ones where all hold too much."""
        if waiter not in self._strangers and waiter not in self._others:
            return
        self._heavy_bytes -= self._heavy.get(waiter, 0)
        if num_bytes > _LIGHT_BYTES:
            self._heavy[waiter] = num_bytes
            self._heavy_bytes += num_bytes
        else:
            self._heavy.pop(waiter, None)
        while self._heavy_bytes > self._max_bytes:
            self._close(next(iter(self._heavy)))

    def remove(self, waiter: Waiter) -> None:
        """Note that a connection does not wait any more."""
        self._strangers.pop(waiter, None)
        self._others.pop(waiter, None)
        self._heavy_bytes -= self._heavy.pop(waiter, 0)

    def _close(self, waiter: Waiter) -> None:
        self.remove(waiter)
        waiter.abort()
