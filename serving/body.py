"""The request's body: read whole before the application is asked, within limits of bytes, time and texts."""

import asyncio
import re
from time import perf_counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    ClientGoneError,
    InvalidRequestError,
    MalformedError,
    ServingError,
    error_response,
)

_DISCARD_S = 2.0
_QUOTES_A_PAIR = 8
"""As an object: of its two names and of its two texts."""
_VALUES_A_PAIR = 3
"""Commas and opening brackets, whichever way it is written."""
_OTHERS = 2000
"""Of either, for whatever else a client sends, such as a model's name."""

# Possessive, and an end of the body ends a text too: each byte is looked at once, whatever a client makes up.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


class LimitBody:
    """Read what is posted before the application does; answer 413, 408 or 422 where it is too long, too slow, too much.

    The application gets the whole body as one message, and after it what the server sends then (a disconnect). When it
    was there is ``arrived`` in the request's state.

    Args:
        app: the application inside.
        max_bytes: of a body, declared or chunked.
        timeout_s: seconds that a body may take to arrive.
        max_pairs: that a body may hold. To parse 400,000 of them, or a million numbers or empty lists, takes the event
            loop 0.15 s and more, in which nobody else is answered; to see by its quotes, commas and brackets that there
            are too many takes some milliseconds.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, timeout_s: float, max_pairs: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._max_pairs = max_pairs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._arrived(Headers(scope=scope), receive)
            # Python's parser takes UTF-16 and UTF-32 as well, whose quotes and commas are not those counted here.
            if b"\0" in body:
                raise MalformedError("the body is not JSON in UTF-8")
            self._check_texts(body)
        except ClientGoneError:
            pass  # Nobody to answer.
        except ServingError as error:
            await error_response(error)(scope, receive, send)
        else:
            scope.setdefault("state", {})["arrived"] = perf_counter()
            await self._app(scope, _replay(body, receive), send)

    async def _arrived(self, headers: Headers, receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._read(headers, receive)
        except TimeoutError:
            raise BodyTooSlowError(f"the body did not arrive within {self._timeout_s:g} s") from None

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        declared = headers.get("content-length", "")
        is_too_large = declared.isdecimal() and int(declared) > self._max_bytes
        body, has_more = bytearray(), True
        while has_more and not is_too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError("the client closed the connection within the body")
            body += message.get("body", b"")
            has_more = message.get("more_body", False)
            is_too_large = len(body) > self._max_bytes
        if is_too_large:
            # A client that still waits for "100 Continue" has nothing on its way.
            if has_more and (body or "expect" not in headers):
                await _discard(receive)
            raise BodyTooLargeError(f"the body is too large, need at most {self._max_bytes} bytes")
        return bytes(body)

    def _check_texts(self, body: bytes) -> None:
        # A quote within a text has a backslash of its own before it: at least so many are those around texts.
        num_quotes = body.count(b'"') - body.count(b"\\")
        most_values = _VALUES_A_PAIR * self._max_pairs + _OTHERS
        if (
            num_quotes > _QUOTES_A_PAIR * self._max_pairs + _OTHERS
            # Texts have commas as well; to leave them out takes longer than to count.
            or (_num_values(body) > most_values and _num_values(_TEXT.sub(b"", body)) > most_values)
        ):
            raise InvalidRequestError(
                f"got more texts or other values than {self._max_pairs} pairs have, the most of one request"
            )


def _num_values(body: bytes) -> int:
    """Return how many values a body has, to within a factor of two, as long as it has no texts."""
    return sum(map(body.count, (b",", b"[", b"{")))


def _replay(body: bytes, receive: Receive) -> Receive:
    is_replayed = False

    async def replayed() -> Message:
        nonlocal is_replayed
        if is_replayed:
            return await receive()
        is_replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _discard(receive: Receive) -> None:
    """Read on for a moment: a client that is cut off while it sends sees a reset, not the answer."""
    try:
        async with asyncio.timeout(_DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
    except TimeoutError:
        pass
