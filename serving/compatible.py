"""Routes compatible with other servers, so that their clients work here unchanged.

Fields that have no meaning here (a model's name, a user) are ignored. Fields that would change the result in a way that
this server does not support are refused by name.
"""

import base64
import secrets
import time
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, StrictBool
from pydantic_core import PydanticCustomError

from serving.call import Timing
from serving.errors import InvalidRequestError
from serving.routes import ERRORS, TheService, answer, check_limits, client_of, documented, score_pairs
from serving.schemas import Many, OneOrMany, Text, example
from simile.scoring import Encoder, Scored, Side
from simile.scoring.quantized import int8_embeddings
from simile.version import __version__

router = APIRouter()

_BYTES_PER_NUMBER = {"float": 17, "base64": 16, "int8": 10, "binary": 5, "ubinary": 5}
"""Bytes that a number takes while it is being written: as a float32, encoded, and in JSON with its comma, or as its
share of a text."""


class SentenceInputs(BaseModel):
    """One sentence and the sentences to compare it with."""

    source_sentence: Text
    sentences: Many[Text]


class Truncation(BaseModel):
    """What text-embeddings-inference lets a client say about long texts and prompts."""

    truncate: StrictBool | None = Field(
        None, description="false refuses texts that are longer than the bundle reads; else the service's setting holds"
    )
    truncation_direction: Literal["right", "Right"] | None = Field(None, description="texts are cut on the right")
    prompt_name: None = Field(None, description="not supported: the bundle has its own prompts")


def require_whole(asked: Truncation | None, scored: Scored) -> None:
    """Refuse, by an `InvalidRequestError`, texts that were cut where the client has forbidden it."""
    if asked and asked.truncate is False and scored.num_cut:
        got = f"got {scored.num_cut} texts that are longer than the bundle reads"
        raise InvalidRequestError(f"{got}, need shorter ones or truncate=true", "truncate")


class SentenceSimilarityRequest(BaseModel):
    """The request of text-embeddings-inference."""

    model_config = example(inputs={"source_sentence": "no signal", "sentences": ["My phone shows no bars."]})

    inputs: SentenceInputs
    parameters: Truncation | None = None


@router.post("/similarity", responses=ERRORS)
@router.post("/", responses=ERRORS)
async def sentence_similarity(body: SentenceSimilarityRequest, request: Request, service: TheService) -> list[float]:
    """Score one sentence against many, as text-embeddings-inference does.

    The same route is at `/`, where `huggingface_hub.InferenceClient(model=URL).sentence_similarity` posts.
    """
    source, texts = body.inputs.source_sentence, body.inputs.sentences
    places = {"inputs.source_sentence": [source], "inputs.sentences[{}]": texts}
    check_limits(len(texts), "inputs.sentences", places, service.settings)
    _, scored = await score_pairs(request, service, [(source, text) for text in texts])
    require_whole(body.parameters, scored)
    return list(scored.score_P.tolist())


class ScoreRequest(BaseModel):
    """The request of vLLM: the same number of texts on both sides, or one text on the first side."""

    model_config = example(text_1="no signal", text_2=["My phone shows no bars.", "The parcel is late."])

    text_1: OneOrMany = Field(validation_alias=AliasChoices("text_1", "data_1", "queries"))
    text_2: OneOrMany = Field(validation_alias=AliasChoices("text_2", "data_2", "documents"))
    truncate_prompt_tokens: Literal[-1] | None = Field(
        None, description="only the bundle's own limit is supported (-1)"
    )


class Score(BaseModel):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class TokenUsage(BaseModel):
    """Tokens of the request's distinct texts, summed over the members."""

    prompt_tokens: int
    total_tokens: int
    unknown_tokens: int = Field(description="those among them that stand for what a tokenizer does not know")


class ScoreResponse(BaseModel):
    """The scores, in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str = Field(description="the bundle that computed the scores, as name@sha256:digest")
    data: list[Score]
    usage: TokenUsage


@router.post("/score", responses=ERRORS)
@router.post("/v1/score", responses=ERRORS)
async def score(body: ScoreRequest, request: Request, service: TheService) -> ScoreResponse:
    """Score texts pair by pair, or one text against many, as vLLM does."""
    first, second = _as_list(body.text_1), _as_list(body.text_2)
    if len(first) not in (1, len(second)):
        raise InvalidRequestError(f"got {len(first)} texts, need one, or {len(second)} as in text_2", "text_1")
    check_limits(len(second), "text_2", {"text_1[{}]": first, "text_2[{}]": second}, service.settings)
    pairs = list(zip(first * (len(second) if len(first) == 1 else 1), second, strict=True))
    engine, scored = await score_pairs(request, service, pairs)
    return ScoreResponse(
        id=f"score-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=engine.scorer.bundle.identity,
        data=[Score(index=i, score=value) for i, value in enumerate(scored.score_P.tolist())],
        usage=usage_of(scored.num_tokens, scored.num_unknown),
    )


def _refuse_token_ids(value: Any) -> Any:
    """Refuse tokens of OpenAI's tokenizer, which mean nothing to this bundle's."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, int) or (isinstance(first, list) and first and isinstance(first[0], int)):
        hint = "in LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False"
        raise PydanticCustomError("token_ids", "got token ids, need texts: {hint}", {"hint": hint})
    return value


class EmbeddingsRequest(BaseModel):
    """The request of OpenAI."""

    model_config = example(input=["no signal", "My phone shows no bars."], encoding_format="base64")

    input: Annotated[OneOrMany, BeforeValidator(_refuse_token_ids)]
    encoding_format: Literal["float", "base64", "int8", "binary", "ubinary"] | None = Field(
        None,
        description="float (default); base64 of little-endian float32 bytes; int8: scaled so that the largest number "
        "is 127; ubinary and binary: a bit per dimension, 1 where it is positive, packed in bytes (binary: less 128)",
    )
    dimensions: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        None,
        description="dimensions per embedding: the bundle's own number, or a smaller one that its encoder supports",
    )
    input_type: Literal["query", "document"] | None = Field(
        None,
        description="whether the texts are first (query) or second texts (document) of pairs: needed where the bundle "
        "has different prompts for them, without effect otherwise",
    )


class EmbeddingData(BaseModel):
    """The embedding of one text, a vector of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | list[int] | str = Field(description="numbers, or base64, as encoding_format asks")


class EmbeddingsResponse(BaseModel):
    """The embeddings, in the order of the texts; the cosine of two embeddings is the score of the pair."""

    object: Literal["list"] = "list"
    data: list[EmbeddingData]
    model: str = Field(description="the bundle that computed the embeddings, as name@sha256:digest")
    usage: TokenUsage


@router.post("/v1/embeddings", response_model=EmbeddingsResponse, responses=ERRORS)
async def embeddings(body: EmbeddingsRequest, request: Request, service: TheService) -> Response:
    """Embed texts, as OpenAI does.

    The embedding of an ensemble joins those of its members, each scaled by the square root of its weight. Where the
    bundle has different prompts for first and second texts, the cosine of a query and a document is their score.
    """
    texts = _as_list(body.input)
    # As many texts as a request of pairs may have.
    check_limits(len(texts), "input", {"input[{}]": texts}, service.settings, most=2 * service.settings.max_pairs)
    engine, timing = service.engine, Timing()
    supported = engine.scorer.dimensions
    if body.dimensions not in (None, *supported):
        needed = " or ".join(map(str, supported))
        raise InvalidRequestError(f"got {body.dimensions} dimensions, need {needed} with this bundle", "dimensions")
    has_sides = engine.scorer.has_sides
    if body.input_type is None and has_sides:
        raise InvalidRequestError("need query or document: this bundle has a prompt for each", "input_type")
    side: Side = 1 if has_sides and body.input_type == "document" else 0
    client = client_of(request)
    num_bytes = len(texts) * supported[0] * _BYTES_PER_NUMBER[body.encoding_format or "float"]
    async with service.answers.reserve(num_bytes):
        call = engine.embed(texts, timing, side=side, client=client)
        embedding_ND, num_tokens, num_unknown = await answer(request, service, engine, call, timing)
        request.state.num_tokens = num_tokens
        rows = _encoded(_cut(embedding_ND, body.dimensions), body.encoding_format)
        return await service.answers.render(
            {
                "object": "list",
                "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
                "model": engine.scorer.bundle.identity,
                "usage": usage_of(num_tokens, num_unknown).model_dump(),
            }
        )


class Model(BaseModel):
    """The served bundle, as OpenAI lists models."""

    id: str = Field(description="name@sha256:digest")
    object: Literal["model"] = "model"
    created: int = Field(description="0: a bundle does not say when it was made")
    owned_by: str


class ModelsResponse(BaseModel):
    """The one model that is served."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", responses=documented(503))
async def models(service: TheService) -> ModelsResponse:
    """List the served bundle, as OpenAI does."""
    return ModelsResponse(data=[Model(id=service.engine.scorer.bundle.identity, created=0, owned_by="simile")])


class InfoResponse(BaseModel):
    """The served bundle and its limits, by the names of text-embeddings-inference."""

    model_id: str = Field(description="the bundle's name")
    model_sha: str = Field(description="the bundle's digest")
    model_dtype: str
    max_input_length: int = Field(description="tokens of a text that every encoder reads")
    max_client_batch_size: int = Field(description="pairs per request")
    max_batch_tokens: int = Field(description="tokens that may wait")
    auto_truncate: bool = Field(description="whether longer texts are cut instead of refused")
    version: str = Field(description="version of the service")


@router.get("/info", responses=documented(503))
async def info(service: TheService) -> InfoResponse:
    """Describe the bundle and its limits, as text-embeddings-inference does."""
    scorer, settings = service.engine.scorer, service.settings
    encoders = [member for member in scorer.members if isinstance(member, Encoder)]
    return InfoResponse(
        model_id=scorer.bundle.manifest.name,
        model_sha=scorer.bundle.manifest.digest,
        model_dtype=scorer.runtime.precision,
        max_input_length=min((encoder.max_length for encoder in encoders), default=settings.max_characters),
        max_client_batch_size=settings.max_pairs,
        max_batch_tokens=service.engine.max_waiting_tokens,
        auto_truncate=settings.long_texts == "cut",
        version=__version__,
    )


def _cut(embedding_ND: NDArray[np.float32], dimension: int | None) -> NDArray[np.float32]:
    """Return the embeddings with this number of dimensions; None leaves them as they are."""
    if dimension in (None, embedding_ND.shape[1]):
        return embedding_ND
    cut_ND = embedding_ND[:, :dimension]
    # A cut vector is scaled to length 1 again; one that is all zeros stays so.
    length_N1 = np.linalg.norm(cut_ND, axis=1, keepdims=True)
    return np.asarray(cut_ND / np.maximum(length_N1, np.finfo(np.float32).tiny))


def _encoded(embedding_ND: NDArray[np.float32], encoding: str | None) -> Iterable[Any]:
    """Return each embedding in the encoding of the request."""
    match encoding:
        case "base64":
            return [base64.b64encode(row_D).decode() for row_D in embedding_ND.astype("<f4")]
        case "int8":
            return int8_embeddings(embedding_ND)
        case "binary" | "ubinary":
            bytes_NB = np.packbits(embedding_ND > 0, axis=1)
            # Subtracting 128 from a byte flips its highest bit, and reads it as signed.
            return (bytes_NB ^ 128).view(np.int8) if encoding == "binary" else bytes_NB
        case _:
            return np.ascontiguousarray(embedding_ND)


def usage_of(num_tokens: int, num_unknown: int) -> TokenUsage:
    """Return the numbers of tokens as OpenAI's clients read them."""
    return TokenUsage(prompt_tokens=num_tokens, total_tokens=num_tokens, unknown_tokens=num_unknown)


def _as_list(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts
