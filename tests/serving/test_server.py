import asyncio
import ctypes
import logging
import re
import shutil
import signal
import socket
import time
from functools import partial
from pathlib import Path

import httpx2
import pytest

from serving import server
from serving.app import create_app
from serving.logs import VisibleFormatter
from serving.server import listening, open_scorer, run, serve
from serving.settings import Settings
from simile.artifacts import Manifest
from simile.errors import BundleError, InputError
from simile.scoring import load
from tests.live_servers import started, until

BODY = {"pairs": [["The water was cold.", "A cold drink of water."]], "members": True}
FREE = Settings(port=0, metrics_port=0, device="cpu", precision="fp32")


@pytest.fixture
def process(bundle, tmp_path):
    with started(bundle.path, tmp_path / "log") as process:
        yield process


def test_process_serves_until_sigterm_without_any_training_library(process, scorer):
    server, api, log = process.process, process.url, process.log
    assert httpx2.get(f"{api}/healthz").status_code == httpx2.get(f"{api}/readyz").status_code == 200
    scores = httpx2.post(f"{api}/v1/similarity", json=BODY).json()["scores"]
    assert scores == pytest.approx(scorer.score(BODY["pairs"]).tolist(), abs=1e-6)
    assert httpx2.post(f"{api}/v1/similarity", content=b" " * (5 * 2**20)).status_code == 413
    text = httpx2.get(f"{process.metrics_url}/metrics").text
    assert "simile_ready 1.0" in text
    assert 'simile_requests_total{code="200",route="/v1/similarity"} 1.0' in text
    server.send_signal(signal.SIGTERM)
    assert server.wait(10) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    assert "water" not in log.read_text()


def test_chunked_body_beyond_the_limit_is_answered_over_a_socket(process):
    def chunks():
        for _ in range(50):
            yield b" " * 2**17

    assert httpx2.post(f"{process.url}/v1/similarity", content=chunks()).status_code == 413


def test_leaving_process_answers_for_a_while_and_closes_its_connections(bundle, tmp_path):
    with started(bundle.path, tmp_path / "log", SIMILE_LINGER_S="1.5") as process, httpx2.Client() as kept:
        ask = partial(kept.post, f"{process.url}/v1/similarity", json=BODY)
        assert "connection" not in ask().headers
        process.process.send_signal(signal.SIGTERM)
        start, answers = time.monotonic(), []
        while time.monotonic() < start + 1:
            answers.append(ask())
            answers.append(httpx2.post(f"{process.url}/v1/similarity", json=BODY))
        assert {answer.status_code for answer in answers} == {200}
        # The signal may arrive after the first response has begun.
        assert {answer.headers.get("connection") for answer in answers[2:]} == {"close"}
        assert httpx2.get(f"{process.url}/readyz").status_code == 503
        assert httpx2.get(f"{process.url}/healthz").status_code == 200
        assert process.process.wait(10) == 0, process.log.read_text()
        assert time.monotonic() - start > 1.4
        log = process.log.read_text()
        assert log.index("leaving: requests are answered for 1.5 s more") < log.index("stopping: up to 25 s")
        assert log.count("stopping: ") == 1


def test_second_sigterm_ends_the_process_at_once(bundle, tmp_path):
    with started(bundle.path, tmp_path / "log", SIMILE_LINGER_S="30") as process:
        process.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.process.poll() is None
        process.process.send_signal(signal.SIGTERM)
        assert process.process.wait(10) == 0, process.log.read_text()


def test_old_connections_are_closed_after_a_response(bundle, tmp_path):
    with started(bundle.path, tmp_path / "log", SIMILE_CONNECTION_AGE_S="0.5") as process, httpx2.Client() as kept:
        ask = partial(kept.post, f"{process.url}/v1/similarity", json=BODY)
        assert "connection" not in ask().headers
        time.sleep(0.6)
        old, fresh = ask(), ask()
        assert (old.status_code, old.headers["connection"]) == (200, "close")
        assert (fresh.status_code, fresh.headers.get("connection")) == (200, None)


def test_connection_has_a_limited_number_of_requests(bundle, monkeypatch):
    monkeypatch.setattr("serving.connection._MAX_REQUESTS", 3)

    async def scenario(scorer):
        app, listener = create_app(Settings(linger_s=0), scorer), socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(serve(app, listener))
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
            answers = [await client.get("/healthz") for _ in range(7)]
        app.state.service.stop()
        await serving
        return ["connection" in answer.headers for answer in answers]

    closing = asyncio.run(scenario(load(bundle.path, device="cpu", precision="fp32")))
    assert closing == [False, False, True, False, False, True, False]


def test_sigint_ends_the_process_as_sigterm_does(process):
    assert httpx2.get(f"{process.url}/healthz").status_code == 200
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(10) == 0, process.log.read_text()


def test_stopping_server_reports_not_ready_and_finishes_its_requests(watched):
    async def scenario():
        app = create_app(Settings(), watched)
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(serve(app, listener))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url) as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)
            watched.gate.clear()
            running = asyncio.create_task(client.post("/v1/similarity", json=BODY))
            while not watched.batches:
                await asyncio.sleep(0.01)
            app.state.service.stop()
            late = [await client.get("/readyz"), await client.post("/v1/similarity", json=BODY)]
            alive = await client.get("/healthz")
            watched.gate.set()
            answer = await running
        async with asyncio.timeout(10):
            await serving
        return answer.status_code, alive.status_code, [answer.status_code for answer in late]

    assert asyncio.run(scenario()) == (200, 200, [503, 503])


def test_answers_do_not_wait_for_the_clients_acknowledgement():
    with listening(FREE) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_damaged_bundle_ends_the_process_with_its_error(bundle, tmp_path):
    copy = shutil.copytree(bundle.path, tmp_path / "copy")
    (copy / "members/small/model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="damaged"):
        run(copy, FREE)


def test_bundle_whose_scores_differ_from_its_golden_pairs_is_not_served(bundle, tmp_path):
    copy = shutil.copytree(bundle.path, tmp_path / "copy")
    golden = [pair.model_dump() for pair in bundle.manifest.golden]
    golden[0]["scores"]["small"] += 0.01
    manifest = Manifest.model_validate(bundle.manifest.model_dump(exclude={"checksum"}) | {"golden": golden})
    (copy / "manifest.json").write_text(manifest.model_dump_json())
    with pytest.raises(BundleError, match="golden"):
        open_scorer(copy, FREE)


@pytest.mark.parametrize("option", ["port", "metrics_port"])
def test_port_in_use_is_an_input_error(bundle, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            run(bundle.path, FREE.model_copy(update={option: port}))


def test_log_line_shows_control_characters_as_escapes():
    record = logging.LogRecord(
        "serving", logging.ERROR, "", 0, "not replaced: %s", ("a\x1b[2J\nFAKE \u202eLINE",), None
    )
    line = VisibleFormatter("%(levelname)s %(message)s").format(record)
    assert line == "ERROR not replaced: a\\x1b[2J\\nFAKE \\u202eLINE"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs the GNU C library")
def test_free_memory_is_returned_to_the_system(monkeypatch):
    def resident_mib() -> int:
        return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

    async def scenario():
        task = asyncio.create_task(server._return_free_memory())
        await until(lambda: resident_mib() < before - 100)
        task.cancel()

    monkeypatch.setattr(server, "_TRIM_S", 0.01)
    blocks = [bytes(60_000) for _ in range(4000)]
    # What is still used lies above what is free.
    used = blocks[::20]
    del blocks
    before = resident_mib()
    asyncio.run(scenario())
    assert len(used) == 200
