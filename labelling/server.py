"""The labelling server: one page and three calls on the loopback address, for one person."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp

from labelling.annotation import Annotation, Click, StaleError, State, Undo
from labelling.guard import Guard
from labelling.page import contents
from simile.errors import InputError

HOST = "127.0.0.1"
_LAST_ANSWERS_S = 2
_ACCEPTED_AT_ONCE = 8
"""Connections that asyncio accepts in a row; without file descriptors, it logs each of them again every second."""


@dataclass(frozen=True, slots=True)
class About:
    """What stays the same from pair to pair."""

    annotator: str
    out: str
    """Name of the file that answers go to."""
    guidelines: str = ""
    """Markdown text."""


def create_app(annotation: Annotation, about: About, *, port: int) -> ASGIApp:
    """Return the application behind its `Guard`."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    for path, (content, media_type) in contents().items():
        app.add_api_route(path, _page(content, media_type), methods=["GET"])

    @app.get("/api/about")
    async def get_about() -> About:
        return about

    # The functions without async run in threads, because they wait for the disk.
    @app.get("/api/state")
    def get_state() -> State:
        return annotation.state()

    @app.post("/api/answer")
    def answer(click: Click) -> State:
        return annotation.answer(click)

    @app.post("/api/undo")
    def undo(undo: Undo) -> State:
        return annotation.undo(undo)

    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(StaleError, _stale)
    app.add_exception_handler(OSError, _unwritten)
    return Guard(app, port)


def run(annotation: Annotation, about: About, *, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve on the loopback address until SIGINT or SIGTERM; ``on_ready`` gets the address.

    Raises:
        InputError: the port is in use.
    """
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        raise InputError(f"cannot listen on {HOST}:{port} ({error}), need a free port (--port)") from error
    with listener:
        # Otherwise the body of a response would wait 40 ms until the client acknowledges the headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        port = listener.getsockname()[1]
        # Connections wait in the listener until the server accepts them.
        on_ready(f"http://{HOST}:{port}/")
        # uvicorn raises the signal again once it has ended.
        with suppress(KeyboardInterrupt):
            uvicorn.Server(_config(create_app(annotation, about, port=port))).run(sockets=[listener])


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # It bounds the size of headers, unlike httptools.
        http="h11",
        ws="none",
        backlog=_ACCEPTED_AT_ONCE,
        lifespan="off",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )


def _page(content: str, media_type: str) -> Callable[[], object]:
    async def page() -> Response:
        return Response(content, media_type=media_type)

    return page


async def _malformed(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "need the JSON of this server's own page"}, status_code=422)


async def _stale(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "this pair is not shown any more"}, status_code=409)


async def _unwritten(_request: Request, error: Exception) -> Response:
    reason = error.strerror if isinstance(error, OSError) else None
    return JSONResponse({"error": f"the answer could not be written: {reason or 'unknown error'}"}, status_code=503)
