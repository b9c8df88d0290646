import asyncio
import os
import signal
import socket
import threading
from contextlib import asynccontextmanager

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.server import open_scorer, serve
from serving.settings import Settings
from simile.scoring import load
from tests.live_servers import until
from tests.serving.conftest import lead_to

SETTINGS = Settings(device="cpu", precision="fp32")
PAIRS = [["The water was cold.", "A cold drink of water."], ["no signal", "no bars"]]


@pytest.fixture
def link(bundles, tmp_path):
    """The symbolic link that the service serves; it leads to the first bundle."""
    path = tmp_path / "current"
    path.symlink_to(bundles[0].path)
    return path


@asynccontextmanager
async def running(link, trial=None, *, settings=SETTINGS, opened=None):
    app = create_app(settings, opened or (lambda: open_scorer(link, settings)), trial)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(serve(app, listener))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        while (await client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)
        yield app, client
    app.state.service.stop()
    async with asyncio.timeout(20):
        await serving


def loads(app, result: str) -> float:
    return app.state.service.metrics.registry.get_sample_value("simile_bundle_loads_total", {"result": result}) or 0


async def until_more(answers) -> None:
    seen = len(answers)
    await until(lambda: len(answers) > seen + 20)


def test_bundle_is_swapped_under_load_without_a_failed_or_mixed_answer(bundles, link):
    expected = {bundle.identity: load(bundle.path, device="cpu", precision="fp32").score(PAIRS) for bundle in bundles}
    answers, is_over = [], False

    async def ask(client):
        while not is_over:
            answers.append(await client.post("/v1/similarity", json={"pairs": PAIRS}))

    async def scenario():
        nonlocal is_over
        async with running(link) as (app, client):
            asking = [asyncio.create_task(ask(client)) for _ in range(8)]
            for number, bundle in enumerate((bundles[1], bundles[0], bundles[1]), 2):
                await until_more(answers)
                lead_to(link, bundle.path)
                os.kill(os.getpid(), signal.SIGHUP)
                await until(lambda number=number: loads(app, "served") == number)
            await until_more(answers)
            is_over = True
            await asyncio.gather(*asking)
            described = (await client.get("/v1/bundle")).json()
            info = app.state.service.metrics.registry.get_sample_value(
                "simile_bundle_info", {"name": "tiny", "digest": bundles[1].manifest.digest}
            )
        assert described["digest"] == bundles[1].manifest.digest
        assert info == 1

    asyncio.run(scenario())
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["bundle"] for answer in answers} == set(expected)
    for answer in answers:
        body = answer.json()
        assert answer.headers["x-simile-bundle"] == body["bundle"]
        np.testing.assert_allclose(body["scores"], expected[body["bundle"]], rtol=0, atol=1e-6)


def test_many_signals_at_once_load_twice_at_most(link):
    async def scenario():
        async with running(link) as (app, _):
            for _ in range(10):
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0)
            await until(lambda: loads(app, "served") == 3)
            await asyncio.sleep(0.5)
            return loads(app, "served")

    assert asyncio.run(scenario()) <= 3


def test_bundle_that_is_damaged_is_refused_and_the_old_one_stays(bundles, link, caplog):
    async def scenario():
        async with running(link) as (app, client):
            (bundles[1].path / "members/small/model.onnx").write_bytes(b"broken")
            lead_to(link, bundles[1].path)
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: loads(app, "refused") == 1)
            ready, answer = await client.get("/readyz"), await client.post("/v1/similarity", json={"pairs": PAIRS})
            return ready, answer, loads(app, "served")

    ready, answer, served = asyncio.run(scenario())
    assert (ready.status_code, answer.status_code, served) == (200, 200, 1)
    assert answer.json()["bundle"] == bundles[0].identity
    assert "damaged" in caplog.text
    assert bundles[0].identity in caplog.text


def test_bundle_that_changes_between_its_trial_and_its_load_is_refused(bundles, link, caplog):
    tried = [bundles[0].manifest.digest, "0" * 64]

    async def trial():
        return tried.pop(0)

    async def scenario():
        async with running(link, trial) as (app, client):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: loads(app, "refused") == 1)
            return (await client.get("/readyz")).status_code

    assert asyncio.run(scenario()) == 200
    assert "got another bundle than the one that was tried" in caplog.text


def test_newer_signal_replaces_a_trial_that_does_not_end(bundles, link, caplog):
    num_trials = 0

    async def trial():
        nonlocal num_trials
        num_trials += 1
        if num_trials == 2:
            await asyncio.Event().wait()
        return load(link, device="cpu", precision="fp32").bundle.manifest.digest

    async def scenario():
        async with running(link, trial) as (app, client):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: num_trials == 2)
            lead_to(link, bundles[1].path)
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: loads(app, "served") == 2)
            return (await client.get("/v1/bundle")).json()["digest"]

    assert asyncio.run(scenario()) == bundles[1].manifest.digest
    assert "the trial was given up for a newer SIGHUP" in caplog.text


def test_load_that_does_not_end_is_abandoned(bundles, link, caplog):
    gate = threading.Event()
    gate.set()

    def opened():
        gate.wait(20)
        return open_scorer(link, SETTINGS)

    async def scenario():
        async with running(link, settings=SETTINGS.model_copy(update={"load_s": 2}), opened=opened) as (app, client):
            gate.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: loads(app, "refused") == 1)
            answer = await client.post("/v1/similarity", json={"pairs": PAIRS})
            gate.set()
            return answer.status_code

    assert asyncio.run(scenario()) == 200
    assert "the bundle was tried, but not loaded within 2 s" in caplog.text


def test_responses_report_the_time_of_each_stage(client):
    header = client.post("/v1/similarity", json={"pairs": PAIRS}).headers["server-timing"]
    steps = dict(step.split(";dur=") for step in header.split(", "))
    assert list(steps) == ["tokenize", "queue", "infer", "total"]
    took = {step: float(ms) for step, ms in steps.items()}
    assert min(took.values()) >= 0
    assert took["infer"] > 0
    assert took["tokenize"] + took["queue"] + took["infer"] <= took["total"] + 0.03
    assert "server-timing" not in client.get("/healthz").headers


def test_timing_header_can_be_switched_off(scorer):
    with TestClient(create_app(Settings(timing_headers=False), scorer)) as client:
        answer = client.post("/v1/similarity", json={"pairs": PAIRS})
    assert answer.status_code == 200
    assert "server-timing" not in answer.headers
