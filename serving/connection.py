"""The service's connections: each answer is one write, and who asks for nothing, or takes nothing, is closed.

Each holds a file descriptor, and there are few.
"""

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_MOST_HEAD_BYTES = 64 * 1024
"""Of a request's line and headers, beside the first piece that arrives: the parser itself would take any number, and
nobody has shown a key yet."""
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"
    b'{"error":{"type":"head_too_large","message":"the line and headers of the request are too long","param":null}}'
)


class Connection(AutoHTTPProtocol):  # type: ignore[misc]
    """uvicorn's connection, which waits no longer than ``transfer_s`` for the head of a request.

    uvicorn itself waits forever for the first one, and for any whose first byte has come, and takes as much of it as
    comes. The body is for `serving.body`.
    """

    def __init__(self, *arguments: Any, transfer_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transfer_s = transfer_s
        self._closing: asyncio.TimerHandle | None = None
        self._is_in_head = False
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(Joined(transport, self.loop))
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what has come; a request that has begun is waited for no longer."""
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._is_in_head = False
                self.transport.write(_TOO_LARGE)
                self.transport.close()
        if self._is_answering():
            self._stop_waiting()

    def on_message_begin(self) -> None:
        """Count what the head takes."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        """Leave the rest to the body's limit."""
        self._is_in_head = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, unless it is here already."""
        super().on_response_complete()
        if not self._is_answering():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._stop_waiting()
        self._closing = self.loop.call_later(self._transfer_s, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._closing:
            self._closing.cancel()
            self._closing = None


class Joined:
    """A transport that writes what comes within one turn of the event loop at once.

    uvicorn writes an answer's head and its body one after the other. Each is a system call that wakes the client: of a
    small answer, a seventh of all that the event loop does.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Leave the rest to the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write in this turn of the event loop, or at once where it closes."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Close once all is written."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()


def limit_unsent(listener: socket.socket, transfer_s: float) -> None:
    """Have the kernel end connections of this listener whose client takes nothing of its answer for so long."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(transfer_s * 1000))
