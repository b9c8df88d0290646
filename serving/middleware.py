"""Around every request: API keys, the body's limit, access log, metrics, and the last resort for our defects."""

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from hmac import compare_digest
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import (
    BodyTooLargeError,
    ClientGoneError,
    UnauthorizedError,
    error_response,
    internal_error_response,
)
from serving.metrics import Metrics

PROBES = ("/healthz", "/readyz")
_UNMATCHED = "unmatched"
_DISCARD_S = 2.0

_log = logging.getLogger(__name__)


class Observe:
    """Count, time and log each request; answer a bare 500 to what nobody else caught.

    Args:
        app: the application inside.
        metrics: told of each request.
        routes: the paths that are labels of their own; all others share one, so that labels stay bounded.
        with_timing: tell what a call's steps took, in the header ``server-timing`` (milliseconds).
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Collection[str], *, with_timing: bool) -> None:
        self._app = app
        self._with_timing = with_timing
        self._metrics = metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = perf_counter(), 0
        scope.setdefault("state", {})["start"] = start

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self._told(scope["state"], perf_counter() - start)]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        # The traceback is for the log only; the client learns nothing of our inside.
        except Exception:  # noqa: BLE001
            _log.exception("internal error")
            if not status:
                await internal_error_response()(scope, receive, send_noting_status)
        finally:
            # No status: the task was cancelled with its client, or with the process.
            self._note(scope, status or 499, perf_counter() - start)

    def _told(self, state: Mapping[str, Any], seconds: float) -> Iterator[tuple[bytes, bytes]]:
        if "bundle" in state:
            yield b"x-simile-bundle", state["bundle"].encode()
        if self._with_timing and "timing" in state:
            steps = asdict(state["timing"]) | {"total": seconds}
            yield b"server-timing", ", ".join(f"{step};dur={s * 1000:.2f}" for step, s in steps.items()).encode()

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self._routes else _UNMATCHED
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        num_pairs = scope["state"].get("num_pairs", 0)
        _log.log(level, "%s %d %.1f ms %d pairs", route, status, seconds * 1000, num_pairs)


class RequireKey:
    """Answer 401 to what does not bring one of the API keys as ``Authorization: Bearer KEY``.

    Args:
        app: the application inside.
        keys: any of them will do.
        public: paths that need none.
    """

    def __init__(self, app: ASGIApp, keys: Collection[str], public: Collection[str]) -> None:
        self._app = app
        self._public = frozenset(public)
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or (scope["path"] in self._public and scope["method"] in ("GET", "HEAD")):
            await self._app(scope, receive, send)
            return
        kind, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        digest = _digest(key.strip())
        # All are compared, each in constant time: how long it takes tells nothing of any.
        matches = [compare_digest(digest, known) for known in self._digests]
        if kind.lower() == "bearer" and any(matches):
            await self._app(scope, receive, send)
        else:
            error = UnauthorizedError("need one of this service's API keys, as Authorization: Bearer KEY")
            await error_response(error)(scope, receive, send)


def _digest(key: str) -> bytes:
    return sha256(key.encode(errors="surrogateescape")).digest()


class LimitBody:
    """Read the body before the application does, and answer 413 where it is too long, declared or chunked.

    The application gets the whole body as one message, and after it what the server sends then (a disconnect).
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(Headers(scope=scope), receive)
        except BodyTooLargeError as error:
            await error_response(error)(scope, receive, send)
        except ClientGoneError:
            pass  # Nobody to answer.
        else:
            await self._app(scope, _replay(body, receive), send)

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
