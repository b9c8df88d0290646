"""Health tells the truth: a wedged, dead or failing engine is unready, then unhealthy; a busy one never is."""

import asyncio
import threading
import time

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.health import Health
from serving.settings import Settings
from simile.artifacts import Bundle, Combine
from simile.scoring import Scorer
from tests.live_servers import until
from tests.serving.engines import OTHER, TWO, block, engine_of


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [1000.0]
    monkeypatch.setattr("serving.health.monotonic", lambda: now[0])
    return now


FULL_TOKENS = 256


def health_of(clock, *, waiting_since: float | None = None) -> Health:
    return Health(lambda: 0.0 if waiting_since is None else clock[0] - waiting_since, full_tokens=FULL_TOKENS)


def test_an_idle_engine_is_healthy_for_ever(clock):
    health = health_of(clock)
    clock[0] += 10**6
    assert health.fault is None


def test_a_batch_that_does_not_end_is_a_fault_that_passes_when_it_ends(clock):
    health = health_of(clock)
    health.begin(100)
    clock[0] += 3.9
    assert health.fault is None
    clock[0] += 0.2
    assert health.fault == "no batch has ended for 4 s, and texts are waiting"
    assert health.lasting_fault is None
    clock[0] += 20.1
    assert health.lasting_fault is not None
    health.end(has_succeeded=True)
    assert health.fault is health.lasting_fault is None


def test_two_short_stalls_are_two_faults(clock):
    health = health_of(clock)
    for _ in range(2):
        health.begin(100)
        clock[0] += 15
        assert health.fault is not None
        assert health.lasting_fault is None
        health.end(has_succeeded=True)


def test_failed_batches_say_nothing_about_the_throughput(clock):
    health = health_of(clock)
    health.begin(500)
    clock[0] += 0.001
    health.end(has_succeeded=False)
    assert health.tokens_per_s == 0


def test_long_texts_have_the_time_that_the_throughput_so_far_suggests(clock):
    health = health_of(clock)
    health.threads = [threading.current_thread()]
    health.begin(1000)
    clock[0] += 2
    health.end(has_succeeded=True)
    assert health.tokens_per_s == 500
    health.begin(8000)
    clock[0] += 160
    assert health.fault is None
    clock[0] += 10
    assert health.fault is not None


def test_batches_that_go_on_ending_are_progress_however_long_the_queue_is(clock):
    health = health_of(clock, waiting_since=0.0)
    for _ in range(1000):
        health.begin(500)
        clock[0] += 2.5
        assert health.fault is None
        health.end(has_succeeded=True)


def test_texts_that_wait_although_nothing_runs_are_a_fault(clock):
    health = health_of(clock, waiting_since=1000.0)
    clock[0] += 2.9
    assert health.fault is None
    clock[0] += 0.2
    assert "texts are waiting" in health.fault


def test_a_dead_thread_is_a_fault(clock):
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    health = health_of(clock)
    health.threads = [threading.current_thread(), thread]
    assert health.fault == "an inference thread has died"


def test_wedged_session_is_unready_and_then_unhealthy_and_recovers(watched, monkeypatch):
    monkeypatch.setattr("serving.health._STALLED_S", 0.2)
    monkeypatch.setattr("serving.health._GRACE_S", 0.5)
    with TestClient(create_app(Settings(), watched)) as client:
        service = client.app.state.service
        client.post("/v1/similarity", json={"pairs": TWO})

        async def scenario():
            blocking = await block(service.engine, watched)
            await until(lambda: service.engine.health.fault)
            return blocking

        watched.batches.clear()
        blocking = client.portal.call(scenario)
        refused = client.get("/readyz")
        assert refused.status_code == 503
        assert "no batch has ended" in refused.json()["error"]["message"]
        assert client.get("/healthz").status_code == 200
        value = service.metrics.registry.get_sample_value
        assert value("simile_fault") == 1
        client.portal.call(asyncio.sleep, 0.6)
        assert client.get("/healthz").status_code == 503
        watched.gate.set()
        client.portal.call(asyncio.wait_for, blocking, 10)
        assert [client.get(path).status_code for path in ("/readyz", "/healthz")] == [200, 200]
        assert value("simile_fault") == 0


def test_session_that_always_fails_is_unready_until_it_works_again(watched):
    works = watched.encoder.embed_batch

    def broken(ids):
        raise RuntimeError("the session is broken")

    with TestClient(create_app(Settings(), watched), raise_server_exceptions=False) as client:
        watched.encoder.embed_batch = broken
        assert client.get("/readyz").status_code == 200
        for _ in range(2):
            # Each of the two texts fails alone as well.
            assert client.post("/v1/similarity", json={"pairs": OTHER}).status_code == 500
        refused = client.get("/readyz")
        assert refused.status_code == 503
        assert "member small has failed on good texts" in refused.json()["error"]["message"]
        watched.encoder.embed_batch = works
        # The probes of Kubernetes are the only requests of an unready pod.
        deadline = time.monotonic() + 10
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def twins(encoder_alone, scorer):
    """A scorer of two encoders, the second of which always fails."""
    bundle = encoder_alone
    (member,) = bundle.manifest.members
    update = {
        "members": (member, member.model_copy(update={"name": "other"})),
        "combine": Combine(weights={"small": 0.5, "other": 0.5}),
    }
    twins = Scorer(Bundle(bundle.path, bundle.manifest.model_copy(update=update), bundle.data), scorer.runtime)
    twins.members[1].embed_batch = lambda _: 1 / 0
    return twins


def test_one_broken_encoder_of_two_is_a_fault(twins):
    with TestClient(create_app(Settings(), twins), raise_server_exceptions=False) as client:
        for _ in range(3):
            assert client.post("/v1/similarity", json={"pairs": OTHER}).status_code == 500
        refused = client.get("/readyz")
        assert refused.status_code == 503
        assert "member other has failed on good texts" in refused.json()["error"]["message"]


def test_session_that_returns_no_numbers_is_a_fault(watched):
    watched.encoder.embed_batch = lambda ids: np.full((len(ids), watched.encoder.dimension), np.nan, dtype=np.float32)
    with TestClient(create_app(Settings(), watched), raise_server_exceptions=False) as client:
        for _ in range(3):
            assert client.post("/v1/similarity", json={"pairs": OTHER}).status_code == 500
        assert client.get("/readyz").status_code == 503


def test_waiting_words_of_a_lexical_member_are_no_fault(watched, monkeypatch):
    monkeypatch.setattr("serving.health._STALLED_S", 0.05)
    gate = threading.Event()
    monkeypatch.setattr("serving.lexical.LexicalScoring._scores", lambda *_: gate.wait(10) and {})

    async def scenario():
        engine = engine_of(watched, max_waiting_tokens=10**6)
        texts = [f"{'water ' * 40}{i}" for i in range(100)]
        waiting = [asyncio.create_task(engine.score([(text, text)] * 20)) for text in texts[:2]]
        await asyncio.sleep(0.5)
        assert engine.queue.max_age_s() > 0.3
        fault = engine.health.fault
        for task in waiting:
            task.cancel()
        gate.set()
        return fault

    assert asyncio.run(scenario()) is None


def test_texts_that_break_the_model_are_no_fault_of_it(watched):
    works, poison = watched.encoder.embed_batch, watched.encoder.tokenize(["The poison"])[0].ids.tolist()

    def fragile(ids):
        if any(text.tolist() == poison for text in ids):
            raise RuntimeError("the graph broke")
        return works(ids)

    watched.encoder.embed_batch = fragile
    with TestClient(create_app(Settings(), watched), raise_server_exceptions=False) as client:
        for _ in range(10):
            assert client.post("/v1/similarity", json={"pairs": [("The poison", "a")]}).status_code == 500
        assert client.get("/readyz").status_code == 200


def test_inference_thread_that_dies_is_a_fault(watched, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    monkeypatch.setattr("serving.inference.Inference._compute", lambda *_: (_ for _ in ()).throw(SystemExit))

    async def scenario():
        engine = engine_of(watched, deadline_s=0.2)
        with pytest.raises(Exception, match=r"not answered within 0\.2 s"):
            await engine.score(TWO)
        return engine.health.fault

    assert asyncio.run(scenario()) == "an inference thread has died"


def test_the_throughput_of_an_ensemble_is_the_mean_of_seconds_per_token(clock):
    health = health_of(clock)
    health.threads = [threading.current_thread()]
    for _ in range(200):
        for seconds in (1.0, 3.0):
            health.begin(FULL_TOKENS)
            clock[0] += seconds
            health.end(has_succeeded=True)
    assert health.full_tokens_per_s == pytest.approx(FULL_TOKENS / 2, rel=0.1)


def test_small_batches_say_nothing_about_what_full_ones_take(clock):
    health = health_of(clock)
    health.threads = [threading.current_thread()]
    health.begin(FULL_TOKENS - 1)
    clock[0] += 1
    health.end(has_succeeded=True)
    assert health.tokens_per_s == FULL_TOKENS - 1
    assert health.full_tokens_per_s == 0
