"""The server process: sockets, signals, and the order of start-up and shutdown."""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.app import create_app
from serving.connection import Connection
from serving.logs import JsonFormatter, LimitedHandler, VisibleFormatter
from serving.metrics import Metrics
from serving.middleware import CheckHost
from serving.sampling import SAMPLING_THREAD
from serving.service import Service
from serving.settings import Settings
from serving.shadow import SHADOW_THREAD
from serving.tracing import tracing
from serving.trial import LOADING_THREAD, try_bundle
from serving.turns import COST_PER_ITERATION, Turns
from serving.waiting import WaitingConnections, most_connections
from simile.artifacts import require_digest
from simile.errors import InputError
from simile.malloc import M_MMAP_THRESHOLD, mallopt
from simile.scoring import Scorer, require_prior
from simile.scoring.trial import load_warm

_LAST_ANSWERS_S = 2
"""Seconds to send the last responses after the engine has drained."""
_METRICS_CONNECTIONS = 64
_ACCEPTED_AT_ONCE = 16
_BACKLOG = 2048
"""Connections that the kernel completes before they are accepted."""
_COLLECTION_THRESHOLD = 50_000
"""Allocated objects after which garbage is collected. With Python's default of 700, parsing a body of 4 MB blocks the
event loop for 0.45 to 0.9 s, because its lists are scanned again and again; with this threshold, for 0.15 s."""

_LARGE_BLOCK_BYTES = 2**20
_TRIM_S = 2.0
"""Seconds between two returns of free memory to the system; one takes 0.3 ms if little is free."""

_log = logging.getLogger(__name__)


def run(bundle_path: str | Path, settings: Settings) -> int:
    """Serve the bundle until SIGTERM or SIGINT; return the exit code. SIGHUP loads the path again.

    After SIGTERM, requests are answered for ``linger_s`` more.

    A bundle is tried in another process before this one loads it, because a bad one may hang or end the process.
    /healthz and /metrics answer from the start, everything else once the bundle is verified and warm.

    Raises:
        InputError: the bundle cannot be served here, or a port is in use.
    """
    if hasattr(signal, "SIGHUP"):
        # Nothing has been read yet that could be read again.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handler = LimitedHandler()
    as_text = VisibleFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else as_text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # The engine has tokenizer threads of its own. Those of the tokenizers library would take cores from the model, and
    # for a few texts waking them takes longer than the work.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Modules stay loaded, so the collector need not scan what they allocated.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTION_THRESHOLD, 50, 50)
    _return_large_blocks()
    load, trial = partial(open_scorer, bundle_path, settings), partial(try_bundle, bundle_path, settings)
    with tracing(os.environ) as tracer:
        app = create_app(settings, load, trial, tracer)
        service: Service = app.state.service
        with listening(settings) as listener, listening(settings, for_metrics=True) as metrics_listener:
            asyncio.run(serve(app, listener, metrics_listener))
    if service.failure:
        raise service.failure
    if any(thread.name in (LOADING_THREAD, SAMPLING_THREAD, SHADOW_THREAD) for thread in threading.enumerate()):
        # Python's own way to end would pull ONNX Runtime from under that thread, which may be an abandoned one.
        logging.shutdown()
        os._exit(0)
    return 0


def _return_large_blocks() -> None:
    """Have the C library give large blocks back to the system when they are freed.

    glibc takes ever larger blocks from its heap once the first were freed. Each 25 clients that asked for 1,024
    embeddings and read none left 45 MiB in it, and loading a bundle 70 MiB.
    """
    mallopt(M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


async def _return_free_memory() -> None:
    """Have the C library give all free memory back to the system, again and again.

    Blocks that are still used keep what is free below them in the heap: 64 MiB of unfinished bodies left 90 MiB, and a
    few batches of long texts 80 MiB.
    """
    with suppress(AttributeError, OSError):
        trim = ctypes.CDLL(None).malloc_trim
        while True:
            await asyncio.sleep(_TRIM_S)
            await asyncio.to_thread(trim, 0)


def open_scorer(bundle_path: str | Path, settings: Settings) -> Scorer:
    """Return the bundle's scorer after verifying its files, checking its golden pairs and running common shapes."""
    start = perf_counter()
    scorer = load_warm(bundle_path, settings.device, settings.precision, settings.verify_key)
    require_digest(scorer.bundle, settings.digest)
    require_prior(scorer.bundle, settings.prior)
    _log.info("ready: %s on %s after %.1f s", scorer.bundle.identity, scorer.runtime, perf_counter() - start)
    return scorer


async def serve(app: FastAPI, listener: socket.socket, metrics_listener: socket.socket | None = None) -> None:
    """Serve the application on the listener until a signal arrives, or until its service fails or is stopped.

    The metrics are served on a listener of their own, from before the first request to after the last.
    """
    service: Service = app.state.service
    server = _Server(_config(app, service.settings, WaitingConnections(most_connections())))
    metrics_app = CheckHost(_exposition(service.metrics), service.settings)
    metrics_server = _Server(
        _config(metrics_app, service.settings, WaitingConnections(_METRICS_CONNECTIONS), lifespan="off")
    )
    if metrics_listener:
        await metrics_server.begin(metrics_listener)
    loop = asyncio.get_running_loop()
    # uvicorn's own handler closes the listener at once. Here it stays open while the engine drains, so that /readyz can
    # inform load balancers, and late requests receive a 503 instead of a refused connection.
    # A person who presses Ctrl-C does not wait for load balancers.
    server.handle_exit = lambda number, _frame: loop.call_soon_threadsafe(
        service.leave if number == signal.SIGTERM else service.stop
    )
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        app.state.keys.reload()
        reloads.add(task := asyncio.create_task(service.reload()))
        task.add_done_callback(reloads.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, reload)
    trimming = asyncio.create_task(_return_free_memory())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(service.stopping.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await service.close()
    server.should_exit = True
    for task in (trimming, *reloads):
        task.cancel()
    # A trial that is given up ends its process.
    await asyncio.wait([serving, trimming, *reloads])
    if metrics_listener:
        await metrics_server.shutdown([metrics_listener])
    serving.result()


def _exposition(metrics: Metrics) -> ASGIApp:
    """Return the application that answers every path with the metrics, once per iteration of the event loop."""
    turns = Turns()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await turns.next(COST_PER_ITERATION)
        encode, content_type = choose_encoder(Headers(scope=scope).get("accept", ""))
        await Response(encode(metrics.registry), headers={"content-type": content_type})(scope, receive, send)

    return app


def _config(
    app: Any, settings: Settings, waiting: WaitingConnections, lifespan: Literal["on", "off"] = "on"
) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(
            Connection,
            transfer_s=settings.transfer_s,
            max_age_s=settings.connection_age_s,
            waiting=waiting,
            turns=Turns(),
        ),
        # asyncio accepts as many connections at once, before it serves any of them.
        backlog=_ACCEPTED_AT_ONCE,
        lifespan=lifespan,
        # The application writes its own access log, without texts.
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        # The service does not use the client's address.
        proxy_headers=False,
        timeout_graceful_shutdown=_LAST_ANSWERS_S,
    )


class _Server(uvicorn.Server):  # type: ignore[misc]
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        await super().startup(sockets)
        # asyncio takes one number for what it accepts at once and for what the kernel completes before that.
        for listener in sockets or ():
            listener.listen(_BACKLOG)

    async def begin(self, listener: socket.socket) -> None:
        """Serve without handling signals, until `shutdown`."""
        self.config.load()
        self.lifespan = self.config.lifespan_class(self.config)
        await self.startup([listener])


@contextmanager
def listening(settings: Settings, *, for_metrics: bool = False) -> Iterator[socket.socket]:
    """Listen on the address of the settings, at the port of the API or of the metrics."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    port = settings.metrics_port if for_metrics else settings.port
    try:
        listener = socket.create_server((settings.host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        need = "need an address of this machine and a free port (--host, --port, --metrics-port)"
        raise InputError(f"cannot listen on {settings.host}:{port} ({error}): {need}") from error
    with listener:
        # Connections inherit the options. The kernel closes one whose client reads none of its response for that long.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(settings.transfer_s * 1000))
        # asyncio does not set it for a listener that was created without naming TCP, as here; the body of a response
        # would then wait 40 ms until the client acknowledges the headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        address = f"http://{settings.host}:{listener.getsockname()[1]}"
        _log.info(*(("metrics on %s/metrics", address) if for_metrics else ("listening on %s", address)))
        yield listener
