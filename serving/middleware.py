"""Middleware for every request: API keys, access log, metrics, and the response to unexpected errors."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import UnauthorizedError, error_response, internal_error_response
from serving.keys import Keys
from serving.service import Service

PROBES = ("/healthz", "/readyz", "/health")
_NOT_TIMED = (408, 429)

_log = logging.getLogger(__name__)


class Observe:
    """Counts, times and logs each request, and answers an uncaught exception with a bare 500.

    The paths in ``routes`` have a label of their own. All others share one, so that the number of labels is bounded.
    With ``with_timing``, the header ``server-timing`` has the milliseconds of each stage. The connection is closed by
    the last response on it (`serving.connection`), and by every response once the service is leaving.
    """

    def __init__(self, app: ASGIApp, service: Service, routes: Collection[str], *, with_timing: bool) -> None:
        self._app = app
        self._with_timing = with_timing
        self._service, self._metrics = service, service.metrics
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
                own = dict(self._extra_headers(scope["state"], perf_counter() - start))
                # Some errors close the connection in any case.
                message["headers"] = [*own.items(), *(item for item in message["headers"] if item[0] not in own)]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        # The traceback goes to the log only; the response reveals no internals.
        except Exception:  # noqa: BLE001
            _log.exception("internal error")
            if not status:
                await internal_error_response()(scope, receive, send_noting_status)
        finally:
            # There is no status if the task was cancelled, because the client left or the process ends.
            self._note(scope, status or 499, perf_counter() - start)

    def _extra_headers(self, state: Mapping[str, Any], seconds: float) -> Iterator[tuple[bytes, bytes]]:
        if self._service.is_leaving or "is_last" in state:
            yield b"connection", b"close"
        if "bundle" in state:
            yield b"x-simile-bundle", state["bundle"].encode()
        if self._with_timing and "timing" in state:
            steps = asdict(state["timing"]) | {"total": seconds}
            yield b"server-timing", ", ".join(f"{step};dur={s * 1000:.2f}" for step, s in steps.items()).encode()

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self._routes else "unmatched"
        self._metrics.requests.labels(route, str(status)).inc()
        # The time of a refusal or of a slow upload is not a response time.
        if status not in _NOT_TIMED:
            self._metrics.request_seconds.labels(route).observe(seconds)
        level = logging.DEBUG if route in PROBES else logging.INFO
        num_pairs, name = scope["state"].get("num_pairs", 0), scope["state"].get("key_name")
        if name is not None:
            self._metrics.count_of_key(name, status, scope["state"].get("num_tokens", 0))
        of_key = f" key {name}" if name else ""
        _log.log(level, "%s %d %.1f ms %d pairs%s", route, status, seconds * 1000, num_pairs, of_key)


class RequireKey:
    """Answers 401 to a request without ``Authorization: Bearer KEY``, where KEY is one of the keys.

    The ``public`` paths need no key. The name of the key's owner becomes ``key_name`` in the request's state.
    """

    def __init__(self, app: ASGIApp, keys: Keys, public: Collection[str]) -> None:
        self._app, self._keys = app, keys
        self._public = frozenset(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or (scope["path"] in self._public and scope["method"] in ("GET", "HEAD")):
            await self._app(scope, receive, send)
            return
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        owner = self._keys.owner_of(key.strip())
        if scheme.lower() == "bearer" and owner is not None:
            scope["state"]["key_name"] = owner
            await self._app(scope, receive, send)
        else:
            error = UnauthorizedError("need one of this service's API keys in the header Authorization: Bearer KEY")
            await error_response(error)(scope, receive, send)
