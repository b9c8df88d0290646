"""Routes compatible with other servers, so that their clients work here unchanged.

Fields that have no meaning here (a model's name, a user) are ignored. Fields that would change the result in a way that
this server does not support are refused.
"""

import base64
import secrets
import time
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from serving.call import Timing
from serving.errors import InvalidRequestError
from serving.routes import ERRORS, TheService, answer, check_limits, score_pairs
from serving.schemas import Many, OneOrMany, Text, example

router = APIRouter()


class SentenceInputs(BaseModel):
    """One sentence and the sentences to compare it with."""

    source_sentence: Text
    sentences: Many[Text]


class SentenceSimilarityRequest(BaseModel):
    """The request of text-embeddings-inference; its parameters have no effect here."""

    model_config = example(inputs={"source_sentence": "no signal", "sentences": ["My phone shows no bars."]})

    inputs: SentenceInputs


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
    return list(scored.score_P.tolist())


class ScoreRequest(BaseModel):
    """The request of vLLM: the same number of texts on both sides, or one text on the first side."""

    model_config = example(text_1="no signal", text_2=["My phone shows no bars.", "The parcel is late."])

    text_1: OneOrMany
    text_2: OneOrMany


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
        usage=_usage(scored.num_tokens, scored.num_unknown),
    )


class EmbeddingsRequest(BaseModel):
    """The request of OpenAI."""

    model_config = example(input=["no signal", "My phone shows no bars."], encoding_format="base64")

    input: OneOrMany
    encoding_format: Literal["float", "base64"] = "float"
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
    embedding: list[float] | str = Field(description="the numbers, or base64 of their little-endian float32 bytes")


class EmbeddingsResponse(BaseModel):
    """The embeddings, in the order of the texts; the cosine of two embeddings is the score of the pair."""

    object: Literal["list"] = "list"
    data: list[EmbeddingData]
    model: str = Field(description="the bundle that computed the embeddings, as name@sha256:digest")
    usage: TokenUsage


@router.post("/v1/embeddings", responses=ERRORS)
async def embeddings(body: EmbeddingsRequest, request: Request, service: TheService) -> EmbeddingsResponse:
    """Embed texts, as OpenAI does.

    The embedding of an ensemble joins those of its members, each scaled by the square root of its weight. Where the
    bundle has different prompts for first and second texts, the cosine of a query and a document is their score.
    """
    texts = _as_list(body.input)
    check_limits(len(texts), "input", {"input[{}]": texts}, service.settings)
    engine, timing = service.engine, Timing()
    supported = engine.scorer.dimensions
    if body.dimensions not in (None, *supported):
        needed = " or ".join(map(str, supported))
        raise InvalidRequestError(f"got {body.dimensions} dimensions, need {needed} with this bundle", "dimensions")
    has_sides = engine.scorer.has_sides
    if body.input_type is None and has_sides:
        raise InvalidRequestError("need query or document: this bundle has a prompt for each", "input_type")
    call = engine.embed(texts, timing, side=1 if has_sides and body.input_type == "document" else 0)
    embedding_ND, num_tokens, num_unknown = await answer(request, service, engine, call, timing)
    if body.dimensions in supported[1:]:
        embedding_ND = embedding_ND[:, : body.dimensions]
        # A cut vector is scaled to length 1 again; one that is all zeros stays so.
        length_N1 = np.linalg.norm(embedding_ND, axis=1, keepdims=True)
        embedding_ND = embedding_ND / np.maximum(length_N1, np.finfo(np.float32).tiny)
    if body.encoding_format == "base64":
        rows: list[Any] = [base64.b64encode(row_D).decode() for row_D in embedding_ND.astype("<f4")]
    else:
        rows = embedding_ND.astype(np.float64).tolist()
    return EmbeddingsResponse(
        data=[EmbeddingData(index=i, embedding=row) for i, row in enumerate(rows)],
        model=engine.scorer.bundle.identity,
        usage=_usage(num_tokens, num_unknown),
    )


def _usage(num_tokens: int, num_unknown: int) -> TokenUsage:
    return TokenUsage(prompt_tokens=num_tokens, total_tokens=num_tokens, unknown_tokens=num_unknown)


def _as_list(texts: str | list[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else texts
