"""The APIs by which a server can be asked for scores: Simile's, text-embeddings-inference's (TEI) and OpenAI's.

Shape suffixes: P = pairs, D = dimensions.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, RootModel

from simile.client.answers import Answer, Problem, Received, read, status_words
from simile.client.exchange import Exchange
from simile.client.remote import SERVER, SIMILARITY, Progress, Remote

_TEXTS_PER_REQUEST = 32
"""Texts per request to TEI and by OpenAI's API: the default limit of TEI, and with 8,192 tokens each still within the
300,000 tokens that OpenAI takes at once."""

Pairs = Sequence[tuple[str, str]]


class Scores(NamedTuple):
    """The scores of pairs, and the model that computed them, as the server names it."""

    score_P: NDArray[np.float32]
    model: str


class Api(Protocol):
    """A way to ask a server for scores."""

    @property
    def name(self) -> Literal["simile", "tei", "openai"]:
        """The name in reports."""

    @property
    def server(self) -> str:
        """The server that is needed, as messages name it."""

    @property
    def route(self) -> str:
        """The path that texts are sent to."""

    async def describe(self, exchange: Exchange) -> str:
        """Return the server's model; raise a `ServerError` if the server does not speak this API."""

    async def score(self, exchange: Exchange, pairs: Pairs, on_progress: Progress) -> Scores:
        """Return the scores of the pairs; ``on_progress`` is called with the number of distinct texts done since."""


class SimileApi:
    """Simile's own API."""

    name: Literal["simile"] = "simile"
    server = SERVER
    route = SIMILARITY

    async def describe(self, exchange: Exchange) -> str:
        """Return the identity of the bundle."""
        bundle = await Remote(exchange).bundle()
        return f"{bundle['name']}@sha256:{bundle['digest']}"

    async def score(self, exchange: Exchange, pairs: Pairs, on_progress: Progress) -> Scores:
        """Return the scores of one bundle."""
        advance = _in_texts(pairs, on_progress)
        similarity = await Remote(exchange).similarity(pairs, members=False, on_progress=advance)
        return Scores(similarity.scores, similarity.bundle)


class _TeiInfo(Received):
    model_id: str
    model_sha: str | None = None
    max_client_batch_size: Annotated[int, Field(ge=2)]


class _TeiScores(RootModel[list[float]]):
    model_config = ConfigDict(allow_inf_nan=False, strict=True)


class TeiApi:
    """TEI's API, which compares one text with several: each first text of pairs takes a request of its own."""

    name: Literal["tei"] = "tei"
    server = "a server of TEI's API"
    route = "/similarity"

    async def describe(self, exchange: Exchange) -> str:
        """Return the model with its revision."""
        info = await self._info(exchange)
        return f"{info.model_id}@{info.model_sha}" if info.model_sha else info.model_id

    async def score(self, exchange: Exchange, pairs: Pairs, on_progress: Progress) -> Scores:
        """Return the server's cosines; texts that the model cannot read whole are cut, as bundles cut them."""
        # TEI counts the first text as well.
        most = min((await self._info(exchange)).max_client_batch_size - 1, _TEXTS_PER_REQUEST)
        advance = _in_texts(pairs, on_progress)
        score_P = np.empty(len(pairs), np.float32)
        rows_by_text: dict[str, list[int]] = {}
        for row, (text_a, _) in enumerate(pairs):
            rows_by_text.setdefault(text_a, []).append(row)
        parts = [rows[start : start + most] for rows in rows_by_text.values() for start in range(0, len(rows), most)]

        async def send(rows: list[int]) -> None:
            inputs = {"source_sentence": pairs[rows[0]][0], "sentences": [pairs[row][1] for row in rows]}
            answer = await _post(exchange, self.route, {"inputs": inputs, "parameters": {"truncate": True}})
            score_P[rows] = exchange.read(self.route, answer, lambda answer: _tei_scores(answer, len(rows)))
            advance(len(rows))

        await exchange.wire.map(send, parts)
        return Scores(score_P, await self.describe(exchange))

    async def _info(self, exchange: Exchange) -> _TeiInfo:
        path = "/info"
        answer = await exchange.request(path, problem=read_foreign_problem)
        return exchange.read(path, answer, lambda answer: read(answer, _TeiInfo))


class _Embedding(Received):
    model_config = ConfigDict(strict=True)
    index: int
    embedding: list[float]


class _Embeddings(Received):
    data: list[_Embedding]
    model: str | None = None


class OpenAiApi:
    """OpenAI's API of embeddings: a score is the cosine of two of them, and each distinct text is embedded once.

    Args:
        model: the model that requests name.
    """

    name: Literal["openai"] = "openai"
    server = "a server of OpenAI's API"
    route = "/embeddings"

    def __init__(self, model: str) -> None:
        self._model = model
        self._answered: set[str] = set()
        """The models that the responses name."""
        self._vectors: dict[str, NDArray[np.float32]] = {}
        """The embedding of each text so far, scaled to length 1, shape ``(D,)``."""

    async def describe(self, exchange: Exchange) -> str:
        """Return the model as the response names it; the API describes none without embedding a text."""
        await self._embed(exchange, ["text"])
        return self._answered_model()

    async def score(self, exchange: Exchange, pairs: Pairs, on_progress: Progress) -> Scores:
        """Return the cosines of the embeddings."""
        texts = dict.fromkeys(text for pair in pairs for text in pair)
        missing = [text for text in texts if text not in self._vectors]
        on_progress(len(texts) - len(missing))

        async def send(part: list[str]) -> None:
            await self._embed(exchange, part)
            on_progress(len(part))

        starts = range(0, len(missing), _TEXTS_PER_REQUEST)
        await exchange.wire.map(send, [missing[start : start + _TEXTS_PER_REQUEST] for start in starts])
        cosines = [self._vectors[a] @ self._vectors[b] for a, b in pairs]
        return Scores(np.array(cosines, np.float32), self._answered_model())

    async def _embed(self, exchange: Exchange, texts: list[str]) -> None:
        answer = await _post(exchange, self.route, {"model": self._model, "input": texts})
        body, vectors = exchange.read(self.route, answer, lambda answer: self._read(answer, len(texts)))
        self._vectors.update(zip(texts, vectors, strict=True))
        self._answered.add(body.model or self._model)

    def _read(self, answer: Answer, num_texts: int) -> tuple[_Embeddings, list[NDArray[np.float32]]]:
        """Return the body and the vectors in the order of the texts, or raise a `ValueError`."""
        body = read(answer, _Embeddings)
        rows = sorted(body.data, key=lambda row: row.index)
        if [row.index for row in rows] != list(range(num_texts)):
            raise ValueError(f"{len(rows)} embeddings, need those of {num_texts} texts")
        dimension = len(next(iter(self._vectors.values()))) if self._vectors else len(rows[0].embedding)
        vectors = []
        for row in rows:
            vector_D = np.array(row.embedding, np.float64)
            length = float(np.linalg.norm(vector_D))
            if len(vector_D) != dimension or not 0 < length < np.inf:
                got = f"data.{row.index}: {len(vector_D)} dimensions and a length of {length:g}"
                raise ValueError(f"{got}, need {dimension} dimensions and a positive length")
            vectors.append((vector_D / length).astype(np.float32))
        return body, vectors

    def _answered_model(self) -> str:
        return " and ".join(sorted(self._answered))


def read_foreign_problem(answer: Answer) -> Problem:
    """Return the error of a response in one of the forms that TEI and servers of OpenAI's API use."""
    error_type, message = status_words(answer.status), "the response has no message"
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        body = None
    match body:
        case {"error": {"message": str(text), "code": str(code)}}:
            error_type, message = code, text
        case {"error": {"message": str(text)}}:
            message = text
        case {"error": str(text), "error_type": str(code)}:
            error_type, message = code, text
        case {"error": str(text)}:
            message = text
        case {"message": str(text)} | {"detail": str(text)}:
            message = text
    return Problem(type=" ".join(error_type.split()), message=" ".join(message.split()))


async def _post(exchange: Exchange, path: str, body: Any) -> Answer:
    return await exchange.request(path, json.dumps(body).encode(), problem=read_foreign_problem)


def _tei_scores(answer: Answer, num_pairs: int) -> list[float]:
    scores = read(answer, _TeiScores).root
    if len(scores) != num_pairs:
        raise ValueError(f"{len(scores)} scores, need those of {num_pairs} pairs")
    return scores


def _in_texts(pairs: Pairs, on_progress: Progress) -> Progress:
    """Return a function that counts pairs as done, and reports the same share of the distinct texts."""
    num_texts = len({text for pair in pairs for text in pair})
    num_done = 0

    def advance(num: int) -> None:
        nonlocal num_done
        before = num_done * num_texts // len(pairs)
        num_done += num
        on_progress(num_done * num_texts // len(pairs) - before)

    return advance
