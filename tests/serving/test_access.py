import json
import logging

import pytest
from fastapi.testclient import TestClient
from prometheus_client import generate_latest

from serving.app import create_app
from serving.settings import Settings
from simile.errors import InputError
from tests.tiny_ensembles import MAX_LENGTH

KEY, OTHER = "planted-key-1234", "another-key-5678"
BODY = {"pairs": [["The water was cold.", "A cold drink of water."]]}


def client_of(scorer, **settings):
    return TestClient(create_app(Settings(**settings), scorer))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_every_key_is_accepted(scorer, key):
    with client_of(scorer, api_keys=(KEY, OTHER)) as client:
        assert client.post("/v1/similarity", json=BODY, headers=bearer(key)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("another"),
        bearer(KEY[:-1]),
        bearer(f"{KEY}0"),
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/similarity", "/score", "/similarity", "/", "/v1/embeddings", "/rerank"])
def test_without_a_key_nothing_is_scored(scorer, headers, path):
    with client_of(scorer, api_keys=(KEY,)) as client:
        answer = client.post(path, json=BODY, headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_bundle_description_needs_a_key_and_probes_need_none(scorer):
    with client_of(scorer, api_keys=(KEY,)) as client:
        assert client.get("/v1/bundle").status_code == 401
        assert client.get("/v1/bundle", headers=bearer(KEY)).status_code == 200
        assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/openapi.json")] == [200] * 3


def test_keys_are_also_read_from_a_file(scorer, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{OTHER}\n")
    with client_of(scorer, api_keys_file=file) as client:
        assert client.post("/v1/similarity", json=BODY, headers=bearer(OTHER)).status_code == 200
        assert client.post("/v1/similarity", json=BODY).status_code == 401


@pytest.mark.parametrize("content", [None, "", "short\n", "schl\u00fcssel-1\n"])
def test_file_without_a_key_is_refused(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match="API keys"):
        Settings(api_keys_file=file).all_api_keys()


@pytest.mark.parametrize("written", ["", " , ", "schl\u00fcssel-1", "tiny"])
def test_setting_without_a_key_does_not_open_the_service(written):
    with pytest.raises(InputError, match=r"^SIMILE_API_KEYS: "):
        Settings.resolve({}, {"SIMILE_API_KEYS": written})


def test_key_is_never_shown(scorer, caplog):
    caplog.set_level(logging.DEBUG)
    settings = Settings(api_keys=(KEY,))
    app = create_app(settings, scorer)
    with TestClient(app) as client:
        answers = [client.post("/v1/similarity", json=BODY, headers=bearer(key)) for key in (KEY, "wrong-key-0000")] + [
            client.get(path, headers=bearer(KEY)) for path in ("/v1/bundle", "/openapi.json", "/nope")
        ]
    shown = [answer.text + json.dumps(dict(answer.headers)) for answer in answers]
    shown += [caplog.text, repr(settings), generate_latest(app.state.service.metrics.registry).decode()]
    for text in shown:
        assert KEY not in text
        assert "wrong-key-0000" not in text
    with pytest.raises(InputError) as refused:
        Settings.resolve({}, {"SIMILE_API_KEYS": f"{KEY} tiny"})
    assert str(refused.value).startswith("SIMILE_API_KEYS: ")
    assert KEY not in str(refused.value)
    assert refused.value.__cause__ is None


def test_pages_of_allowed_origins_may_call(scorer):
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with client_of(scorer, cors_origins=("https://a.example",), api_keys=(KEY,)) as client:
        asked = client.options("/v1/similarity", headers={"origin": "https://a.example"} | ask)
        answer = client.post("/v1/similarity", json=BODY, headers={"origin": "https://a.example"} | bearer(KEY))
        foreign = client.options("/v1/similarity", headers={"origin": "https://b.example"} | ask)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://a.example"
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "access-control-allow-origin" not in foreign.headers


def test_no_origin_may_call_by_default(client):
    answer = client.post("/v1/similarity", json=BODY, headers={"origin": "https://a.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_long_texts_are_refused_if_the_setting_says_so(scorer):
    long = "water " * MAX_LENGTH
    with client_of(scorer, long_texts="refuse") as client:
        refused = client.post("/v1/similarity", json={"pairs": [["no", "signal"], ["no", long]]})
        assert client.post("/v1/similarity", json={"pairs": [["no", "signal"]]}).status_code == 200
        assert client.get("/v1/bundle").json()["limits"]["long_texts"] == "refuse"
    assert (refused.status_code, refused.json()["error"]["type"]) == (422, "invalid_request")
    assert f"need at most {MAX_LENGTH} tokens" in refused.json()["error"]["message"]
    with client_of(scorer) as client:
        assert client.post("/v1/similarity", json={"pairs": [["no", long]]}).json()["usage"]["truncated"] == 1
