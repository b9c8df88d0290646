"""Servers on real sockets: the application, the service's process, and one that replies as a test says."""

import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import uvicorn

BUNDLE = "/v1/bundle"
SIMILARITY = "/v1/similarity"


class Watched:
    """An ASGI application that records the bodies and the clients' ports of its requests."""

    def __init__(self, app) -> None:
        self.app = app
        self.ports: Counter[int] = Counter()
        self.bodies: list[bytes] = []

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self.ports[scope["client"][1]] += 1
        body = bytearray()

        async def receive_and_keep():
            message = await receive()
            body.extend(message.get("body", b""))
            if message["type"] == "http.request" and not message.get("more_body") and scope["path"] == SIMILARITY:
                self.bodies.append(bytes(body))
            return message

        await self.app(scope, receive_and_keep, send)


async def until(condition: Callable[[], Any]) -> None:
    """Wait until another thread or task makes the condition true."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


@contextmanager
def served(app) -> Iterator[str]:
    """Serve the application in a thread; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # `serving.server` does the same, for the same reason.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning", ws="none", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


_PROGRAM = """
import logging, os, sys
from serving.server import run
from serving.settings import Settings
logging.basicConfig(level=os.environ.get("LEVEL", "INFO"))
code = run(sys.argv[1], Settings.resolve({}, os.environ))
heavy = {"torch", "transformers", "scipy", "sklearn"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""


@dataclass(frozen=True)
class Process:
    """The service in a process of its own, with its addresses and log."""

    process: subprocess.Popen[bytes]
    url: str
    metrics_url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    @property
    def num_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])


@contextmanager
def started(bundle: Path, log: Path, **environ: str) -> Iterator[Process]:
    """Start the service, and yield it once it is ready."""
    options = {"SIMILE_PORT": "0", "SIMILE_METRICS_PORT": "0", "SIMILE_DEVICE": "cpu", "SIMILE_PRECISION": "fp32"}
    options["SIMILE_LINGER_S"] = "0"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, bundle],
            cwd=Path(__file__).parents[1],
            env=os.environ | options | environ,
            stdout=file,
            stderr=file,
        )
    try:
        yield Process(process, _logged(log, "listening on"), _logged(log, "metrics on"), log)
    finally:
        process.kill()
        process.wait()


def _logged(log: Path, words: str) -> str:
    """Return the address that the log gives after these words, once the service is ready."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        text = log.read_text()
        if "ready: " in text and (match := re.search(rf"{words} (http://[^\s/]+)", text)):
            return match[1]
        time.sleep(0.02)
    raise AssertionError(log.read_text())


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def pairs(self) -> list[list[str]]:
        return self.body["pairs"]


@dataclass(frozen=True)
class Reply:
    """A response; with status 0 the connection is closed without one."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    is_reset: bool = False


@dataclass
class Script:
    """A scripted server's address, and the requests that it got."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


def described(name: str = "tiny", *, max_pairs: int = 4, max_body_bytes: int = 4096) -> Reply:
    """Return the response of `/v1/bundle`, as far as a client reads it."""
    limits = {"max_pairs": max_pairs, "max_body_bytes": max_body_bytes}
    return Reply(
        body={"name": name, "digest": "0" * 64, "members": [{"name": "small"}], "calibration": None, "limits": limits}
    )


def measured(request: Request, name: str = "tiny", scale: float = 0.001) -> Reply:
    """Return scores that a test can recognize: the length of each pair's first text."""
    usage = {"pairs": len(request.pairs), "texts": 2, "tokens": 3, "unknown_tokens": 1, "truncated": 0}
    scores = [len(a) * scale for a, _ in request.pairs]
    return Reply(body={"scores": scores, "usage": usage, "bundle": f"{name}@sha256:{'0' * 64}"})


def error(status: int, kind: str = "kind", message: str = "message", param: str | None = None, **headers: str) -> Reply:
    """Return an error response in the application's form."""
    body = {"error": {"type": kind, "message": message, "param": param}}
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def mlflow_run() -> Reply:
    """Return the description of a run by MLflow's tracking server, which answers every request."""
    info = {"run_id": "a" * 32, "experiment_id": "0", "status": "RUNNING", "lifecycle_stage": "active"}
    return Reply(body={"run": {"info": info, "data": {}}})


def in_turn(*replies: Reply) -> Callable[[Request], Reply]:
    """Return a script that answers requests for scores with these replies in turn, then with scores."""
    waiting = iter(replies)

    def reply(request: Request) -> Reply:
        if request.path == BUNDLE:
            return described()
        return next(waiting, None) or measured(request)

    return reply


@contextmanager
def scripted(reply: Callable[[Request], Reply]) -> Iterator[Script]:
    """Serve the reply that the function returns for each request."""
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.path, headers, json.loads(body) if body else None)
            script.requests.append(request)
            self.answer(reply(request))

        do_POST = do_GET

        def answer(self, reply: Reply) -> None:
            if reply.status == 0:
                self.close_connection = True
                if reply.is_reset:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                return
            content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in {"content-length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def finish(self) -> None:
            # The connection was reset, or the client has disconnected.
            with suppress(OSError):
                super().finish()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # The same errors as in `finish`.

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield script
        finally:
            server.shutdown()
            thread.join(10)
