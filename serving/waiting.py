"""Connections that wait for their clients: to send a request, or to take a response.

A client that makes the service wait holds a file descriptor and memory. Where all of them together hold too much, some
are closed, so that slow clients cannot harm the others.
"""

import resource
from typing import Protocol

_MAX_CONNECTIONS = 4096
"""Connections that may wait: an idle one takes about 15 KB."""
_FILES_FOR_ELSE = 256
"""File descriptors that are left for everything but connections, such as those that were just accepted."""
_SMALL_BYTES = 4 * 1024
"""Bytes that a connection may hold without being closed for them."""
MAX_BYTES = 64 * 2**20
"""Bytes of unfinished requests and unread responses, over all connections that hold more than `_SMALL_BYTES`."""


def most_connections() -> int:
    """Raise the limit of open files as far as is needed and allowed, and return how many connections may wait."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = _MAX_CONNECTIONS + _FILES_FOR_ELSE
    num_files = need if hard == resource.RLIM_INFINITY else min(hard, need)
    if soft != resource.RLIM_INFINITY and soft < num_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (num_files, hard))
    return max(num_files - _FILES_FOR_ELSE, num_files // 4)


class Waiter(Protocol):
    """A connection."""

    def abort(self) -> None:
        """Close the connection at once, whatever it has not sent."""


class WaitingConnections:
    """The waiting connections of one listener. Used by the event loop only."""

    def __init__(self, max_connections: int, max_bytes: int = MAX_BYTES) -> None:
        self._max_connections, self._max_bytes = max_connections, max_bytes
        # Dictionaries keep the order of insertion, so the first one has waited longest.
        self._new: dict[Waiter, None] = {}
        """Connections without a response yet; closed before the others."""
        self._others: dict[Waiter, None] = {}
        self._large: dict[Waiter, int] = {}
        """Bytes of the connections that hold more than `_SMALL_BYTES`, in the order in which they came to hold them."""
        self._num_bytes = 0

    def add(self, waiter: Waiter, *, is_new: bool = True) -> None:
        """Note that a connection waits, unless that is known; close the first ones where there are too many.

        A new connection has had no response yet.
        """
        if waiter not in self._new and waiter not in self._others:
            (self._new if is_new else self._others)[waiter] = None
        while len(self._new) + len(self._others) > self._max_connections:
            self._close(next(iter(self._new or self._others)))

    def hold(self, waiter: Waiter, num_bytes: int) -> None:
        """Note how many bytes a waiting connection holds; close the first large ones where all hold too much."""
        if waiter not in self._new and waiter not in self._others:
            return
        self._num_bytes -= self._large.get(waiter, 0)
        if num_bytes > _SMALL_BYTES:
            self._large[waiter] = num_bytes
            self._num_bytes += num_bytes
        else:
            self._large.pop(waiter, None)
        while self._num_bytes > self._max_bytes:
            self._close(next(iter(self._large)))

    def remove(self, waiter: Waiter) -> None:
        """Note that a connection does not wait any more."""
        self._new.pop(waiter, None)
        self._others.pop(waiter, None)
        self._num_bytes -= self._large.pop(waiter, 0)

    def _close(self, waiter: Waiter) -> None:
        self.remove(waiter)
        waiter.abort()
