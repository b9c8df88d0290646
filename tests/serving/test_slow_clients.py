"""Clients that are slow, disconnect, or do nothing: others are served meanwhile, and no resources leak."""

import asyncio
import gc
import json
import os
import resource
import socket
import statistics
import struct
import time
from contextlib import ExitStack, suppress

import httpx2
import pytest

from tests.live_servers import started, until
from tests.serving.running import BODY, is_served, running

HEAD = b"POST /v1/similarity HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
IDLE = 1000


def held() -> tuple[int, int]:
    """Return the number of tasks and of file descriptors, of the service and of this test."""
    gc.collect()
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))


async def trickle(writer, data: bytes) -> None:
    with suppress(ConnectionError):
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("sent", "status"), [(HEAD, b"HTTP/1.1 408"), (HEAD[:10], b""), (b"", b"")], ids=["body", "head", "nothing"]
)
def test_slow_client_is_disconnected_and_others_are_served(scorer, sent, status):
    async def slow(connect) -> bytes:
        reader, writer = await connect()
        writer.write(sent)
        trickling = asyncio.create_task(trickle(writer, HEAD[10:] if 0 < len(sent) < len(HEAD) else b"x" * 30))
        if not sent:
            trickling.cancel()
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        # The service closes a connection while a byte is on its way.
        except ConnectionResetError:
            return b""
        finally:
            trickling.cancel()
            writer.close()

    async def scenario():
        async with running(scorer, transfer_s=1) as (client, connect):
            assert await is_served(client)
            before = held()
            clients = [asyncio.create_task(slow(connect)) for _ in range(20)]
            served = 0
            while not all(client.done() for client in clients):
                assert await is_served(client)
                served += 1
            answers = [await client for client in clients]
            await until(lambda: held() <= before)
            assert served > 20
            return answers

    answers = asyncio.run(scenario())
    assert {answer[:12] for answer in answers} == {status}
    if status:
        assert all(b"connection: close" in answer for answer in answers)


@pytest.mark.parametrize(
    "begun", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"], ids=["path", "value", "lines"]
)
def test_endless_head_is_refused(scorer, begun):
    piece = b"x: y\r\n" * 10_000 if begun.endswith(b"\n") else b"x" * 60_000

    async def scenario():
        async with running(scorer, transfer_s=20) as (client, connect):
            reader, writer = await connect()
            writer.write(begun)
            sent = 0
            with suppress(ConnectionError):
                while sent < 100 * len(piece) and not reader.at_eof():
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
                    await asyncio.sleep(0.01)
            answer = b""
            with suppress(ConnectionError):
                answer = await reader.read()
            writer.close()
            assert await is_served(client)
            return sent, answer

    sent, answer = asyncio.run(scenario())
    assert sent < 2_000_000
    assert answer[:12] in (b"HTTP/1.1 431", b"")


def test_long_head_and_long_body_are_accepted(scorer):
    async def scenario():
        async with running(scorer) as (client, _):
            for _ in range(2):
                body = {"pairs": BODY["pairs"] * 60 + [["word " * 5000, "text " * 5000]]}
                answer = await client.post("/v1/similarity", json=body, headers={"x-long": "y" * 60_000})
                assert answer.status_code == 200

    asyncio.run(scenario())


def test_request_of_a_kept_connection_has_its_full_time(scorer):
    async def scenario():
        async with running(scorer, transfer_s=0.6) as (client, _):
            for _ in range(4):
                await asyncio.sleep(0.25)
                assert await is_served(client)

    asyncio.run(scenario())


def test_slow_model_does_not_count_as_a_slow_client(watched):
    async def scenario():
        async with running(watched, transfer_s=0.2) as (client, _):
            watched.gate.clear()
            asking = asyncio.create_task(client.post("/v1/similarity", json=BODY))
            await asyncio.sleep(0.5)
            watched.gate.set()
            return (await asking).status_code

    assert asyncio.run(scenario()) == 200


@pytest.mark.parametrize("is_reset", [False, True])
def test_client_that_disconnects_within_its_body_leaves_nothing(scorer, is_reset, caplog):
    async def scenario():
        async with running(scorer) as (client, connect):
            assert await is_served(client)
            before = held()
            for _ in range(20):
                _, writer = await connect()
                writer.write(HEAD + b'{"pairs"')
                await writer.drain()
                if is_reset:
                    option = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
                writer.close()
                assert await is_served(client)
            await until(lambda: held() <= before)

    asyncio.run(scenario())
    assert "Traceback" not in caplog.text


def large_request(num_texts: int = 1000) -> bytes:
    body = json.dumps({"input": [f"{word} water" for word in range(num_texts)]}).encode()
    return b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("does", ["hangs up", "takes no more"])
def test_client_that_does_not_read_its_response_leaves_nothing(alone, does, caplog):
    if does == "takes no more" and not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("needs TCP_USER_TIMEOUT")

    async def scenario():
        async with running(alone, num_buffered=4096, transfer_s=1) as (client, _):
            assert await is_served(client)
            before, loop = held(), asyncio.get_running_loop()
            # The connections are closed even if the test fails: the service would wait for them.
            with ExitStack() as connections:
                num_open = 0
                for _ in range(5):
                    connection = connections.enter_context(socket.socket())
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    connection.setblocking(False)
                    await loop.sock_connect(connection, (client.base_url.host, client.base_url.port))
                    # The second response waits until the first is read.
                    await loop.sock_sendall(connection, large_request() * 2)
                    assert await loop.sock_recv(connection, 12) == b"HTTP/1.1 200"
                    if does == "hangs up":
                        connection.close()
                    else:
                        num_open += 1
                    assert await is_served(client)
                await until(lambda: held() <= (before[0], before[1] + num_open))

    asyncio.run(scenario())
    assert "Traceback" not in caplog.text


def test_endless_trailers_are_refused(scorer):
    async def scenario():
        async with running(scorer, transfer_s=20) as (client, connect):
            reader, writer = await connect()
            writer.write(
                b"POST /v1/similarity HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
            )
            sent = 0
            with suppress(ConnectionError):
                while sent < 10_000_000 and not reader.at_eof():
                    writer.write(b"x: y\r\n" * 10_000)
                    await writer.drain()
                    sent += 60_000
                    await asyncio.sleep(0.01)
            writer.close()
            assert await is_served(client)
            return sent

    assert asyncio.run(scenario()) < 2_000_000


def test_pipelined_requests_are_answered_in_their_order(scorer):
    num_requests = 2000
    body = json.dumps(BODY).encode()
    post = b"POST /v1/similarity HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body

    async def scenario():
        async with running(scorer) as (_, connect):
            reader, writer = await connect()
            writer.write((post + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n") * (num_requests // 2))
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            answers = await reader.read()
            writer.close()
            return answers

    answers = asyncio.run(scenario())
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers.split(b"HTTP/1.1 200 OK")[1:]]
    assert len(bodies) == num_requests + 1
    assert all(body.startswith(b'{"scores"') for body in bodies[:-1:2])
    assert all(body == b'{"status":"alive"}' for body in [*bodies[1::2], bodies[-1]])


def test_a_client_that_takes_a_small_response_late_gets_the_next_one(alone):
    async def scenario():
        async with running(alone, num_buffered=4096, transfer_s=20) as (client, _):
            loop = asyncio.get_running_loop()
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.setblocking(False)
                await loop.sock_connect(connection, (client.base_url.host, client.base_url.port))
                await loop.sock_sendall(connection, large_request(150) * 2)
                await asyncio.sleep(0.5)
                received = b""
                async with asyncio.timeout(5):
                    while received.count(b'"usage"') < 2 and (piece := await loop.sock_recv(connection, 2**16)):
                        received += piece
            return received

    received = asyncio.run(scenario())
    first, second = received.split(b"HTTP/1.1 200 OK")[1:]
    # More than the kernel buffers here, and less than makes the transport pause.
    assert 2**14 < len(first) < 2**16
    assert abs(len(second) - len(first)) < 100


def test_a_client_that_pipelines_and_reads_nothing_is_read_no_further(alone):
    async def scenario():
        async with running(alone, num_buffered=4096, transfer_s=20) as (client, connect):
            _, writer = await connect()
            sent = 0
            with suppress(TimeoutError):
                async with asyncio.timeout(2):
                    while sent < 200 * 2**20:
                        writer.write(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 10_000)
                        await writer.drain()
                        sent += 430_000
            assert await is_served(client)
            writer.transport.abort()
            return sent

    assert asyncio.run(scenario()) < 20 * 2**20


def test_many_headers_are_refused(scorer):
    async def scenario():
        async with running(scorer) as (client, connect):
            reader, writer = await connect()
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 5000 + b"\r\n")
            answer = await reader.read()
            writer.close()
            assert await is_served(client)
            return answer

    assert asyncio.run(scenario()).startswith(b"HTTP/1.1 431")


def test_an_unfinished_body_behind_another_request_has_its_time_limit(scorer):
    async def scenario():
        async with running(scorer, transfer_s=1) as (client, connect):
            reader, writer = await connect()
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + HEAD + b"{")
            async with asyncio.timeout(10):
                answers = await reader.read()
            writer.close()
            assert await is_served(client)
            return answers

    statuses = [answer[:3] for answer in asyncio.run(scenario()).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"408"]


SMUGGLED = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/similarity HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n",
        b"POST /v1/similarity HTTP/1.1\r\nConnection: Upgrade\r\nUPGRADE: h2c\r\n",
        b"\r\n\r\nPOST /v1/similarity HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade\r\n",
        b"CONNECT /v1/similarity HTTP/1.1\r\n",
    ],
    ids=["websocket", "capitals", "empty lines", "connect"],
)
@pytest.mark.parametrize("at", [10, 70, 1000])
def test_a_body_is_never_taken_for_another_request(scorer, head, at):
    request = head + b"host: x\r\ncontent-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED

    async def scenario():
        async with running(scorer, transfer_s=1) as (_, connect):
            reader, writer = await connect()
            for piece in (request[:at], request[at:]):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)
            answers = await reader.read()
            writer.close()
            return answers

    answers = asyncio.run(scenario())
    assert answers.count(b"HTTP/1.1 ") == 1
    assert b"alive" not in answers


def test_an_upgrade_to_http_2_is_ignored(scorer):
    async def scenario():
        async with running(scorer) as (client, _):
            offer = {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABk"}
            for _ in range(2):
                answer = await client.post("/v1/similarity", json=BODY, headers=offer)
                assert answer.status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize("num_requests", [1, 2])
def test_a_client_that_takes_its_response_byte_by_byte_is_disconnected(alone, num_requests):
    async def scenario():
        async with running(alone, num_buffered=4096, transfer_s=1) as (client, _):
            loop = asyncio.get_running_loop()
            with socket.socket() as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.setblocking(False)
                await loop.sock_connect(connection, (client.base_url.host, client.base_url.port))
                await loop.sock_sendall(connection, large_request() * num_requests)
                async with asyncio.timeout(15):
                    with suppress(ConnectionResetError):
                        while await loop.sock_recv(connection, 100):
                            await asyncio.sleep(0.02)
            assert await is_served(client)

    asyncio.run(scenario())


def test_unfinished_bodies_of_all_connections_together_are_limited(scorer):
    size = 2 * 2**20
    head = b"POST /v1/similarity HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (size + 1)

    async def scenario():
        async with running(scorer, transfer_s=20) as (client, connect):
            connections = [await connect() for _ in range(40)]
            for _, writer in connections:
                writer.write(head + b" " * size)
                with suppress(ConnectionError):
                    await writer.drain()
                assert await is_served(client)
            await asyncio.sleep(0.2)
            ended = [reader.at_eof() or reader.exception() is not None for reader, _ in connections]
            for _, writer in connections:
                writer.transport.abort()
            return ended

    # 64 MiB hold the last 31 bodies.
    assert asyncio.run(scenario()) == [True] * 9 + [False] * 31


@pytest.fixture
def many_files():
    """Raise the limit of open files, for this test and for the service that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = IDLE + 500
    if hard != resource.RLIM_INFINITY and hard < need:
        pytest.skip(f"needs {need} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_thousand_idle_connections_cost_others_nothing_and_leave_nothing(bundle, tmp_path, many_files):
    def latency() -> float:
        seconds = []
        for _ in range(100):
            start = time.perf_counter()
            assert client.post("/v1/similarity", json=BODY).status_code == 200
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)

    with (
        started(bundle.path, tmp_path / "log", SIMILE_TRANSFER_S="60") as process,
        httpx2.Client(base_url=process.url) as client,
    ):
        before, num_files = latency(), process.num_files
        resident = []
        for _ in range(3):
            idle = [socket.create_connection(("127.0.0.1", process.port)) for _ in range(IDLE)]
            during = latency()
            assert process.num_files >= num_files + IDLE
            for connection in idle:
                connection.close()
            assert during < 2 * before + 0.02
            for _ in range(500):
                if process.num_files <= num_files:
                    break
                time.sleep(0.01)
            assert process.num_files <= num_files
            resident.append(process.resident_bytes)
    # The first round allocates memory that later rounds use again.
    assert resident[2] < resident[0] + 4 * 2**20
