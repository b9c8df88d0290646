"""The ASGI application: its routes and middleware."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Security
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from serving.body import LimitBody
from serving.compatible import router as compatible
from serving.errors import add_error_handlers
from serving.keys import Keys
from serving.middleware import PROBES, CheckHost, Observe, RequireKey
from serving.open_inference import probes as open_inference_probes
from serving.open_inference import router as open_inference
from serving.page import PATHS as PAGE_PATHS
from serving.page import router as page
from serving.rerank import router as rerank
from serving.routes import documented, probes, router
from serving.schemas import ErrorBody, OpenInferenceErrorBody
from serving.service import Load, Service, Trial
from serving.settings import Settings
from serving.tracing import Tracer
from simile.scoring import Scorer
from simile.version import __version__

_KEYED = ((router, ErrorBody), (compatible, ErrorBody), (rerank, ErrorBody), (open_inference, OpenInferenceErrorBody))
"""The routers whose routes need an API key if the service has any, and the body of their errors."""
_KEYLESS = (probes, open_inference_probes, page)
_ROUTES = [route for part in (*(part for part, _ in _KEYED), *_KEYLESS) for route in part.routes]
_PATHS = {route.path for route in _ROUTES if isinstance(route, APIRoute)} | {"/openapi.json"}
_PUBLIC = (*PROBES, *PAGE_PATHS, "/openapi.json")
"""Paths that need no API key: probes send none, and a person has to read the pages to learn where to enter one."""


def create_app(
    settings: Settings, scorer: Scorer | Load, trial: Trial | None = None, tracer: Tracer | None = None
) -> FastAPI:
    """Return the application; its `Service` is ``app.state.service``.

    A function that loads the scorer runs in a thread once the application has started, and again at each
    `Service.reload`, each time after the trial. /healthz answers meanwhile, /readyz once the scorer is loaded.
    """
    service = Service(settings, (lambda: scorer) if isinstance(scorer, Scorer) else scorer, trial)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        opening, watching = asyncio.create_task(service.open()), asyncio.create_task(keys.watch())
        if isinstance(scorer, Scorer):
            await opening
        yield
        await service.close()
        for task in (opening, watching):
            task.cancel()
        await asyncio.wait([opening, watching])

    app = FastAPI(
        title="Simile",
        summary="Similarity scores for pairs of texts.",
        version=__version__,
        lifespan=lifespan,
        # FastAPI's own API page loads its scripts from a CDN; ours is in serving/page.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # curl and many other clients do not declare that they send JSON.
        strict_content_type=False,
    )
    app.state.service = service
    keys = app.state.keys = Keys(settings)
    # This only documents the key; RequireKey enforces it, on every path.
    key = [Security(HTTPBearer(auto_error=False))]
    for part, error_body in _KEYED:
        keyed: dict[str, Any] = {"dependencies": key, "responses": documented(401, body=error_body)}
        app.include_router(part, **(keyed if keys else {}))
    for part in _KEYLESS:
        app.include_router(part)
    add_error_handlers(app)
    app.add_middleware(LimitBody, settings=settings, prompt=PROBES)
    if keys:
        app.add_middleware(RequireKey, keys=keys, public=_PUBLIC)
    if settings.cors_origins:
        # This wraps RequireKey, because a browser sends its preflight request (OPTIONS) without a key.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "traceparent", "x-request-id", "x-simile-priority"],
            expose_headers=["retry-after", "server-timing", "traceparent", "x-request-id", "x-simile-bundle"],
        )
    app.add_middleware(CheckHost, settings=settings, public=PROBES)
    # The last one added is the outermost: it observes the responses of all others.
    app.add_middleware(Observe, service=service, routes=_PATHS, tracer=tracer, with_timing=settings.timing_headers)
    return app
