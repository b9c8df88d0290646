"""The routes. All are coroutines on the event loop; the engine's threads do what takes time."""

import asyncio
from collections.abc import Callable, Coroutine
from time import perf_counter
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Request

from serving.call import Embedded, Timing
from serving.engine import Engine
from serving.errors import ClientGoneError, InvalidRequestError
from serving.limits import check_count, check_lengths
from serving.schemas import (
    BundleResponse,
    ErrorBody,
    Limits,
    SimilarityRequest,
    SimilarityResponse,
    StatusResponse,
    TextPair,
    Usage,
)
from serving.service import Service
from serving.settings import Settings
from simile.artifacts import Manifest
from simile.scoring import Pairs, Scored, probability

_RETRY_AFTER = {
    "retry-after": {"description": "seconds until a retry is worthwhile", "schema": {"type": "integer", "minimum": 1}}
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of a route's error responses."""
    return {
        status: {"model": ErrorBody} | ({"headers": _RETRY_AFTER} if status in (429, 503) else {})
        for status in statuses
    }


ERRORS = documented(400, 408, 413, 422, 429, 500, 503, 504)
"""Error responses of the POST routes."""

router = APIRouter()
probes = APIRouter()
"""Routes that need no API key."""

_Result = TypeVar("_Result")


async def _service(request: Request) -> Service:
    return cast(Service, request.app.state.service)


TheService = Annotated[Service, Depends(_service)]


@router.post("/v1/similarity", response_model_exclude_none=True, responses=ERRORS)
async def similarity(body: SimilarityRequest, request: Request, service: TheService) -> SimilarityResponse:
    """Score pairs of texts, or one text against many."""
    pairs = _pairs(body, service.settings)
    engine, scored = await score_pairs(request, service, pairs)
    bundle = engine.scorer.bundle
    calibration, prior = bundle.manifest.calibration, service.settings.prior
    return SimilarityResponse(
        scores=scored.score_P.tolist(),
        members={name: score_P.tolist() for name, score_P in scored.members.items()} if body.members else None,
        probabilities=probability(calibration, scored.score_P, prior=prior).tolist() if calibration else None,
        usage=Usage(pairs=len(pairs), texts=scored.num_texts, tokens=scored.num_tokens, truncated=scored.num_cut),
        bundle=bundle.identity,
    )


@router.get("/v1/bundle", responses=documented(503))
async def bundle(service: TheService) -> BundleResponse:
    """Describe the served bundle, its runtime, and the limits of a request."""
    scorer = service.engine.scorer
    manifest = scorer.bundle.manifest
    return BundleResponse(
        name=manifest.name,
        digest=manifest.digest,
        members=[
            member.model_dump(exclude={"model", "model_fp16", "tokenizer", "vocabulary"}) for member in manifest.members
        ],
        combine=manifest.combine,
        thresholds=manifest.thresholds,
        calibration=manifest.calibration,
        prior=_prior(manifest, service.settings),
        provider=scorer.runtime.provider,
        precision=scorer.runtime.precision,
        limits=Limits.model_validate(service.settings, from_attributes=True),
    )


@probes.get("/healthz")
async def healthz() -> StatusResponse:
    """Return whether the process is alive; the model is not used."""
    return StatusResponse(status="alive")


@probes.get("/readyz", responses=documented(503))
async def readyz(service: TheService) -> StatusResponse:
    """Return whether requests are accepted: the bundle is verified, its golden pairs agree, and the model is warm."""
    _ = service.engine
    return StatusResponse(status="ready")


def _prior(manifest: Manifest, settings: Settings) -> float | None:
    """Return the share of positives that the probabilities assume; None if the bundle has no calibration."""
    if manifest.calibration is None:
        return None
    return manifest.calibration.positive_share if settings.prior is None else settings.prior


def _pairs(body: SimilarityRequest, settings: Settings) -> Pairs:
    """Return the pairs of the request, whichever form it has.

    Raises:
        InvalidRequestError: the request has neither form or both, is empty, or exceeds a limit.
    """
    if body.pairs is not None:
        if body.text is not None or body.texts is not None:
            raise InvalidRequestError(
                "got pairs together with text or texts, need either pairs, or text and texts", "pairs"
            )
        pairs = [(pair.text_a, pair.text_b) if isinstance(pair, TextPair) else pair for pair in body.pairs]
        many, places = "pairs", ("pairs[{}].text_a", "pairs[{}].text_b")
    else:
        if body.text is None or body.texts is None:
            missing = "text" if body.texts is not None else "texts" if body.text is not None else "pairs"
            raise InvalidRequestError("need either pairs, or text and texts", missing)
        pairs = [(body.text, text) for text in body.texts]
        many, places = "texts", ("text", "texts[{}]")
    check_count(len(pairs), many, settings)
    check_lengths([text for pair in pairs for text in pair], lambda i: places[i % 2].format(i // 2), settings)
    return pairs


async def score_pairs(request: Request, service: Service, pairs: Pairs) -> tuple[Engine, Scored]:
    """Return the scores of the pairs, and the engine that computed them."""
    return await _run(request, service, lambda engine, timing: engine.score(pairs, timing), len(pairs))


async def embed_texts(
    request: Request, service: Service, texts: list[str], *, dimensions: int | None
) -> tuple[Engine, Embedded]:
    """Return the embeddings of the texts, and the engine that computed them.

    Raises:
        InvalidRequestError: the bundle's embeddings cannot have this number of dimensions.
    """

    async def embed(engine: Engine, timing: Timing) -> Embedded:
        whole, *cuts = engine.scorer.dimensions
        if dimensions not in (None, whole, *cuts):
            needed = " or ".join(map(str, (whole, *cuts)))
            raise InvalidRequestError(f"got {dimensions} dimensions, need {needed} with this bundle", "dimensions")
        embedded = await engine.embed(texts, timing)
        return embedded.first(dimensions) if dimensions in cuts else embedded

    return await _run(request, service, embed)


async def _run(
    request: Request,
    service: Service,
    ask: Callable[[Engine, Timing], Coroutine[Any, Any, _Result]],
    num_pairs: int = 0,
) -> tuple[Engine, _Result]:
    engine, timing = service.engine, Timing()
    state = request.state
    service.metrics.stage_seconds.labels("receive").observe(state.arrived - state.start)
    service.metrics.stage_seconds.labels("parse").observe(perf_counter() - state.arrived)
    request.state.num_pairs = num_pairs
    result = await _unless_gone(request, ask(engine, timing))
    request.state.bundle, request.state.timing = engine.scorer.bundle.identity, timing
    return engine, result


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return the result of ``work``; cancel it if the client closes the connection."""
    try:
        async with asyncio.timeout(None) as scope:
            watching = asyncio.create_task(_expire_when_gone(request, scope))
            try:
                return await work
            finally:
                watching.cancel()
    except TimeoutError:
        if scope.expired():
            raise ClientGoneError("the client closed the connection") from None
        raise


async def _expire_when_gone(request: Request, scope: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.reschedule(0)
