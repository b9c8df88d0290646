"""The service's connections: each response is one write, and a client that sends or reads nothing is disconnected.

Each connection holds a file descriptor, and a process has few.
"""

import asyncio
import random
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_MAX_HEAD_BYTES = 64 * 1024
"""Size of a request's line and headers after the first piece that arrives. The parser itself has no limit, and no API
key has been checked yet."""
_MAX_REQUESTS = 10_000
"""Requests per connection."""
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"
    b'{"error":{"type":"head_too_large","message":"the line and headers of the request are too long","param":null}}'
)


class Connection(AutoHTTPProtocol):  # type: ignore[misc]
    """A uvicorn connection that waits at most ``transfer_s`` for the head of a request, and limits its size.

    uvicorn itself waits forever for the first request, and for any request whose first byte has arrived, and accepts
    a head of any size. `serving.body` limits the body. The first request after about ``max_age_s``, or the last of
    `_MAX_REQUESTS`, has ``is_last`` in its state: its response should close the connection.
    """

    def __init__(self, *arguments: Any, transfer_s: float, max_age_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transfer_s = transfer_s
        # Clients that connected together must not all come back together.
        self._last_at = self.loop.time() + max_age_s * random.uniform(0.9, 1.1)
        self._num_requests = 0
        self._closing: asyncio.TimerHandle | None = None
        self._head_bytes: int | None = None
        """Bytes of the current head so far; None outside of one."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start the timeout for the first request."""
        super().connection_made(JoinedWrites(transport, self.loop))
        self._start_timeout()

    def data_received(self, data: bytes) -> None:
        """Parse the data, and stop the timeout once a request is being answered."""
        was_in_head = self._head_bytes is not None
        super().data_received(data)
        if was_in_head and self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._head_bytes = None
                self.transport.write(_TOO_LARGE)
                self.transport.close()
        if self._is_answering():
            self._stop_timeout()

    def on_message_begin(self) -> None:
        """Start to count the bytes of the head."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Stop to count: the rest is the body."""
        self._head_bytes = None
        self._num_requests += 1
        if self._num_requests >= _MAX_REQUESTS or self.loop.time() > self._last_at:
            self.scope["state"]["is_last"] = True
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Start the timeout for the next request, unless it has already arrived."""
        super().on_response_complete()
        if not self._is_answering():
            self._start_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timeout."""
        self._stop_timeout()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timeout(self) -> None:
        self._stop_timeout()
        self._closing = self.loop.call_later(self._transfer_s, self.transport.close)

    def _stop_timeout(self) -> None:
        if self._closing:
            self._closing.cancel()
            self._closing = None


class JoinedWrites:
    """A transport that joins the writes of one iteration of the event loop into one.

    uvicorn writes the head and the body of a response one after the other. Each write is a system call that wakes the
    client; for a small response, the second one is a seventh of the event loop's work.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Delegate everything else to the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write at the end of this iteration of the event loop, or when the transport is closed."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Write what is pending, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()
