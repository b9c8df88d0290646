"""Around every request: API keys, access log, metrics, and the last resort for our defects."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from hashlib import sha256
from hmac import compare_digest
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import UnauthorizedError, error_response, internal_error_response
from serving.metrics import Metrics

PROBES = ("/healthz", "/readyz")
_UNMATCHED = "unmatched"
_NOT_TIMED = (408, 429)

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
        # How fast we refuse, and how slowly a body comes, is not how long an answer takes.
        if status not in _NOT_TIMED:
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
