"""The application: settings and a bundle in, ASGI out."""

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
from serving.middleware import PROBES, Observe, RequireKey
from serving.page import PATHS as PAGE_PATHS
from serving.page import router as page
from serving.routes import documented, probes, router
from serving.service import Load, Service
from serving.settings import Settings
from simile.scoring import Scorer
from simile.version import __version__

_ROUTES = [*router.routes, *compatible.routes, *probes.routes, *page.routes]
_PATHS = {route.path for route in _ROUTES if isinstance(route, APIRoute)} | {"/openapi.json"}
_PUBLIC = (*PROBES, *PAGE_PATHS, "/openapi.json")
"""What needs no API key: probes have none, and a person has to read where to put it."""


def create_app(settings: Settings, scorer: Scorer | Load) -> FastAPI:
    """Return the application; its `Service` is ``app.state.service``.

    Args:
        settings: the limits; addresses and devices are for whoever runs the application.
        scorer: what to serve, or what to call for it. It is called in a thread once the application has started, which
            answers /healthz meanwhile, and /readyz when it has returned; and again at each `Service.reload`.
    """
    service = Service(settings, (lambda: scorer) if isinstance(scorer, Scorer) else scorer)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(service.open())
        if isinstance(scorer, Scorer):
            await opening
        yield
        await service.close()
        opening.cancel()

    app = FastAPI(
        title="Simile",
        summary="Similarity of pairs of texts.",
        version=__version__,
        lifespan=lifespan,
        # FastAPI's own page of the API loads its scripts from elsewhere: ours is in serving/page.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # curl and many clients forget to say that they send JSON.
        strict_content_type=False,
    )
    app.state.service = service
    keys = settings.all_api_keys()
    # For the documentation alone; RequireKey lets nobody else through, whatever the path.
    keyed: dict[str, Any] = {"dependencies": [Security(HTTPBearer(auto_error=False))], "responses": documented(401)}
    for with_key in (router, compatible):
        app.include_router(with_key, **(keyed if keys else {}))
    app.include_router(probes)
    app.include_router(page)
    add_error_handlers(app)
    app.add_middleware(
        LimitBody,
        max_bytes=settings.max_body_bytes,
        timeout_s=settings.transfer_s,
        max_pairs=settings.max_pairs,
    )
    if keys:
        app.add_middleware(RequireKey, keys=keys, public=_PUBLIC)
    if settings.cors_origins:
        # Outside of the keys: a browser asks leave (OPTIONS) without one.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["retry-after", "server-timing", "x-simile-bundle"],
        )
    # Added last, so outermost: it sees what the others answer.
    app.add_middleware(Observe, metrics=service.metrics, routes=_PATHS, with_timing=settings.timing_headers)
    return app
