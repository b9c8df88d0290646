"""Reranking, as Cohere, vLLM and text-embeddings-inference do it: one query against many documents, sorted by score.

A document's relevance is the score of the pair of query and document: a cosine, in [-1, 1].
"""

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Discriminator, Field, StrictBool, Tag

from serving.compatible import TokenUsage, Truncation, require_whole, usage_of
from serving.errors import InvalidRequestError
from serving.routes import ERRORS, TheService, check_limits, score_pairs
from serving.schemas import OBJECT_FORM, TEXT_FORMS, Many, Text, example
from simile.scoring import Scored

router = APIRouter()


class TextObject(BaseModel):
    """A document as an object, as Cohere's first version allows."""

    text: Text


def _document_form(value: object) -> str:
    return OBJECT_FORM if isinstance(value, dict | TextObject) else TEXT_FORMS[0]


Document = Annotated[
    Annotated[Text, Tag(TEXT_FORMS[0])] | Annotated[TextObject, Tag(OBJECT_FORM)], Discriminator(_document_form)
]


class RerankRequest(Truncation):
    """The request of Cohere and of vLLM (``documents``), or of text-embeddings-inference (``texts``)."""

    model_config = example(query="no signal", documents=["My phone shows no bars.", "The parcel is late."], top_n=1)

    query: Text
    documents: Many[Document] | None = Field(None, description="the documents to sort, or else texts")
    texts: Many[Text] | None = Field(None, description="the texts to sort, for an answer as a bare list")
    top_n: Annotated[int, Field(ge=1, strict=True)] | None = Field(None, description="number of results (default: all)")
    return_documents: StrictBool = Field(False, description="also return the text of each document")
    return_text: StrictBool = Field(False, description="also return each text")
    raw_scores: StrictBool = Field(False, description="without effect: scores are cosines in any case")
    max_tokens_per_doc: None = Field(None, description="not supported: the bundle's own limit holds")
    max_chunks_per_doc: None = Field(None, description="not supported: the bundle's own limit holds")
    rank_fields: None = Field(None, description="not supported: need texts")
    truncate_prompt_tokens: Literal[-1] | None = Field(None, description="only -1 is supported: the bundle's limit")


class RankedDocument(BaseModel):
    """One document and its relevance."""

    index: int = Field(description="the place of the document in the request")
    relevance_score: float = Field(description="the score of query and document, in [-1, 1]")
    document: TextObject | None = None


class DocumentsResponse(BaseModel):
    """The documents, the most relevant one first."""

    id: str
    model: str = Field(description="the bundle that computed the scores, as name@sha256:digest")
    results: list[RankedDocument]
    usage: TokenUsage


class RankedText(BaseModel):
    """One text and its score."""

    index: int = Field(description="the place of the text in the request")
    score: float = Field(description="the score of query and text, in [-1, 1]")
    text: str | None = None


@router.post("/rerank", response_model_exclude_none=True, responses=ERRORS)
@router.post("/v1/rerank", response_model_exclude_none=True, responses=ERRORS)
@router.post("/v2/rerank", response_model_exclude_none=True, responses=ERRORS)
async def rerank(body: RerankRequest, request: Request, service: TheService) -> DocumentsResponse | list[RankedText]:
    """Sort documents by their score with a query, as Cohere and vLLM do; or texts, as text-embeddings-inference."""
    if (body.documents is None) == (body.texts is None):
        raise InvalidRequestError("need either documents or texts", "documents")
    many = "texts" if body.documents is None else "documents"
    texts = [one if isinstance(one, str) else one.text for one in body.documents or body.texts or ()]
    check_limits(len(texts), many, {"query": [body.query], f"{many}[{{}}]": texts}, service.settings)
    engine, scored = await score_pairs(request, service, [(body.query, text) for text in texts])
    require_whole(body, scored)
    ranked = _ranked(scored)[: body.top_n]
    if body.documents is None:
        return [RankedText(index=i, score=score, text=texts[i] if body.return_text else None) for i, score in ranked]
    shown = [TextObject(text=text) if body.return_documents else None for text in texts]
    return DocumentsResponse(
        id=f"rerank-{secrets.token_hex(16)}",
        model=engine.scorer.bundle.identity,
        results=[RankedDocument(index=i, relevance_score=score, document=shown[i]) for i, score in ranked],
        usage=usage_of(scored.num_tokens, scored.num_unknown),
    )


def _ranked(scored: Scored) -> list[tuple[int, float]]:
    """Return the index and the score of each text, the best first; the first one of equal scores comes first."""
    return sorted(enumerate(scored.score_P.tolist()), key=lambda item: -item[1])
