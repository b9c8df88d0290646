"""The request body: read completely, within limits of bytes, time and texts, before the application is called.

The application is called in its turn (`serving.turns`). Large bodies share a limited memory until they are answered.
"""

import asyncio
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from time import perf_counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import (
    BodyTooLargeError,
    BodyTooSlowError,
    ClientGoneError,
    InvalidRequestError,
    MalformedError,
    OverloadedError,
    ServingError,
    error_response,
)
from serving.settings import Settings
from serving.tensors import JSON_SIZE, split
from serving.turns import COST_OF_REQUEST, Turns

_DISCARD_S = 2.0
_SMALL_BYTES = 16 * 1024
"""Bodies that are always accepted."""
_MAX_BYTES = 16 * 2**20
"""Bytes of all other bodies that have arrived and are not answered. Their texts may take four times as many."""
_QUOTES_PER_PAIR, _VALUES_PER_PAIR = 8, 4
"""Quotes of a pair that is written as an object; commas and opening brackets of a pair of nested tensors."""
_ALLOWANCE = 2000
"""Further quotes, and further values, for whatever else a client sends, such as a model's name."""

# The quantifiers are possessive, and the end of the body ends a text too: each byte is read once, whatever it says.
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


class LimitBody:
    """Reads the body of each POST request before the application does, and refuses one that exceeds a limit.

    A body that is too slow, too long or has too many values is answered with 408, 413 or 422. The application receives
    the whole body as one message, then whatever the server sends later (a disconnect). The time at which the body was
    complete is ``arrived`` in the request's state. Of a body with binary tensors, the application receives the JSON
    part; the rest is ``tensors`` in the request's state. No route has a query, so that none is parsed.

    Parsing 400,000 pairs, or a million numbers, blocks the event loop for 0.15 s and more; counting quotes, commas and
    brackets takes a few milliseconds. Requests to ``prompt`` paths are answered without waiting for a turn.
    """

    def __init__(self, app: ASGIApp, settings: Settings, prompt: Collection[str] = ()) -> None:
        self._app, self._settings, self._prompt = app, settings, frozenset(prompt)
        self._turns = Turns()
        self._num_bytes = 0
        """Bytes of the large bodies that have arrived and are not answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "query_string": b""}
        try:
            if scope["method"] == "POST":
                await self._serve_body(scope, receive, send)
                return
            if scope["path"] not in self._prompt:
                await self._take_turn(scope, COST_OF_REQUEST)
        except ClientGoneError:
            pass  # No client is left to answer.
        except ServingError as error:
            await error_response(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._settings.transfer_s):
                body = await self._read(headers := Headers(scope=scope), receive)
        except TimeoutError:
            raise BodyTooSlowError(f"the body did not arrive within {self._settings.transfer_s:g} s") from None
        state = scope.setdefault("state", {})
        state["arrived"] = perf_counter()
        with self._reserve(len(body)):
            await self._take_turn(scope, COST_OF_REQUEST + len(body))
            if scope["path"].endswith("/infer") and (json_size := headers.get(JSON_SIZE)):
                body, state["tensors"] = split(body, json_size)
                scope = _without_content_type(scope)
            # Python's parser accepts UTF-16 and UTF-32 too, where counting bytes would miss quotes and commas.
            if b"\0" in body:
                raise MalformedError("the body is not JSON in UTF-8")
            self._check_texts(body)
            await self._app(scope, _replay(body, receive), send)

    async def _take_turn(self, scope: Scope, cost: int) -> None:
        """Wait until the work on the request may begin, or raise a `ClientGoneError` if its client has left by then."""
        await self._turns.next(cost)
        if "has_left" in scope.get("state", ()):
            raise ClientGoneError("the client closed the connection before its turn")

    @contextmanager
    def _reserve(self, num_bytes: int) -> Iterator[None]:
        """Reserve memory for a body until it is answered: half of what is free at most, but one alone always gets it.

        So the largest bodies leave room for those of usual size.
        """
        if num_bytes <= _SMALL_BYTES:
            yield
            return
        if self._num_bytes and num_bytes > (_MAX_BYTES - self._num_bytes) // 2:
            raise OverloadedError("too many large requests wait for an answer, try again later", retry_after_s=1)
        self._num_bytes += num_bytes
        try:
            yield
        finally:
            self._num_bytes -= num_bytes

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        declared = headers.get("content-length", "")
        is_too_large = declared.isdecimal() and int(declared) > self._settings.max_body_bytes
        body, has_more = bytearray(), True
        while has_more and not is_too_large:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError("the client closed the connection before the body was complete")
            body += message.get("body", b"")
            has_more = message.get("more_body", False)
            is_too_large = len(body) > self._settings.max_body_bytes
        if is_too_large:
            # A client that still waits for "100 Continue" has sent nothing to discard.
            if has_more and (body or "expect" not in headers):
                await _discard(receive)
            raise BodyTooLargeError(f"the body is too large, need at most {self._settings.max_body_bytes} bytes")
        return bytes(body)

    def _check_texts(self, body: bytes) -> None:
        # A quote inside a text follows a backslash of its own, so at least this many quotes delimit texts.
        num_quotes = body.count(b'"') - body.count(b"\\")
        max_pairs = self._settings.max_pairs
        max_values = _VALUES_PER_PAIR * max_pairs + _ALLOWANCE
        if (
            num_quotes > _QUOTES_PER_PAIR * max_pairs + _ALLOWANCE
            # Texts contain commas too. Removing the texts is slower than counting, so it comes second.
            or (_num_values(body) > max_values and _num_values(_TEXT.sub(b"", body)) > max_values)
        ):
            raise InvalidRequestError(
                f"got more texts or other values than {max_pairs} pairs have, the most that a request may have"
            )


def _num_values(body: bytes) -> int:
    """Return how many values a body without texts has, to within a factor of two."""
    return sum(map(body.count, (b",", b"[", b"{")))


def _without_content_type(scope: Scope) -> Scope:
    """Return the scope of a request whose body is now JSON, which a body of no type is taken for."""
    return {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"content-type"]}


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
    """Read on for a moment: a client that is cut off while it sends would see a reset instead of the response."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            while (await receive()).get("more_body", False):
                pass
