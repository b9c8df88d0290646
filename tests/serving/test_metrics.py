import asyncio
import json
import time
from functools import partial
from itertools import pairwise

import httpx2
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.app import create_app
from serving.metrics import Metrics
from serving.server import _exposition
from serving.settings import Settings
from simile.version import __version__
from tests.live_servers import served
from tests.tiny_ensembles import MAX_LENGTH

BODY = {"pairs": [["The water was cold.", "A cold drink of water."], ["no " * 50, "The water was cold."]]}


@pytest.fixture
def registry(client):
    return client.app.state.service.metrics.registry


def test_names_are_prefixed_and_in_base_units():
    families = list(text_string_to_metric_families(generate_latest(Metrics().registry).decode()))
    names = {family.name for family in families}
    assert all(name.startswith(("simile_", "process_")) for name in names)
    assert not any(name.endswith(("_ms", "_milliseconds", "_kb")) for name in names)


def test_requests_are_counted_by_route_and_code(client, registry):
    client.post("/v1/similarity", json=BODY)
    client.post("/v1/similarity", json={})
    for code in ("200", "422"):
        labels = {"route": "/v1/similarity", "code": code}
        assert registry.get_sample_value("simile_requests_total", labels) == 1
    assert registry.get_sample_value("simile_request_duration_seconds_count", {"route": "/v1/similarity"}) == 2


def test_unknown_paths_share_one_label(client, registry):
    for i in range(3):
        client.get(f"/nope/{i}")
    assert registry.get_sample_value("simile_requests_total", {"route": "unmatched", "code": "404"}) == 3
    assert b"nope" not in generate_latest(registry)


def test_models_and_versions_of_a_path_share_one_label(client, registry):
    for i in range(3):
        client.get(f"/v2/models/nope{i}")
        client.post(f"/v2/models/tiny/versions/nope{i}/infer", json={})
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}/infer"):
        assert registry.get_sample_value("simile_requests_total", {"route": path, "code": "404"}) == 3
    assert b"nope" not in generate_latest(registry)


def test_scored_pairs_texts_and_tokens_are_counted(client, registry):
    client.post("/v1/similarity", json=BODY)
    value = registry.get_sample_value
    assert value("simile_pairs_total") == 2
    assert value("simile_texts_total", {"source": "computed"}) == 3
    assert value("simile_truncated_texts_total") == 1
    assert value("simile_tokens_total") > MAX_LENGTH
    assert value("simile_batch_texts_sum") == 3
    assert value("simile_waiting_tokens") == 0
    assert value("simile_waiting_oldest_seconds") == 0
    for member in ("small", "words"):
        assert value("simile_score_count", {"member": member}) == 2
    for stage in ("receive", "parse", "queue", "tokenize", "infer", "combine"):
        assert value("simile_stage_duration_seconds_count", {"stage": stage}) >= 1


def test_slow_upload_does_not_count_as_parsing(scorer):
    def slowly():
        for part in json.dumps(BODY).encode().partition(b"water"):
            yield part
            time.sleep(0.3)

    app = create_app(Settings(), scorer)
    with served(app) as url:
        assert httpx2.post(f"{url}/v1/similarity", content=slowly()).status_code == 200
    seconds = partial(app.state.service.metrics.registry.get_sample_value, "simile_stage_duration_seconds_sum")
    assert seconds({"stage": "receive"}) > 0.5
    assert seconds({"stage": "parse"}) < 0.2


def test_bundle_provider_version_and_readiness_are_reported(client, registry, scorer):
    manifest = scorer.bundle.manifest
    value = registry.get_sample_value
    assert value("simile_bundle_info", {"name": "tiny", "digest": manifest.digest}) == 1
    assert value("simile_provider_info", {"provider": scorer.runtime.provider, "precision": "fp32"}) == 1
    assert value("simile_build_info", {"version": __version__}) == 1
    # There are two members; the other one is lexical.
    assert value("simile_bundle_encoders") == 1
    assert [value("simile_bundle_loads_total", {"result": result}) for result in ("served", "refused")] == [1, 0]
    assert value("simile_ready") == 1
    client.app.state.service.stop()
    assert value("simile_ready") == 0


def test_others_have_their_turn_between_two_scrapes():
    turns = []

    async def send(message):
        if message["type"] == "http.response.body":
            turns.append("scrape")

    async def other():
        for _ in range(20):
            turns.append("other")
            await asyncio.sleep(0)

    async def scenario():
        app = _exposition(Metrics())
        scope = {"type": "http", "headers": []}
        await asyncio.gather(other(), *(app(scope, None, send) for _ in range(5)))

    asyncio.run(scenario())
    numbers = [i for i, turn in enumerate(turns) if turn == "scrape"]
    assert len(numbers) == 5
    assert all("other" in turns[first:second] for first, second in pairwise(numbers))
