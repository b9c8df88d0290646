"""What the labelling server refuses: requests that its own page would not send."""

import asyncio
from collections.abc import Iterator

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 32 * 1024
"""Bytes of a request's body. A note of 2,000 characters takes at most 24,000."""
_BODY_S = 10.0
"""Seconds in which a body has to arrive."""
_HEADERS = {
    # page.js sets the width of the progress bar by script, which style-src does not restrict.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """An ASGI application around another, which answers only what the page of this server sends.

    - 421 to another ``Host`` than this machine's loopback names with the port (DNS rebinding), or to none.
    - 403 to a page of another origin, by ``Origin`` and ``Sec-Fetch-Site``.
    - 415 to a body that is not declared as JSON, 413 to a large one, 408 to a slow one.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = [f"{name}:{port}" for name in ("127.0.0.1", "localhost")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if refusal := next(self._refusals(scope), None) or (
            await _replaced(receive) if scope["method"] == "POST" else None
        ):
            if isinstance(refusal, JSONResponse):
                await refusal(scope, receive, send_with_headers)
                return
            receive = refusal
        await self._app(scope, receive, send_with_headers)

    def _refusals(self, scope: Scope) -> Iterator[JSONResponse]:
        headers = Headers(scope=scope)
        hosts = [host.lower() for host in headers.getlist("host")]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            yield _refusal(421, f"need http://{self._hosts[0]} as the address")
        origins = headers.getlist("origin")
        is_other_site = headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
        if is_other_site or any(origin not in [f"http://{host}" for host in self._hosts] for origin in origins):
            yield _refusal(403, "need a request from this server's own page")
        if scope["method"] == "POST":
            if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                yield _refusal(415, "need the content type application/json")
            declared = headers.get("content-length", "0")
            if not declared.isdecimal() or int(declared) > MAX_BODY_BYTES:
                yield _refusal(413, f"need a body of at most {MAX_BODY_BYTES:,} bytes")


async def _replaced(receive: Receive) -> Receive | JSONResponse:
    """Read the body; return what gives it at once, or the refusal of one that is too large or too slow."""
    body, has_more = bytearray(), True
    try:
        async with asyncio.timeout(_BODY_S):
            while has_more:
                message = await receive()
                body += message.get("body", b"")
                has_more = message.get("more_body", False)
                if len(body) > MAX_BODY_BYTES:
                    return _refusal(413, f"need a body of at most {MAX_BODY_BYTES:,} bytes")
    except TimeoutError:
        return _refusal(408, f"need the body within {_BODY_S:g} s")

    message = {"type": "http.request", "body": bytes(body), "more_body": False}

    async def give() -> Message:
        nonlocal message
        given, message = message, {}
        return given or await receive()

    return give


def _refusal(status: int, need: str) -> JSONResponse:
    return JSONResponse({"error": need}, status_code=status, headers={"connection": "close"})
