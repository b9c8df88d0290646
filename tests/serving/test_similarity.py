import json
import threading

import numpy as np
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.schemas import SimilarityRequest
from serving.settings import Settings
from simile.scoring import GOLDEN_PAIRS
from tests.tiny_ensembles import MAX_LENGTH

PAIRS = [list(pair) for pair in GOLDEN_PAIRS[:6]]


def post(client, body):
    return client.post("/v1/similarity", json=body)


@pytest.mark.parametrize("form", ["lists", "objects"])
def test_scores_over_http_equal_those_of_the_scorer(client, scorer, form):
    pairs = PAIRS if form == "lists" else [{"text_a": a, "text_b": b} for a, b in PAIRS]
    answer = post(client, {"pairs": pairs}).json()
    np.testing.assert_allclose(answer["scores"], scorer.score(PAIRS), rtol=0, atol=1e-6)


def test_one_text_is_compared_with_each_of_many(client, scorer):
    answer = post(client, {"text": "The water was cold.", "texts": ["A cold drink of water.", "no signal"]}).json()
    expected = scorer.score([("The water was cold.", "A cold drink of water."), ("The water was cold.", "no signal")])
    np.testing.assert_allclose(answer["scores"], expected, rtol=0, atol=1e-6)


def test_members_are_returned_only_on_request(client, scorer):
    assert "members" not in post(client, {"pairs": PAIRS}).json()
    members = post(client, {"pairs": PAIRS, "members": True}).json()["members"]
    expected = scorer.score_members(PAIRS).members
    assert set(members) == set(expected) == {"small", "words"}
    for name, score_P in expected.items():
        np.testing.assert_allclose(members[name], score_P, rtol=0, atol=1e-6)


def test_probabilities_are_the_calibrated_scores(client):
    answer = post(client, {"pairs": PAIRS}).json()
    expected = 1 / (1 + np.exp(-(8 * np.array(answer["scores"]) - 4)))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)


def test_probabilities_are_shifted_to_the_prior(scorer):
    with TestClient(create_app(Settings(prior=0.1), scorer)) as client:
        answer, told = post(client, {"pairs": PAIRS}).json(), client.get("/v1/bundle").json()
    # The calibration was fitted at a share of one half, odds 1; a share of 0.1 has odds 1 to 9.
    expected = 1 / (1 + 9 * np.exp(-(8 * np.array(answer["scores"]) - 4)))
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=1e-6)
    assert (told["prior"], told["calibration"]["positive_share"]) == (0.1, 0.5)


def test_bundle_reports_the_share_of_positives_of_its_calibration(client):
    told = client.get("/v1/bundle").json()
    assert told["prior"] == told["calibration"]["positive_share"] == 0.5


def test_bundle_without_calibration_gives_no_probabilities(uncalibrated):
    with TestClient(create_app(Settings(), uncalibrated)) as client:
        assert "probabilities" not in post(client, {"pairs": PAIRS}).json()
        told = client.get("/v1/bundle").json()
        assert (told["calibration"], told["prior"]) == (None, None)


def test_usage_counts_each_distinct_text_once(client, scorer):
    long = "no " * 50
    usage = post(client, {"pairs": [["no signal", long], [long, "no signal"]]}).json()["usage"]
    assert usage == {"pairs": 2, "texts": 2, "tokens": 3 + MAX_LENGTH, "unknown_tokens": 0, "truncated": 1}


def test_usage_counts_tokens_that_the_encoder_does_not_know_also_of_cached_texts(client):
    for _ in range(2):
        answer = post(
            client, {"pairs": [["cold \U0001f600", "cold \U0001f62d"], ["cold \U0001f600", "no signal"]]}
        ).json()
        assert answer["usage"]["unknown_tokens"] == 2
    registry = client.app.state.service.metrics.registry
    assert registry.get_sample_value("simile_unknown_tokens_total") == 4


def test_response_names_the_bundle(client, bundle):
    assert post(client, {"pairs": PAIRS}).json()["bundle"] == f"tiny@sha256:{bundle.manifest.digest}"


def test_json_is_accepted_without_a_content_type(client):
    assert client.post("/v1/similarity", content=json.dumps({"pairs": PAIRS})).status_code == 200


def test_examples_in_the_documentation_are_valid(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    examples = schemas["SimilarityRequest"]["examples"]
    assert [post(client, example).status_code for example in examples] == [200] * len(examples) == [200, 200, 200]
    assert set(SimilarityRequest.model_fields) == set().union(*examples)


def test_bundle_describes_what_is_served_and_the_limits(client, bundle, scorer):
    answer = client.get("/v1/bundle").json()
    assert (answer["name"], answer["digest"]) == ("tiny", bundle.manifest.digest)
    assert [member["name"] for member in answer["members"]] == ["small", "words"]
    assert (answer["provider"], answer["precision"]) == (scorer.runtime.provider, "fp32")
    assert answer["limits"]["max_pairs"] == 8
    assert str(bundle.path) not in json.dumps(answer)


def test_server_is_alive_while_it_loads_and_ready_afterwards(scorer):
    gate = threading.Event()

    def load():
        assert gate.wait(10)
        return scorer

    with TestClient(create_app(Settings(), load)) as client:
        assert client.get("/healthz").json() == {"status": "alive"}
        for answer in (client.get("/readyz"), client.get("/v1/bundle"), post(client, {"pairs": PAIRS})):
            assert (answer.status_code, answer.json()["error"]["type"]) == (503, "not_ready")
            assert answer.headers["retry-after"] == "1"
        gate.set()
        while client.get("/readyz").status_code == 503:
            pass
        assert post(client, {"pairs": PAIRS}).status_code == 200
