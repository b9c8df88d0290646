"""The service's connections: each response is one write, and a client that sends or reads nothing is disconnected.

Each connection holds a file descriptor, and a process has few.
"""

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from serving.waiting import Waiting

_MAX_HEAD_BYTES = 64 * 1024
"""Size of all that surrounds a body: line, headers, trailers, and the framing of chunks, which may be as large as the
body besides. The parser itself has no limit, and no API key has been checked yet."""
_MAX_REQUESTS = 10_000
"""Requests per connection."""
_MAX_PIPELINED = 8
"""Requests of a connection that wait for the response to an earlier one; the rest stays unparsed, and then unread."""
_PIECE_BYTES = 16 * 1024
"""What is parsed at once: about 400 requests at most."""
_UPGRADE = re.compile(rb"(?im)^upgrade(?=:(?![ \t]*websocket))")
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"
    b'{"error":{"type":"head_too_large","message":"the line and headers of the request are too long","param":null}}'
)


class Connection(AutoHTTPProtocol):  # type: ignore[misc]
    """A uvicorn connection that waits at most ``transfer_s`` for its client, and limits what the client may send.

    uvicorn itself waits forever for the first request, for any request whose first byte has arrived, and for a client
    that takes its response byte by byte; it accepts heads and trailers of any size, and parses any number of requests
    ahead. `serving.body` limits the body. The first request after about ``max_age_s``, or the last of `_MAX_REQUESTS`,
    has ``is_last`` in its state: its response should close the connection.
    """

    def __init__(self, *arguments: Any, transfer_s: float, max_age_s: float, waiting: Waiting, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._transfer_s, self._waiting = transfer_s, waiting
        # Clients that connected together must not all come back together.
        self._last_at = self.loop.time() + max_age_s * random.uniform(0.9, 1.1)
        self._num_requests = 0
        self._closing: asyncio.TimerHandle | None = None
        self._unparsed = b""
        self._num_bytes = self._body_bytes = 0
        """Bytes of the current request so far, and those of its body among them."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start to wait for the first request."""
        self._joined = JoinedWrites(transport, self.loop, self._note_bytes)
        super().connection_made(self._joined)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Parse the data, as far as the client may be ahead of the responses."""
        self._unparsed += data
        self._parse()

    def on_headers_complete(self) -> None:
        """Begin to answer the request."""
        self._num_requests += 1
        if self._num_requests >= _MAX_REQUESTS or self.loop.time() > self._last_at:
            self.scope["state"]["is_last"] = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop to wait: the request has arrived."""
        self._num_bytes = self._body_bytes = 0
        if self._is_answering():
            self._waiting.remove(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Parse what has arrived meanwhile, and wait for the next request, and for the response to be taken."""
        super().on_response_complete()
        self._parse()
        if not self._is_answering():
            self._wait()

    def resume_writing(self) -> None:
        """Note that the client has taken most of its response."""
        super().resume_writing()
        self._note_bytes()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._stop_timeout()
        self._waiting.remove(self)
        self._unparsed = b""
        super().connection_lost(exc)
        # Without the reference from its transport, the connection need not wait for the garbage collector.
        self._joined.on_written = _nothing

    def abort(self) -> None:
        """Close the connection at once, whatever it has not sent."""
        self.transport.abort()

    def _parse(self) -> None:
        while self._unparsed and len(self.pipeline) < _MAX_PIPELINED and not self.transport.is_closing():
            piece, self._unparsed = self._unparsed[:_PIECE_BYTES], self._unparsed[_PIECE_BYTES:]
            self._parse_piece(piece)
        self._joined.hold_reading(is_held=bool(self._unparsed) and not self.transport.is_closing())

    def _parse_piece(self, piece: bytes) -> None:
        if not self._num_bytes and b"pgrade:" in piece[:_MAX_HEAD_BYTES]:
            # The parser would take the body for another protocol's data. Upgrades to HTTP/2 may be ignored.
            head, end, rest = piece.partition(b"\r\n\r\n")
            piece = _UPGRADE.sub(b"x-upgrade", head) + end + rest
        self._num_bytes += len(piece)
        super().data_received(piece)
        if self._num_bytes - self._body_bytes > _MAX_HEAD_BYTES + self._body_bytes and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        self._note_bytes()
        if self._is_answering():
            self._stop_timeout()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._waiting.add(self, is_stranger=not self._num_requests)
        self._stop_timeout()
        self._closing = self.loop.call_later(self._transfer_s, self._close)

    def _close(self) -> None:
        # A response that the client has not taken by now would keep a connection that is only closed.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _note_bytes(self) -> None:
        self._waiting.hold(self, self._num_bytes + len(self._unparsed) + self.transport.get_write_buffer_size())

    def _stop_timeout(self) -> None:
        if self._closing:
            self._closing.cancel()
            self._closing = None


class JoinedWrites:
    """A transport that joins the writes of one iteration of the event loop into one.

    uvicorn writes the head and the body of a response one after the other. Each write is a system call that wakes the
    client; for a small response, the second one is a seventh of the event loop's work.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, on_written: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self.on_written = on_written
        """Called after each write."""
        self._parts: list[bytes] = []
        self._is_reading_held = False
        self._is_reading_paused = False

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

    def pause_reading(self) -> None:
        """Read nothing until `resume_reading`."""
        self._is_reading_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again, unless reading is held."""
        self._is_reading_paused = False
        if not self._is_reading_held:
            self._transport.resume_reading()

    def hold_reading(self, *, is_held: bool) -> None:
        """Read nothing, whatever uvicorn asks for, until this is called with False."""
        if is_held == self._is_reading_held:
            return
        self._is_reading_held = is_held
        if is_held:
            self._transport.pause_reading()
        elif not self._is_reading_paused:
            self._transport.resume_reading()

    def _flush(self) -> None:
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()
            self.on_written()


def _nothing() -> None:
    pass
