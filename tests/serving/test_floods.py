"""Clients that send much at once, within the limits: the probes and the others are answered meanwhile."""

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest

from serving.body import LimitBody
from serving.settings import Settings
from tests.live_servers import until
from tests.serving.running import BODY, is_served, running

MIB = 2**20
CHUNKED = b"POST /v1/similarity HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
PADDED = json.dumps(BODY).encode() + b" " * 4_000_000


def post(body: bytes, path: str = "/v1/similarity") -> bytes:
    return b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body)) + body


@asynccontextmanager
async def watched_loop():
    """Yield a list whose last element is the longest time so far in which the event loop did nothing else."""
    gaps = [0.0]

    async def watch():
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            gaps.append(max(gaps.pop(), (now := time.perf_counter()) - before))
            before = now

    watching = asyncio.create_task(watch())
    yield gaps
    watching.cancel()


@pytest.mark.parametrize(
    "request_bytes",
    [
        CHUNKED + b"%x\r\n" % (MIB // 4) + b"\r\n" * (MIB // 8) + b"\r\n0\r\n\r\n",
        (CHUNKED + b"1\r\n \r\n" * 21_000 + b"0\r\n\r\n") * 4,
        (CHUNKED + b"100000\r\n" + b" " * MIB + b"\r\n0\r\n" + b"a:b\r\n" * 200_000 + b"\r\n"),
    ],
    ids=["empty lines", "chunks of a byte", "trailers"],
)
def test_a_body_in_chunks_does_not_block_the_event_loop(scorer, request_bytes):
    async def attack(connect):
        reader, writer = await connect()
        writer.write(request_bytes)
        answer = await reader.read(12)
        writer.transport.abort()
        return answer

    async def scenario():
        async with running(scorer) as (client, connect), watched_loop() as gaps:
            answers = await asyncio.gather(*(attack(connect) for _ in range(4)))
            assert await is_served(client)
            return answers, gaps[-1]

    answers, gap = asyncio.run(scenario())
    assert {answer[:10] for answer in answers} == {b"HTTP/1.1 4"}
    assert gap < 0.25


def test_many_large_requests_at_once_do_not_block_the_event_loop(alone):
    # The texts are cached after the first request, so that each takes the event loop only.
    request = post(json.dumps({"pairs": [[f"water {i}", f"cold {i}"] for i in range(1000)]}).encode())

    async def ask(connect):
        reader, writer = await connect()
        writer.write(request)
        answer = await reader.readuntil(b'"bundle"')
        writer.transport.abort()
        return answer[:12]

    async def scenario():
        async with running(alone) as (_, connect):
            assert await ask(connect) == b"HTTP/1.1 200"
            async with watched_loop() as gaps:
                assert set(await asyncio.gather(*(ask(connect) for _ in range(40)))) == {b"HTTP/1.1 200"}
                return gaps[-1]

    assert asyncio.run(scenario()) < 0.25


def test_large_bodies_share_a_limited_memory_until_they_are_answered(watched):
    async def scenario():
        async with running(watched) as (client, connect):
            watched.gate.clear()
            connections = [await connect() for _ in range(6)]
            for _, writer in connections:
                writer.write(post(PADDED))
            readers = [asyncio.create_task(reader.read(12)) for reader, _ in connections]
            await until(lambda: sum(reader.done() for reader in readers) == 3)
            others = [json.dumps(BODY).encode() + b" " * size for size in (0, 100_000)]
            asking = [asyncio.create_task(client.post("/v1/similarity", content=body)) for body in others]
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in asking)
            watched.gate.set()
            statuses = sorted([await reader for reader in readers])
            for _, writer in connections:
                writer.transport.abort()
            return statuses, [(await task).status_code for task in asking], await is_served(client)

    # 16 MiB hold three of them, and leave room for others.
    assert asyncio.run(scenario()) == ([b"HTTP/1.1 200"] * 3 + [b"HTTP/1.1 429"] * 3, [200, 200], True)


def call(scope, *, method="POST") -> list[dict]:
    """Call `LimitBody` with a small body; return the scopes by which it calls the application."""
    scopes = []

    async def app(scope, _receive, _send):
        scopes.append(scope)

    async def receive():
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(_message):
        raise AssertionError

    given = {"type": "http", "method": method, "path": "/x", "headers": [], "query_string": b"", "state": {}} | scope
    asyncio.run(LimitBody(app, Settings())(given, receive, send))
    return scopes


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_whose_client_has_left_before_its_turn_is_dropped(method):
    assert call({"state": {"has_left": True}}, method=method) == []
    assert len(call({}, method=method)) == 1


def test_a_query_is_not_parsed():
    (scope,) = call({"query_string": b"a=b&" * 15_000}, method="GET")
    assert scope["query_string"] == b""
