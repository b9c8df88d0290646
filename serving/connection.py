"""The service's connections: each response is one write, and a client that sends or reads nothing is disconnected.

Each connection holds a file descriptor, and a process has few.
"""

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from serving.turns import Turns
from serving.waiting import WaitingConnections

_MAX_HEAD_BYTES, _MAX_HEADERS = 64 * 1024, 100
"""Size of a request's line and headers, and of what surrounds its body besides: the framing of chunks and trailers may
take as much, and as much as the body in addition. The parser itself has no limit, and no API key has been checked
yet."""
_MAX_REQUESTS = 10_000
"""Requests per connection."""
_CHUNKED_BYTES = 16 * 1024
"""Bytes of a body in chunks that are parsed per turn: each chunk may have a single byte, and each trailer four."""
_PIECE_BYTES = 64
"""Bytes whose parsing takes about as long as beginning with another piece."""
_END_OF_HEAD = b"\r\n\r\n"
_UPGRADE = re.compile(rb"(?im)^upgrade(?=[ \t]*:)")
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n\r\n"
    b'{"error":{"type":"head_too_large","message":"the line and headers of the request are too long","param":null}}'
)


class Connection(AutoHTTPProtocol):  # type: ignore[misc]
    """A uvicorn connection that waits at most ``transfer_s`` for its client, and limits what the client may send.

    uvicorn itself waits forever for the first request, for any request whose first byte has arrived, and for a client
    that takes its response byte by byte; it accepts heads and trailers of any size. `serving.body` limits the body. The
    parser receives a head when it is complete, and nothing of the next request before the client has taken the response
    to the last one, but for the 64 KiB at which a transport asks to pause. So each client has at most one request here.
    The first request after about ``max_age_s``, or the last of `_MAX_REQUESTS`, has ``is_last`` in its state: its
    response should close the connection. A request whose client has disconnected has ``has_left``.
    """

    def __init__(
        self,
        *arguments: Any,
        transfer_s: float,
        max_age_s: float,
        waiting: WaitingConnections,
        turns: Turns,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._transfer_s, self._waiting, self._turns = transfer_s, waiting, turns
        # Clients that connected together must not all come back together.
        self._last_at = self.loop.time() + max_age_s * random.uniform(0.9, 1.1)
        self._num_requests = 0
        self._closing: asyncio.TimerHandle | None = None
        self._data = b""
        """What was received last, with what was left before."""
        self._num_parsed = 0
        """Bytes of the data that were parsed. Each request, and each empty line in chunks, is a piece of its own."""
        self._turn: asyncio.Future[None] | None = None
        """The turn to parse chunks, once it was asked for."""
        self._turn_bytes = 0
        """Bytes that may be parsed in this turn."""
        self._is_in_body = False
        """Whether a head was parsed, and its body or trailers have not ended."""
        self._body_left = 0
        """Bytes of the body that are to come, if its head says how many it has."""
        self._num_bytes = self._body_bytes = 0
        """Bytes of the current request so far, and those of its body among them."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Start waiting for the first request."""
        self._joined = JoinedWrites(transport, self.loop, self._note_bytes)
        super().connection_made(self._joined)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Parse the data, unless the client is ahead of its responses."""
        self._data, self._num_parsed = self._data[self._num_parsed :] + data, 0
        self._parse()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; ignore a trailer."""
        if not self._is_in_body:
            super().on_header(name, value)
            if name.lower() == b"content-length":
                self._body_left = int(value) if value.isdigit() else 0

    def on_headers_complete(self) -> None:
        """Begin to answer the request."""
        self._is_in_body = True
        self._num_requests += 1
        # CONNECT, after whose head the parser would take a body for another request.
        is_other_protocol = self.parser.should_upgrade()
        if is_other_protocol or self._num_requests >= _MAX_REQUESTS or self.loop.time() > self._last_at:
            self.scope["state"]["is_last"] = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count the bytes of the body."""
        self._body_bytes += len(body)
        self._body_left = max(0, self._body_left - len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop waiting: the request has arrived."""
        self._is_in_body = False
        self._num_bytes = self._body_bytes = self._body_left = 0
        if self._is_answering():
            self._waiting.remove(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the client to take the response, and then for the next request."""
        super().on_response_complete()
        if self._num_unparsed:
            # Otherwise nobody would see that the client has not taken it.
            self._joined.flush()
        self._wait()
        self._parse()

    def resume_writing(self) -> None:
        """Go on with the next request, now that the client has taken most of its response."""
        super().resume_writing()
        self._parse()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_timeout()
        self._waiting.remove(self)
        self._forget_data()
        if self._turn:
            self._turn.cancel()
        if self._is_answering():
            self.scope["state"]["has_left"] = True
        super().connection_lost(exc)
        # Without the reference from its transport, the connection need not wait for the garbage collector.
        self._joined.on_written = _nothing

    def abort(self) -> None:
        """Close the connection at once, whatever it has not sent."""
        self.transport.abort()

    @property
    def _num_unparsed(self) -> int:
        return len(self._data) - self._num_parsed

    def _forget_data(self) -> None:
        self._data, self._num_parsed = b"", 0

    def _parse(self) -> None:
        while self._num_unparsed and self._may_parse() and (piece := self._next_piece()):
            self._num_bytes += len(piece)
            super().data_received(piece)
            if self.parser and not self._is_in_body and self.parser.should_upgrade():
                self._forget_data()
            if self._num_bytes - self._body_bytes > _MAX_HEAD_BYTES + self._body_bytes:
                self._refuse()
            if self._is_answering():
                self._stop_timeout()
        if not self._num_unparsed:
            self._forget_data()
        self._joined.hold_reading(is_held=self._num_unparsed > 0 and not self._may_parse())
        self._note_bytes()

    def _may_parse(self) -> bool:
        if self.transport.is_closing():
            return False
        if self._is_in_body:
            return self._body_left > 0 or self._has_turn()
        return not (self.flow.write_paused or self._is_answering())

    def _has_turn(self) -> bool:
        """Return whether chunks may be parsed now; if not, ask for a turn in which they are."""
        if self._turn_bytes > 0:
            return True
        if self._turn is None:
            self._turn = self._turns.next(_CHUNKED_BYTES)
            if not self._turn.done():
                self._turn.add_done_callback(lambda _: self._parse())
        if not self._turn.done():
            return False
        self._turn, self._turn_bytes = None, _CHUNKED_BYTES
        return True

    def _next_piece(self) -> bytes:
        """Remove and return what is parsed next, with the end of one request at most; nothing before a head's end."""
        start = self._num_parsed
        if self._body_left:
            return self._take(start + self._body_left)
        most = start + self._turn_bytes if self._is_in_body else len(self._data)
        # A body in chunks ends with an empty line, too.
        end = self._data.find(_END_OF_HEAD, start, most)
        if self._is_in_body:
            piece = self._take(most if end < 0 else end + len(_END_OF_HEAD))
            self._turn_bytes -= len(piece) + _PIECE_BYTES
            return piece
        if end < 0:
            if self._num_unparsed > _MAX_HEAD_BYTES:
                self._refuse()
            return b""
        piece = self._take(end + len(_END_OF_HEAD))
        if piece.count(b"\n") > _MAX_HEADERS or len(piece) > _MAX_HEAD_BYTES:
            self._refuse()
            return b""
        # After a head with this header, the parser would take the body for another protocol's data. It may be ignored.
        # Searching without regard to case is slow, even where the header is not there.
        return _UPGRADE.sub(b"x-upgrade", piece) if b"\nupgrade" in piece.lower() else piece

    def _take(self, end: int) -> bytes:
        """Return the data up to there, or all that there is; it counts as parsed."""
        piece = self._data[self._num_parsed : end]
        self._num_parsed += len(piece)
        return piece

    def _refuse(self) -> None:
        """Refuse a request that is too long beside its body."""
        self._forget_data()
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._waiting.add(self, is_new=not self._num_requests)
        self._stop_timeout()
        self._closing = self.loop.call_later(self._transfer_s, self._close)

    def _close(self) -> None:
        # A response that the client has not taken by now would keep a connection that is only closed.
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _note_bytes(self) -> None:
        self._waiting.hold(self, self._num_bytes + self._num_unparsed + self.transport.get_write_buffer_size())

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
            self._loop.call_soon(self.flush)
        self._parts.append(data)

    def close(self) -> None:
        """Write what is pending, then close."""
        self.flush()
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

    def flush(self) -> None:
        """Write what is pending now."""
        if self._parts:
            self._transport.write(b"".join(self._parts))
            self._parts.clear()
            self.on_written()


def _nothing() -> None:
    pass
