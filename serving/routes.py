"""The routes. All are coroutines on the event loop; the engine's threads do what takes time."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Annotated, Any, TypeVar, cast

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from serving.call import Timing
from serving.engine import Engine
from serving.errors import ClientGoneError, InvalidRequestError
from serving.job_queue import Client
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
from simile.scoring import Pairs, Scored, probability

_RETRY_AFTER = {
    "retry-after": {"description": "seconds until a retry is worthwhile", "schema": {"type": "integer", "minimum": 1}}
}


def documented(*statuses: int, body: type[BaseModel] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI descriptions of a route's error responses."""
    return {
        status: {"model": body} | ({"headers": _RETRY_AFTER} if status in (429, 503) else {}) for status in statuses
    }


ERRORS = documented(400, 408, 413, 422, 429, 500, 503, 504)
"""Error responses of the POST routes."""

router = APIRouter()
probes = APIRouter()
"""Routes that need no API key."""

_LIMITS = set(Limits.model_fields) - {"max_tokens", "max_waiting_tokens"}
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
        usage=Usage(
            pairs=len(pairs),
            texts=scored.num_texts,
            tokens=scored.num_tokens,
            unknown_tokens=scored.num_unknown,
            truncated=scored.num_cut,
        ),
        bundle=bundle.identity,
    )


@router.get("/v1/bundle", responses=documented(503))
async def bundle(service: TheService) -> BundleResponse:
    """Describe the served bundle, its runtime, and the limits of a request."""
    scorer = service.engine.scorer
    manifest = scorer.bundle.manifest
    calibration = manifest.calibration
    return BundleResponse(
        name=manifest.name,
        digest=manifest.digest,
        members=[
            member.model_dump(exclude={"model", "model_fp16", "model_int8", "tokenizer", "vocabulary"})
            for member in manifest.members
        ],
        combine=manifest.combine,
        thresholds=manifest.thresholds,
        calibration=calibration,
        prior=None if calibration is None else service.settings.prior or calibration.positive_share,
        provider=scorer.runtime.provider,
        precision=scorer.runtime.precision,
        limits=Limits(
            max_tokens=service.engine.max_tokens,
            max_waiting_tokens=service.engine.max_waiting_tokens,
            **service.settings.model_dump(include=_LIMITS),
        ),
        shadow=service.shadow.summary() if service.shadow else None,
    )


@probes.get("/healthz", responses=documented(503))
async def healthz(service: TheService) -> StatusResponse:
    """Return whether the process is alive and makes progress: 503 where it has made none for a while."""
    service.require_alive()
    return StatusResponse(status="alive")


@probes.get("/health", responses=documented(503))
@probes.get("/readyz", responses=documented(503))
async def readyz(service: TheService) -> StatusResponse:
    """Return whether requests should be sent: the bundle is verified, its golden pairs agree, and batches succeed."""
    service.require_ready()
    return StatusResponse(status="ready")


def _pairs(body: SimilarityRequest, settings: Settings) -> Pairs:
    """Return the pairs of the request, whichever form it has; refuse one that has neither form or both."""
    if body.pairs is not None:
        if body.text is not None or body.texts is not None:
            got = "got pairs together with text or texts, need either pairs, or text and texts"
            raise InvalidRequestError(got, "pairs")
        pairs = [(pair.text_a, pair.text_b) if isinstance(pair, TextPair) else pair for pair in body.pairs]
        places = {f"pairs[{{}}].text_{side}": [pair[i] for pair in pairs] for i, side in enumerate("ab")}
        check_limits(len(pairs), "pairs", places, settings)
        return pairs
    if body.text is None or body.texts is None:
        missing = "text" if body.texts is not None else "texts" if body.text is not None else "pairs"
        raise InvalidRequestError("need either pairs, or text and texts", missing)
    check_limits(len(body.texts), "texts", {"text": [body.text], "texts[{}]": body.texts}, settings)
    return [(body.text, text) for text in body.texts]


def check_limits(
    count: int, many: str, texts: Mapping[str, Sequence[str]], settings: Settings, most: int | None = None
) -> None:
    """Refuse a request whose field ``many`` holds too few or too many pairs, or that has too long a text.

    The keys of ``texts`` are the places of the texts in the request, with braces for the index. ``most`` stands in for
    the limit of pairs.
    """
    if not 1 <= count <= (most := most or settings.max_pairs):
        raise InvalidRequestError(f"got {count} {many}, need 1 to {most}", many)
    for place, of_place in texts.items():
        for i, text in enumerate(of_place):
            if len(text) > settings.max_characters:
                got = f"got {len(text)} characters, need at most {settings.max_characters}"
                raise InvalidRequestError(got, place.format(i))


async def score_pairs(request: Request, service: Service, pairs: Pairs) -> tuple[Engine, Scored]:
    """Return the scores of the pairs, and the engine that computed them."""
    engine, timing = service.engine, Timing()
    request.state.num_pairs = len(pairs)
    client = client_of(request)
    call = engine.score(pairs, timing, client=client)
    scored = await answer(request, service, engine, call, timing)
    request.state.num_tokens, request.state.num_cut = scored.num_tokens, scored.num_cut
    if service.shadow:
        service.shadow.offer(engine, pairs, scored.score_P)
    if service.sampling:
        service.sampling.offer(pairs, scored, bundle=engine.scorer.bundle.identity, key=client.key_name)
    return engine, scored


def client_of(request: Request) -> Client:
    """Return the client (key name and priority) that a request is queued for; refuse an unknown priority."""
    match request.headers.get("x-simile-priority", "interactive"):
        case "interactive":
            is_batch = False
        case "batch":
            is_batch = True
        case other:
            got = f"got {other[:40]!r} in the header x-simile-priority"
            raise InvalidRequestError(f"{got}, need interactive or batch")
    return Client(getattr(request.state, "key_name", ""), is_batch=is_batch)


async def answer(
    request: Request, service: Service, engine: Engine, call: Coroutine[Any, Any, _Result], timing: Timing
) -> _Result:
    """Return the result of a call to the engine; cancel it if the client closes the connection."""
    state = request.state
    service.metrics.stage_seconds.labels("receive").observe(state.arrived - state.start)
    state.parsed = perf_counter()
    service.metrics.stage_seconds.labels("parse").observe(state.parsed - state.arrived)
    try:
        async with asyncio.timeout(None) as scope:
            watching = asyncio.create_task(_expire_when_gone(request, scope))
            try:
                result = await call
            finally:
                watching.cancel()
    except TimeoutError:
        if scope.expired():
            raise ClientGoneError("the client closed the connection") from None
        raise
    state.bundle, state.timing = engine.scorer.bundle.identity, timing
    return result


async def _expire_when_gone(request: Request, scope: asyncio.Timeout) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.reschedule(0)
