"""`Client` and `AsyncClient`: each has one server and one pool of connections."""

import math
import os
from collections.abc import Coroutine
from typing import Any, Self

import httpx2
import numpy as np
from numpy.typing import NDArray

from simile.client.answers import Similarity
from simile.client.exchange import Exchange, Result
from simile.client.remote import SERVER, Pairs, Progress, Remote
from simile.client.wires import AwaitingWire, BlockingWire, checked_url, http_options
from simile.errors import InputError

API_KEY_VARIABLE = "SIMILE_API_KEY"


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
        for_http, for_exchange = _arguments(url, api_key, timeout, retries)
        self._http = httpx2.Client(**for_http)
        self._remote = Remote(Exchange(BlockingWire(self._http), **for_exchange))

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
        for_http, for_exchange = _arguments(url, api_key, timeout, retries)
        self._http = httpx2.AsyncClient(**for_http)
        self._remote = Remote(Exchange(AwaitingWire(self._http), **for_exchange))

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


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine over a `BlockingWire`, which is never suspended, and return its result."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    raise AssertionError("a coroutine over a blocking wire was suspended")


def _arguments(url: str, api_key: str | None, timeout: float, retries: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of the HTTP library's client and those of `Exchange`, or refuse the caller's."""
    if not (timeout > 0 and math.isfinite(timeout)):
        raise InputError(f"timeout: got {timeout!r}, need a number of seconds above 0")
    if retries < 0:
        raise InputError(f"retries: got {retries!r}, need 0 or more")
    key = api_key if api_key is not None else os.environ.get(API_KEY_VARIABLE, "")
    place = f"api_key or {API_KEY_VARIABLE}"
    checked = checked_url(url, key_place=place)
    for_exchange = {"url": checked, "secret": key, "timeout_s": timeout, "retries": retries, "server": SERVER}
    return http_options(checked, key, key_place=place), for_exchange
