"""The APIs that other servers made known, so that their clients work here unchanged.

What such a client sends and what means nothing here (a model's name, a user) is ignored; what would change the result
and cannot be done is refused.
"""

import base64
import secrets
import time
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from serving.errors import InvalidRequestError
from serving.limits import check_count, check_lengths
from serving.routes import ERRORS, TheService, embed_texts, score_pairs
from serving.schemas import Many, OneOrMany, Text

router = APIRouter()


def _example(**body: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


class SentenceInputs(BaseModel):
    """One sentence and those it is compared with."""

    source_sentence: Text
    sentences: Many[Text]


class SentenceSimilarityRequest(BaseModel):
    """What text-embeddings-inference takes; its parameters change nothing here."""

    model_config = _example(inputs={"source_sentence": "no signal", "sentences": ["My phone shows no bars."]})

    inputs: SentenceInputs


@router.post("/similarity", responses=ERRORS)
@router.post("/", responses=ERRORS)
async def sentence_similarity(body: SentenceSimilarityRequest, request: Request, service: TheService) -> list[float]:
    """Score one sentence against many, as text-embeddings-inference does.

    Also at `/`, where `huggingface_hub.InferenceClient(model=URL).sentence_similarity` posts.
    """
    source, texts = body.inputs.source_sentence, body.inputs.sentences
    check_count(len(texts), "inputs.sentences", service.settings)
    check_lengths([source], lambda _: "inputs.source_sentence", service.settings)
    check_lengths(texts, "inputs.sentences[{}]".format, service.settings)
    _, scored = await score_pairs(request, service, [(source, text) for text in texts])
    found: list[float] = scored.score_P.tolist()
    return found


class ScoreRequest(BaseModel):
    """What vLLM takes: as many texts on both sides, or one on the first."""

    model_config = _example(text_1="no signal", text_2=["My phone shows no bars.", "The parcel is late."])

    text_1: OneOrMany
    text_2: OneOrMany


class Score(BaseModel):
    """One pair's score."""

    index: int
    object: Literal["score"] = "score"
    score: float


class TokenUsage(BaseModel):
    """Tokens of the request's different texts, summed over the members."""

    prompt_tokens: int
    total_tokens: int


class ScoreResponse(BaseModel):
    """Scores, in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str = Field(description="name@sha256:digest of what made the scores")
    data: list[Score]
    usage: TokenUsage


@router.post("/score", responses=ERRORS)
@router.post("/v1/score", responses=ERRORS)
async def score(body: ScoreRequest, request: Request, service: TheService) -> ScoreResponse:
    """Score texts pair by pair, or one against many, as vLLM does."""
    first, second = _as_list(body.text_1), _as_list(body.text_2)
    if len(first) not in (1, len(second)):
        raise InvalidRequestError(f"got {len(first)} texts for {len(second)} of text_2, need as many, or one", "text_1")
    check_count(len(second), "text_2", service.settings)
    check_lengths(first, "text_1[{}]".format, service.settings)
    check_lengths(second, "text_2[{}]".format, service.settings)
    pairs = list(zip(first * (len(second) if len(first) == 1 else 1), second, strict=True))
    engine, scored = await score_pairs(request, service, pairs)
    return ScoreResponse(
        id=f"score-{secrets.token_hex(16)}",
        created=int(time.time()),
        model=engine.scorer.bundle.identity,
        data=[Score(index=i, score=found) for i, found in enumerate(scored.score_P.tolist())],
        usage=TokenUsage(prompt_tokens=scored.num_tokens, total_tokens=scored.num_tokens),
    )


class EmbeddingsRequest(BaseModel):
    """What OpenAI takes."""

    model_config = _example(input=["no signal", "My phone shows no bars."], encoding_format="base64")

    input: OneOrMany
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        None, description="those of the bundle, or fewer that its encoder was trained to be cut to"
    )


class EmbeddingData(BaseModel):
    """One text's embedding, of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(description="numbers, or base64 of their float32 bytes, little-endian")


class EmbeddingsResponse(BaseModel):
    """Embeddings, in the order of the texts: the cosine of two is the pair's score."""

    object: Literal["list"] = "list"
    data: list[EmbeddingData]
    model: str = Field(description="name@sha256:digest of what made the embeddings")
    usage: TokenUsage


@router.post("/v1/embeddings", responses=ERRORS)
async def embeddings(body: EmbeddingsRequest, request: Request, service: TheService) -> EmbeddingsResponse:
    """Embed texts, as OpenAI does. An ensemble's embedding joins its members', each by the root of its weight."""
    texts = _as_list(body.input)
    check_count(len(texts), "input", service.settings)
    check_lengths(texts, "input[{}]".format, service.settings)
    engine, embedded = await embed_texts(request, service, texts, dimensions=body.dimensions)
    embedding_ND = embedded.embedding_ND
    if body.encoding_format == "base64":
        rows: list[Any] = [base64.b64encode(row_D).decode() for row_D in embedding_ND.astype("<f4")]
    else:
        rows = embedding_ND.astype(np.float64).tolist()
    return EmbeddingsResponse(
        data=[EmbeddingData(index=i, embedding=row) for i, row in enumerate(rows)],
        model=engine.scorer.bundle.identity,
        usage=TokenUsage(prompt_tokens=embedded.num_tokens, total_tokens=embedded.num_tokens),
    )


def _as_list(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts
