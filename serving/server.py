"""The process: sockets, signals, and the order in which things start and end."""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from types import FrameType

import uvicorn
from fastapi import FastAPI
from prometheus_client import start_http_server

from serving.app import create_app
from serving.connection import Connection, limit_unsent
from serving.metrics import Metrics
from serving.service import Service
from serving.settings import Settings
from simile.errors import InputError
from simile.scoring import Scorer, load, require_prior

_LAST_ANSWERS_S = 2
"""Seconds for the sockets to take the last answers, after the engine has drained; with the default ``drain_s`` it all
ends within the 30 seconds that Kubernetes gives."""

_WARM_SHAPES = ((1, 8), (1, 64), (8, 16))
"""Pairs and words a text: each is a shape of its own to the graph, and a provider prepares each at its first use."""

_COLLECTED_AFTER = 50_000
"""Objects made, of which a small request makes some hundred. At Python's own 700, the lists of a body of 4 MB are
looked through so often that parsing it stops the event loop for 0.45 to 0.9 s; so, for 0.15 s."""

_log = logging.getLogger(__name__)


def run(bundle_path: str | Path, settings: Settings) -> int:
    """Serve the bundle until SIGTERM or SIGINT; return the exit code. SIGHUP loads what the path leads to then.

    Answers /healthz and /metrics from the beginning, everything else once the bundle is verified and warm.

    Raises:
        InputError: the bundle cannot be served here, or a port is taken.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Texts are tokenized by threads of the engine's own; for a few, waking the tokenizer's threads takes longer than
    # the work, and they would take the cores from the model.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _collect_seldom()
    app = create_app(settings, lambda: open_scorer(bundle_path, settings))
    service: Service = app.state.service
    with listening(settings) as listener, _metrics_server(settings, service.metrics):
        asyncio.run(serve(app, listener))
    if service.failure:
        raise service.failure
    return 0


def _collect_seldom() -> None:
    # What is imported by now stays: it need not be looked through at all.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER, 50, 50)


def open_scorer(bundle_path: str | Path, settings: Settings) -> Scorer:
    """Return the bundle's scorer, its files verified, its golden pairs reproduced, its common shapes prepared.

    Raises:
        InputError: the bundle cannot be served here.
    """
    start = perf_counter()
    scorer = load(bundle_path, device=settings.device, precision=settings.precision)
    require_prior(scorer.bundle, settings.prior)
    scorer.check_golden()
    for num_pairs, num_words in _WARM_SHAPES:
        words = " warm" * (num_words - 1)
        scorer.score([(f"{i}a{words}", f"{i}b{words}") for i in range(num_pairs)])
    _log.info("ready: %s on %s after %.1f s", scorer.bundle.identity, scorer.runtime, perf_counter() - start)
    return scorer


async def serve(app: FastAPI, listener: socket.socket) -> None:
    """Serve the application on the listener until a signal, or until its service has failed or was stopped."""
    service: Service = app.state.service
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=partial(Connection, transfer_s=service.settings.transfer_s),
            lifespan="on",
            # The application writes its own access log, without texts.
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            # Nothing here asks who the client is.
            proxy_headers=False,
            timeout_graceful_shutdown=_LAST_ANSWERS_S,
        )
    )
    loop = asyncio.get_running_loop()

    def handle_exit(_signal: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(service.stop)

    # uvicorn's own handler closes the listener at once; here it stays open while the engine drains, so that /readyz
    # can tell load balancers, and late requests get a 503 and not a refused connection.
    server.handle_exit = handle_exit
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        reloads.add(task := asyncio.create_task(service.reload()))
        task.add_done_callback(reloads.discard)

    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, reload)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(service.stopping.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    await service.close()
    server.should_exit = True
    await serving


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Listen on the address of the settings.

    Raises:
        InputError: it is no address of this machine, or the port is taken.
    """
    try:
        listener = socket.create_server(
            (settings.host, settings.port),
            family=socket.AF_INET6 if ":" in settings.host else socket.AF_INET,
            backlog=2048,
        )
    except (OSError, OverflowError) as error:
        raise _cannot_listen(settings.host, settings.port, error) from error
    with listener:
        limit_unsent(listener, settings.transfer_s)
        # Its connections inherit it. asyncio sets it too, but not where the listener was made without naming TCP, as
        # here: an answer's body would then wait for the client to acknowledge its headers, 40 ms later.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _log.info("listening on http://%s:%d", settings.host, listener.getsockname()[1])
        yield listener


@contextmanager
def _metrics_server(settings: Settings, metrics: Metrics) -> Iterator[None]:
    try:
        server, thread = start_http_server(settings.metrics_port, settings.host, metrics.registry)
    except OSError as error:
        raise _cannot_listen(settings.host, settings.metrics_port, error) from error
    _log.info("metrics on http://%s:%d/metrics", settings.host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _cannot_listen(host: str, port: int, error: OSError | OverflowError) -> InputError:
    return InputError(
        f"cannot listen on {host}:{port} ({error}): "
        "need a free port of an address of this machine (--port, --metrics-port)"
    )
