"""The connections of the clients to a server: HTTP requests that block, or that an event loop awaits."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from functools import cache
from typing import Any

import httpx2

from simile.client.answers import Answer
from simile.client.exchange import Item, Result
from simile.errors import InputError
from simile.version import __version__

_CONCURRENCY = 4
"""Concurrent requests of one async call: the server computes one while others travel, and together they have no more
pairs than a server takes in one request by default."""
_CONNECT_TIMEOUT_S = 5.0
# uvicorn closes a connection after 5 idle seconds; a request at that moment would meet a closed connection.
_POOL = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4)
# Creating it takes 50 ms, so that is done once per process.
_tls_context = cache(httpx2.create_ssl_context)


class BlockingWire:
    """A `Wire` that blocks: its coroutines are never suspended, so `clients._run` can run them."""

    now = staticmethod(time.monotonic)

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    async def send(self, path: str, body: bytes | None, timeout_s: float) -> Answer:
        """Return the response; see `Wire.send`."""
        end = time.monotonic() + timeout_s
        try:
            with closing(self._http.send(_request(self._http, path, body, timeout_s), stream=True)) as response:
                chunks = []
                for chunk in response.iter_bytes():
                    # The library's timeout is for each chunk of a response, not for the whole.
                    if time.monotonic() > end:
                        raise TimeoutError
                    chunks.append(chunk)
                return Answer(response.status_code, dict(response.headers), b"".join(chunks))
        except httpx2.RequestError as error:
            raise _wire_error(error) from error

    async def map(self, function: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
        """Return the function's results; see `Wire.map`."""
        return [await function(item) for item in items]

    async def sleep(self, seconds: float) -> None:
        """Block for that time."""
        time.sleep(seconds)


class AwaitingWire:
    """A `Wire` on the running event loop."""

    now, sleep = staticmethod(time.monotonic), staticmethod(asyncio.sleep)

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def send(self, path: str, body: bytes | None, timeout_s: float) -> Answer:
        """Return the response; see `Wire.send`."""
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.send(_request(self._http, path, body, timeout_s))
                return Answer(response.status_code, dict(response.headers), response.content)
        except httpx2.RequestError as error:
            raise _wire_error(error) from error

    async def map(self, function: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
        """Return the function's results; see `Wire.map`."""
        results: dict[int, Result] = {}
        waiting = iter(enumerate(items))

        async def work() -> None:
            for i, item in waiting:
                results[i] = await function(item)

        tasks = [asyncio.create_task(work()) for _ in range(min(_CONCURRENCY, len(items)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [results[i] for i in range(len(items))]


def http_options(url: str, key: str, *, key_place: str) -> dict[str, Any]:
    """Return the arguments of the HTTP library's client; refuse, naming its place, a key that no header can carry."""
    # The message of the HTTP library would show the key.
    if not all("!" <= character <= "~" for character in key):
        raise InputError(f"{key_place}: got a space or special character, need printable ASCII")
    headers = {"user-agent": f"simile/{__version__}"} | ({"authorization": f"Bearer {key}"} if key else {})
    return {"base_url": url, "headers": headers, "limits": _POOL, "verify": _tls_context()}


def checked_url(url: str, *, key_place: str) -> str:
    """Return the address without a trailing slash; refuse one with a password, without quoting it."""
    need = "need http:// or https://, a host, and no user, query or fragment"
    try:
        parsed = httpx2.URL(url)
        # What the resolver would refuse later, by an error of its own.
        parsed.host.encode("idna")
    except (httpx2.InvalidURL, UnicodeError):
        raise InputError(f"url: got an invalid address, {need}") from None
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise InputError(f"url: got more than an address, {need} (a key goes into {key_place})")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InputError(f"url: got {url!r}, {need}")
    return url.rstrip("/")


def _request(
    http: httpx2.Client | httpx2.AsyncClient, path: str, body: bytes | None, timeout_s: float
) -> httpx2.Request:
    method, headers = ("GET", None) if body is None else ("POST", {"content-type": "application/json"})
    timeout = httpx2.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S))
    return http.build_request(method, path, content=body, headers=headers, timeout=timeout)


def _wire_error(error: httpx2.RequestError) -> OSError:
    # A connection that takes too long is retried, because another server behind the address may accept the next one.
    if isinstance(error, httpx2.TimeoutException) and not isinstance(error, httpx2.ConnectTimeout):
        return TimeoutError()
    return ConnectionError(str(error) or type(error).__name__)
