import time

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.metrics import ShadowMetrics
from serving.server import open_scorer
from serving.settings import Settings
from serving.shadow import Comparison, rank_agreement
from simile.scoring import load
from simile.scoring.metrics import spearman
from tests.serving.conftest import WatchedScorer, lead_to

PAIRS = [["The water was cold.", "A cold drink of water."], ["no signal", "no bars"]]
DEADLINE_S = 20


@pytest.fixture
def shadow_link(bundles, tmp_path):
    path = tmp_path / "candidate"
    path.symlink_to(bundles[1].path)
    return path


@pytest.fixture
def settings(shadow_link):
    return Settings(device="cpu", precision="fp32", shadow=shadow_link, shadow_share=1.0)


@pytest.fixture
def client(settings, bundles):
    with TestClient(create_app(settings, open_scorer(bundles[0].path, settings))) as client:
        yield client


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return result


def shadow_of(client):
    return client.get("/v1/bundle").json()["shadow"]


def test_the_summary_has_the_differences_of_the_scores(client, bundles):
    wait_for(lambda: shadow_of(client))
    scores = client.post("/v1/similarity", json={"pairs": PAIRS}).json()["scores"]
    shadow = wait_for(lambda: (summary := shadow_of(client))["pairs"] and summary)
    expected = load(bundles[1].path).score([tuple(pair) for pair in PAIRS])
    assert shadow["digest"] == bundles[1].manifest.digest
    assert shadow["pairs"] == 2
    assert shadow["mean_difference"] == pytest.approx((expected - scores).mean(), abs=1e-6)
    assert shadow["rank_agreement"] is None
    registry = client.app.state.service.metrics.registry
    assert registry.get_sample_value("simile_shadow_calls_total", {"result": "scored"}) == 1
    below = {edge: float((expected - scores <= edge).sum()) for edge in (0.0, 0.02)}
    for edge, count in below.items():
        assert registry.get_sample_value("simile_shadow_difference_bucket", {"le": str(edge)}) == count
    labels = {"name": bundles[1].manifest.name, "digest": bundles[1].manifest.digest}
    assert registry.get_sample_value("simile_shadow_bundle_info", labels) == 1


def test_a_service_without_a_shadow_has_neither_summary_nor_metrics(bundles):
    with TestClient(create_app(Settings(device="cpu"), load(bundles[0].path))) as client:
        assert shadow_of(client) is None
        assert "simile_shadow" not in str(list(client.app.state.service.metrics.registry.collect()))


def test_a_shadow_that_cannot_be_loaded_leaves_the_service_as_it_is(bundles, tmp_path, caplog):
    settings = Settings(device="cpu", precision="fp32", shadow=tmp_path / "nowhere")
    with TestClient(create_app(settings, load(bundles[0].path))) as client:
        wait_for(lambda: "no shadow: " in caplog.text)
        assert client.get("/readyz").status_code == 200
        assert client.post("/v1/similarity", json={"pairs": PAIRS}).status_code == 200
        assert shadow_of(client) is None


def test_a_shadow_that_is_served_has_nothing_to_compare(settings, bundles, caplog):
    caplog.set_level("INFO")
    with TestClient(create_app(settings, open_scorer(bundles[1].path, settings))) as client:
        wait_for(lambda: "nothing to compare" in caplog.text)
        assert shadow_of(client) is None


def test_a_reload_promotes_the_shadow_and_follows_the_path(settings, bundles, shadow_link, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(bundles[0].path)
    with TestClient(create_app(settings, lambda: open_scorer(current, settings))) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200 and shadow_of(client))
        for link, bundle in ((current, bundles[1]), (shadow_link, bundles[0])):
            lead_to(link, bundle.path)
        client.portal.call(client.app.state.service.reload)
        shadow = wait_for(lambda: shadow_of(client))
        assert client.get("/v1/bundle").json()["digest"] == bundles[1].manifest.digest
        assert shadow["digest"] == bundles[0].manifest.digest


@pytest.fixture
def compared(bundles, settings):
    """A comparison of the second bundle with an engine of the first, whose batches a gate holds up."""
    first = load(bundles[0].path)
    watched = WatchedScorer(bundles[0], first.runtime)
    app = create_app(settings.model_copy(update={"shadow": None}), watched)
    with TestClient(app) as client:
        service = app.state.service
        comparison = Comparison(load(bundles[1].path), service.engine, ShadowMetrics(service.metrics.registry))
        yield client, watched, comparison
        comparison.close()


def test_the_shadow_waits_while_the_engine_works(compared):
    client, watched, comparison = compared
    watched.gate.clear()
    busy = client.portal.start_task_soon(client.app.state.service.engine.score, [("one", "two")])
    wait_for(lambda: watched.batches)
    comparison.offer([("no signal", "no bars")], np.zeros(1, np.float32))
    time.sleep(0.2)
    assert comparison.summary(1.0).pairs == 0
    watched.gate.set()
    busy.result(DEADLINE_S)
    wait_for(lambda: comparison.summary(1.0).pairs == 1)


def test_calls_that_would_fill_the_memory_are_dropped(compared):
    client, watched, comparison = compared
    watched.gate.clear()
    busy = client.portal.start_task_soon(client.app.state.service.engine.score, [("one", "two")])
    wait_for(lambda: watched.batches)
    for _ in range(3):
        comparison.offer([("x" * 2**22, "y" * 2**21)], np.zeros(1, np.float32))
    registry = client.app.state.service.metrics.registry
    assert registry.get_sample_value("simile_shadow_calls_total", {"result": "dropped"}) == 1
    watched.gate.set()
    busy.result(DEADLINE_S)


def test_a_failure_of_the_shadow_is_counted_and_shows_no_text(compared, monkeypatch, caplog):
    client, _, comparison = compared

    def fail(pairs):
        raise RuntimeError(f"cannot read {pairs}")

    with monkeypatch.context() as patch:
        patch.setattr(comparison._scorer, "score", fail)
        comparison.offer([("a secret", "another")], np.zeros(1, np.float32))
        registry = client.app.state.service.metrics.registry
        wait_for(lambda: registry.get_sample_value("simile_shadow_calls_total", {"result": "failed"}) == 1)
    assert "the shadow fails on a call: RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    comparison.offer([("no signal", "no bars")], np.zeros(1, np.float32))
    wait_for(lambda: comparison.summary(1.0).pairs == 1)


def test_the_rank_agreement_is_spearmans():
    score_P2 = np.random.default_rng(0).normal(size=(500, 2)).round(1)
    score_P2[:, 1] += score_P2[:, 0]
    assert rank_agreement(score_P2) == pytest.approx(spearman(score_P2[:, 1], score_P2[:, 0]), abs=1e-12)
    assert np.isnan(rank_agreement(np.ones((5, 2))))


def test_crossings_and_rank_agreement_follow_their_definitions(compared, bundles):
    client, _, comparison = compared
    comparison._thresholds = [0.5, 0.25]
    score_P2 = np.array([[0.6, 0.3], [0.4, 0.3], [0.6, 0.2], [0.4, 0.2]] * 25, dtype=np.float32)
    comparison._compare(score_P2)
    summary = comparison.summary(0.5)
    assert (summary.pairs, summary.share, summary.crossing_share) == (100, 0.5, 0.5)
    assert summary.mean_difference == pytest.approx(-0.25)
    assert summary.rank_agreement == pytest.approx(0, abs=1e-9)
    assert client.app.state.service.metrics.registry.get_sample_value("simile_shadow_crossings_total") == 50
