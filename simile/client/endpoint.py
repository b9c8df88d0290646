"""`Endpoint`: a server of any known API that scores text pairs, at an address that a user names.

Shape suffix: P = pairs.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import httpx2
import numpy as np
from numpy.typing import NDArray

from simile.client.apis import Api, OpenAiApi, Pairs, SimileApi, TeiApi
from simile.client.exchange import Exchange, Result
from simile.client.remote import Progress
from simile.client.wires import AwaitingWire, checked_url, http_options
from simile.errors import InputError, ServerError, ServerUnavailableError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_NEED = "need NAME=URL, or NAME=URL#MODEL for OpenAI's API"
_OTHER_API = (HTTPStatus.OK, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED)
"""Statuses by which a server shows that it does not have a route, or has another one in its place."""


@dataclass(frozen=True, slots=True)
class _Patience:
    """How long a request is retried."""

    timeout_s: float
    retries: int


_FIRST, _LATER = _Patience(30, 5), _Patience(120, 120)
"""A wrong address should be reported soon; a server that restarts must not cost the scores so far."""


@dataclass(frozen=True, slots=True)
class _Server:
    """An address and its key."""

    url: str
    key: str = field(repr=False)
    key_variable: str

    def ask(self, api: Api, patience: _Patience, work: Callable[[Exchange], Coroutine[Any, Any, Result]]) -> Result:
        """Return the result of the work over connections of its own."""
        options = http_options(self.url, self.key, key_place=self.key_variable)

        async def run() -> Result:
            async with httpx2.AsyncClient(**options) as http:
                exchange = Exchange(
                    AwaitingWire(http),
                    self.url,
                    secret=self.key,
                    timeout_s=patience.timeout_s,
                    retries=patience.retries,
                    server=api.server,
                    key_place=self.key_variable,
                )
                return await work(exchange)

        return asyncio.run(run())

    def without_key(self, text: str) -> str:
        """Return a text of the server's that is shown, without the key if the server repeats it."""
        return text.replace(self.key, "[api key]") if self.key else text


class Endpoint:
    """A server that scores pairs by one of the known APIs; `connect` returns one."""

    def __init__(self, name: str, server: _Server, api: Api, *, model: str) -> None:
        self.name, self.model = name, server.without_key(model)
        self._server, self._api = server, api

    @property
    def url(self) -> str:
        """The address that texts are sent to."""
        return f"{self._server.url}{self._api.route}"

    @property
    def api(self) -> Literal["simile", "tei", "openai"]:
        """The name of the API."""
        return self._api.name

    def score(self, pairs: Pairs, on_progress: Progress | None = None) -> NDArray[np.float32]:
        """Return the score of each pair, shape ``(P,)``, all by one model; a few requests are sent at a time.

        ``on_progress`` is called with the number of distinct texts done since the last call.

        Raises:
            ServerRefusedError: the server refuses a request.
            ServerUnavailableError: the server could not be reached, or could not take a request, in time, or its model
                changed.
            ServerError: the server failed, or a response does not have a finite score for each pair.
        """
        advance = on_progress or (lambda _: None)
        score_P, model = self._server.ask(self._api, _LATER, lambda exchange: self._api.score(exchange, pairs, advance))
        if (model := self._server.without_key(model)) != self.model:
            raise ServerUnavailableError(f"{self.url}: got scores of {model}, need those of {self.model} only")
        return score_P

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.url!r})"


def connect(endpoint: str, environ: Mapping[str, str]) -> Endpoint:
    """Return the server of ``NAME=URL`` or ``NAME=URL#MODEL`` once it has answered; the key is in ``NAME_API_KEY``.

    The end of the address says which API the server speaks: ``/v1/similarity`` Simile's, ``/similarity`` TEI's, ``/v1``
    or ``/embeddings`` OpenAI's. At any other address, the server is asked to describe itself as Simile's and TEI's do.

    Raises:
        InputError: the text is no endpoint, or the server does not describe itself.
        ServerError: see `Endpoint.score`.
    """
    name, given, model = _parts(endpoint)
    variable = f"{re.sub(r'[.-]', '_', name).upper()}_API_KEY"
    url = checked_url(given, key_place=variable)
    base, apis = _apis(name, url, model)
    server = _Server(base, environ.get(variable, ""), variable)
    for api in apis:
        try:
            return Endpoint(name, server, api, model=server.ask(api, _FIRST, api.describe))
        except ServerError as error:
            if len(apis) == 1 or error.status not in _OTHER_API:
                raise
    got = f"{url}: got a server without /v1/bundle (as Simile's) and /info (as TEI's)"
    raise InputError(f"{got}, need one of these, or an address that ends in /v1 or /embeddings for OpenAI's API")


def _parts(endpoint: str) -> tuple[str, str, str]:
    """Return name, address and model; messages do not quote the address, which may hold a password."""
    name, equals, address = endpoint.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise InputError(f"endpoint: got an address without a name of letters, digits, '.', '-' and '_', {_NEED}")
    url, _, model = address.partition("#")
    return name, url, model


def _apis(name: str, url: str, model: str) -> tuple[str, list[Api]]:
    """Return the address without the route, and the APIs that the server may speak."""
    if url.endswith(("/v1", OpenAiApi.route)):
        if not model:
            raise InputError(f"{name}: got no model, need one for OpenAI's API: {name}={url}#MODEL")
        return url.removesuffix(OpenAiApi.route), [OpenAiApi(model)]
    if model:
        got = f"{name}: got the model {model!r}, which only OpenAI's API takes"
        raise InputError(f"{got}, need none, or an address that ends in /v1 or /embeddings")
    simile, tei = SimileApi(), TeiApi()
    for api in (simile, tei):
        if url.endswith(api.route):
            return url.removesuffix(api.route), [api]
    return url, [simile, tei]
