"""`Client` and `AsyncClient`: each has one server and one pool of connections."""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import closing
from functools import cache
from typing import Any, Self

import httpx2
import numpy as np
from numpy.typing import NDArray

from simile.client.answers import Answer, Similarity
from simile.client.remote import Item, Pairs, Progress, Remote, Result
from simile.errors import InputError
from simile.version import __version__

API_KEY_VARIABLE = "SIMILE_API_KEY"
_CONCURRENCY = 4
"""Concurrent requests of one async call: the server computes one while others travel, and together they have no more
pairs than a server takes in one request by default."""
_CONNECT_TIMEOUT_S = 5.0
# uvicorn closes a connection after 5 idle seconds; a request at that moment would meet a closed connection.
_POOL = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=4)
# Creating it takes 50 ms, so that is done once per process.
_tls_context = cache(httpx2.create_ssl_context)


class Client:
    """A client of a Simile server; its `score` corresponds to that of `simile.load`.

    It keeps a pool of connections open: use it as a context manager, or `close` it. It is thread-safe.

    A request is retried if the server cannot take it now (429, 503) or if the connection failed, after the time that
    the server asks for, else with exponential back-off. No other response is retried.

    Args:
        url: the server's address, such as ``http://localhost:8080``.
        api_key: the key sent to the server; by default SIMILE_API_KEY of the environment, if it is set.
        timeout: seconds that a request may take with all its attempts and waits. A long list takes several requests.
        retries: number of attempts after the first one.

    Raises:
        InputError: an argument is invalid.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 30.0, retries: int = 5) -> None:
        for_http, for_remote = _arguments(url, api_key, timeout, retries)
        self._http = httpx2.Client(**for_http)
        self._remote = Remote(_BlockingWire(self._http), **for_remote)

    def score(self, pairs: Pairs) -> NDArray[np.float32]:
        """Return the score of each pair, shape ``(P,)``, in [-1, 1]; `similarity` returns more."""
        return self.similarity(pairs).scores

    def similarity(self, pairs: Pairs, *, members: bool = False, on_progress: Progress | None = None) -> Similarity:
        """Return the scores of the pairs with probabilities, usage and bundle, all by one bundle.

        A long list is sent in several requests, one after the other, within the limits that the server publishes; the
        server embeds each text once per request. If the server changes its bundle between two requests, all pairs are
        scored once more. If the bundle changes again (for example because servers behind one address have different
        bundles), that is an error, so scores of two bundles are never mixed.

        Args:
            pairs: two texts each.
            members: whether to return each member's scores too.
            on_progress: called with the number of pairs done since the last call; negative if scoring starts again.

        Raises:
            InputError: a pair is not two texts, or exceeds the server's limit by itself; nothing was sent.
            ServerRefusedError: the server refuses the request; ``param`` has the place in ``pairs``.
            ServerUnavailableError: the server could not be reached, or could not take the request, in time.
            ServerError: the server failed, or the response is not from a Simile server.
        """
        return _run(self._remote.similarity(pairs, members=members, on_progress=on_progress))

    def bundle(self) -> dict[str, Any]:
        """Return the server's description of its bundle: name, digest, members, thresholds, limits (``/v1/bundle``)."""
        return _run(self._remote.bundle())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"simile.Client({self._remote.url!r})"


class AsyncClient:
    """`Client` for an event loop: it has the same arguments, methods and errors, and sends a few requests at a time."""

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 30.0, retries: int = 5) -> None:
        for_http, for_remote = _arguments(url, api_key, timeout, retries)
        self._http = httpx2.AsyncClient(**for_http)
        self._remote = Remote(_AwaitingWire(self._http), **for_remote)

    async def score(self, pairs: Pairs) -> NDArray[np.float32]:
        """Return the score of each pair, shape ``(P,)``, in [-1, 1]; see `Client.score`."""
        return (await self.similarity(pairs)).scores

    async def similarity(
        self, pairs: Pairs, *, members: bool = False, on_progress: Progress | None = None
    ) -> Similarity:
        """Return the scores of the pairs with probabilities, usage and bundle; see `Client.similarity`."""
        return await self._remote.similarity(pairs, members=members, on_progress=on_progress)

    async def bundle(self) -> dict[str, Any]:
        """Return the server's description of its bundle; see `Client.bundle`."""
        return await self._remote.bundle()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"simile.AsyncClient({self._remote.url!r})"


class _BlockingWire:
    """A `Wire` that blocks: its coroutines are never suspended, so `_run` can run them."""

    now = staticmethod(time.monotonic)

    def __init__(self, http: httpx2.Client) -> None:
        self._http = http

    async def send(self, path: str, body: bytes | None, timeout_s: float) -> Answer:
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
        return [await function(item) for item in items]

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _AwaitingWire:
    """A `Wire` on the running event loop."""

    now, sleep = staticmethod(time.monotonic), staticmethod(asyncio.sleep)

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def send(self, path: str, body: bytes | None, timeout_s: float) -> Answer:
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.send(_request(self._http, path, body, timeout_s))
                return Answer(response.status_code, dict(response.headers), response.content)
        except httpx2.RequestError as error:
            raise _wire_error(error) from error

    async def map(self, function: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
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


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine over a `_BlockingWire`, which is never suspended, and return its result."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise AssertionError("a coroutine over a blocking wire was suspended")


def _arguments(url: str, api_key: str | None, timeout: float, retries: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the HTTP library's client and those of `Remote`, or refuse the caller's."""
    if not (timeout > 0 and math.isfinite(timeout)):
        raise InputError(f"timeout: got {timeout!r}, need a number of seconds above 0")
    if retries < 0:
        raise InputError(f"retries: got {retries!r}, need 0 or more")
    key = api_key if api_key is not None else os.environ.get(API_KEY_VARIABLE, "")
    # Other characters are not allowed in a header, and the message of the HTTP library would show the key.
    if not all("!" <= character <= "~" for character in key):
        raise InputError(f"api_key or {API_KEY_VARIABLE}: got a space or special character, need printable ASCII")
    url = _checked_url(url)
    headers = {"user-agent": f"simile/{__version__}"} | ({"authorization": f"Bearer {key}"} if key else {})
    for_http = {"base_url": url, "headers": headers, "limits": _POOL, "verify": _tls_context()}
    return for_http, {"url": url, "secret": key, "timeout_s": timeout, "retries": retries}


def _checked_url(url: str) -> str:
    """Return the address without a trailing slash; refuse one with a password, without quoting it."""
    need = "need http:// or https://, a host, and no user, query or fragment"
    try:
        parsed = httpx2.URL(url)
        # What the resolver would refuse later, by an error of its own.
        parsed.host.encode("idna")
    except (httpx2.InvalidURL, UnicodeError):
        raise InputError(f"url: got an invalid address, {need}") from None
    if parsed.userinfo or parsed.query or parsed.fragment:
        raise InputError(f"url: got more than an address, {need} (a key goes into api_key or {API_KEY_VARIABLE})")
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
