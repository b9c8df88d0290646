"""Middleware for every request: API keys, access log, metrics, and the response to unexpected errors."""

import logging
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.call import STAGES, Timing
from serving.errors import UnauthorizedError, WrongHostError, error_response, internal_error_response
from serving.keys import Keys
from serving.logs import REQUEST_ID
from serving.service import Service
from serving.settings import Settings
from serving.tracing import RequestSpan, Tracer

PROBES = ("/healthz", "/readyz", "/health", "/v2/health/live", "/v2/health/ready")
_NOT_TIMED = (408, 429)
_PORT = re.compile(r":\d*$")
_ADDRESS = re.compile(r"[\d.]+|\[[\da-f:.]+\]")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_log = logging.getLogger(__name__)


class Observe:
    """Counts, times and logs each request, and answers an uncaught exception with a bare 500.

    The paths in ``routes`` have a label of their own; one with parameters, such as ``/v2/models/{name}``, is itself the
    label of all paths that match it. All others share one, so that the number of labels is bounded.
    With ``with_timing``, the header ``server-timing`` has the milliseconds of each stage. The connection is closed by
    the last response on it (`serving.connection`), and by every response once the service is leaving. Each request has
    an id, the client's ``x-request-id`` or a new one.
    """

    def __init__(
        self, app: ASGIApp, service: Service, routes: Collection[str], *, tracer: Tracer | None, with_timing: bool
    ) -> None:
        self._app, self._tracer = app, tracer
        self._with_timing = with_timing
        self._service, self._metrics = service, service.metrics
        self._routes = frozenset(path for path in routes if "{" not in path)
        self._templates = {path: compile_path(path)[0] for path in routes if "{" in path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, headers = perf_counter(), 0, Headers(scope=scope)
        state = scope.setdefault("state", {})
        state["start"] = start
        given = headers.get("x-request-id", "")
        state["request_id"] = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        token = REQUEST_ID.set(state["request_id"])
        route = self._route_of(scope["path"])
        if self._tracer and route not in PROBES:
            state["span"] = self._tracer.begin(f"{scope['method']} {route}", headers, start)

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = dict(self._extra_headers(state, perf_counter() - start))
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
            self._note(route, state, status or 499, perf_counter() - start)
            REQUEST_ID.reset(token)

    def _route_of(self, path: str) -> str:
        if path in self._routes:
            return path
        return next((route for route, pattern in self._templates.items() if pattern.match(path)), "unmatched")

    def _extra_headers(self, state: Mapping[str, Any], seconds: float) -> Iterator[tuple[bytes, bytes]]:
        if self._service.is_leaving or "is_last" in state:
            yield b"connection", b"close"
        yield b"x-request-id", state["request_id"].encode()
        if "span" in state:
            yield b"traceparent", state["span"].traceparent.encode()
        if "bundle" in state:
            yield b"x-simile-bundle", state["bundle"].encode()
        if self._with_timing and "timing" in state:
            timing: Timing = state["timing"]
            steps = {step: getattr(timing, step) for step in STAGES} | {"total": seconds}
            yield b"server-timing", ", ".join(f"{step};dur={s * 1000:.2f}" for step, s in steps.items()).encode()

    def _note(self, route: str, state: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count, log and trace the request, now that it is answered."""
        self._metrics.requests.labels(route, str(status)).inc()
        span: RequestSpan | None = state.get("span")
        # The time of a refusal or of a slow upload is not a response time.
        if status not in _NOT_TIMED:
            exemplar = {"trace_id": span.trace_id} if span else None
            self._metrics.request_seconds.labels(route).observe(seconds, exemplar)
        num_pairs, num_tokens, name = (state.get(fact) for fact in ("num_pairs", "num_tokens", "key_name"))
        if name is not None:
            self._metrics.count_of_key(name, status, num_tokens or 0)
        facts = {"pairs": num_pairs, "tokens": num_tokens, "truncated": state.get("num_cut"), "key": name}
        known = {fact: value for fact, value in facts.items() if value is not None}
        if _log.isEnabledFor(level := logging.DEBUG if route in PROBES else logging.INFO):
            milliseconds = round(seconds * 1000, 1)
            fields = {"route": route, "status": status, "milliseconds": milliseconds, **known}
            shown = "".join(f" {fact} {value}" for fact, value in {**known, "id": state["request_id"]}.items())
            _log.log(level, "%s %d %.1f ms%s", route, status, milliseconds, shown, extra={"fields": fields})
        if self._tracer and span:
            attributes = {"http.route": route, "http.response.status_code": status}
            attributes |= {f"simile.{fact}": value for fact, value in known.items()}
            self._tracer.end(span, attributes, _stages(state))


def _stages(state: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Return when each stage of the request began and ended, as far as it came."""
    moments = {"receive": (state["start"], state.get("arrived")), "parse": (state.get("arrived"), state.get("parsed"))}
    stages = {name: (begun, ended) for name, (begun, ended) in moments.items() if begun and ended}
    if timing := state.get("timing"):
        moment = timing.start
        for step in STAGES:
            stages[step] = (moment, moment := moment + getattr(timing, step))
    return stages


class CheckHost:
    """Answers 421 where the header ``Host`` names none of the hosts (without ports); ``*`` stands for all.

    Without hosts, a service on a loopback address refuses domains: a page whose domain is made to lead to this machine
    (DNS rebinding) could read its responses otherwise. No page can have an address or a name without a dot as its
    domain. Requests without the header pass, and those to the ``public`` paths: Kubernetes' probes name the pod's
    address.
    """

    def __init__(self, app: ASGIApp, settings: Settings, public: Collection[str] = ()) -> None:
        self._app, self._public = app, frozenset(public)
        self._hosts = frozenset(name.lower() for name in settings.hosts)
        self._is_local = settings.host in ("localhost", "::1") or settings.host.startswith("127.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        is_checked = scope["type"] == "http" and scope["path"] not in self._public
        given = Headers(scope=scope).get("host", "") if is_checked else ""
        if not given or self._is_known(_PORT.sub("", given).lower()):
            await self._app(scope, receive, send)
        else:
            error = WrongHostError("the header Host names another host, need one that the service knows (--hosts)")
            await error_response(error)(scope, receive, send)

    def _is_known(self, name: str) -> bool:
        if self._hosts:
            return "*" in self._hosts or name in self._hosts
        return not self._is_local or "." not in name or name.endswith(".localhost") or bool(_ADDRESS.fullmatch(name))


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
