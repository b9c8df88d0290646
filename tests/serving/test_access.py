import json
import logging
import time

import pytest
from fastapi.testclient import TestClient
from prometheus_client import generate_latest
from starlette.responses import PlainTextResponse

from serving.app import create_app
from serving.keys import Keys
from serving.middleware import CheckHost
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
        public = ("/healthz", "/readyz", "/health", "/v2/health/live", "/v2/health/ready", "/openapi.json")
        assert [client.get(path).status_code for path in public] == [200] * len(public)
        for path in ("/v2", "/v2/models/tiny", "/v2/models/tiny/ready"):
            assert client.get(path).status_code == 401


def test_keys_are_also_read_from_a_file(scorer, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{OTHER}\n")
    with client_of(scorer, api_keys_file=file) as client:
        assert client.post("/v1/similarity", json=BODY, headers=bearer(OTHER)).status_code == 200
        assert client.post("/v1/similarity", json=BODY).status_code == 401


@pytest.mark.parametrize("content", [None, "", "# none\n\n", "short\n", "schl\u00fcssel-1\n", f"{KEY} {OTHER}\n"])
def test_file_without_a_key_is_refused_and_not_shown(tmp_path, content):
    file = tmp_path / "keys"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InputError, match="API keys") as refused:
        Keys(Settings(api_keys_file=file))
    assert KEY not in str(refused.value)


def test_lines_of_the_file_may_have_names_and_comments(tmp_path):
    file = tmp_path / "keys"
    file.write_bytes(f"\ufeff# of the shop\n\n  shop : {KEY}\nshop:{KEY}\r\n{OTHER}\na:b:c:d:e:f:g:h\n".encode())
    with pytest.raises(InputError, match=r"keys:3: need KEY or NAME:KEY"):
        Keys(Settings(api_keys_file=file))
    file.write_bytes(f"\ufeff# of the shop\n\nshop:{KEY}\r\n{OTHER}\na:b:c:d:e:f:g:h\n".encode())
    keys = Keys(Settings(api_keys_file=file, api_keys=("from-the-environment",)))
    names = [keys.owner_of(key) for key in (KEY, OTHER, "b:c:d:e:f:g:h", "from-the-environment", "unknown-key")]
    assert names == ["shop", "unnamed", "a", "unnamed", None]


def test_keys_rotate_while_the_service_runs(scorer, tmp_path, monkeypatch, caplog):
    """Kubernetes replaces a link to a folder, into which the file is a link."""
    monkeypatch.setattr("serving.keys._CHECK_S", 0.02)
    for name, content in (("old", f"shop:{KEY}\n"), ("broken", "short\n"), ("new", f"shop:{OTHER}\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(content)
    (tmp_path / "data").symlink_to("old")
    (tmp_path / "keys").symlink_to("data/keys")

    def swap(name: str) -> None:
        (tmp_path / "next").symlink_to(name)
        (tmp_path / "next").rename(tmp_path / "data")

    def statuses() -> list[int]:
        return [client.post("/v1/similarity", json=BODY, headers=bearer(key)).status_code for key in (KEY, OTHER)]

    def becomes(expected: list[int]) -> bool:
        deadline = time.monotonic() + 5
        while statuses() != expected and time.monotonic() < deadline:
            time.sleep(0.01)
        return statuses() == expected

    with client_of(scorer, api_keys_file=tmp_path / "keys") as client:
        assert statuses() == [200, 401]
        swap("broken")
        time.sleep(0.2)
        assert statuses() == [200, 401]
        assert "keys not replaced" in caplog.text
        swap("new")
        assert becomes([401, 200])


def test_names_of_keys_are_in_metrics_and_log_and_keys_are_not(scorer, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    file = tmp_path / "keys"
    file.write_text(f"shop:{KEY}\nbank:{OTHER}\n")
    with client_of(scorer, api_keys_file=file) as client:
        usage = client.post("/v1/similarity", json=BODY, headers=bearer(KEY)).json()["usage"]
        client.post("/v1/embeddings", json={"input": "water"}, headers=bearer(OTHER))
        value = client.app.state.service.metrics.registry.get_sample_value
        assert value("simile_key_requests_total", {"key": "shop", "code": "200"}) == 1
        assert value("simile_key_tokens_total", {"key": "shop"}) == usage["tokens"]
        # The bundle has a lexical member, so it has no embeddings.
        assert value("simile_key_requests_total", {"key": "bank", "code": "422"}) == 1
    assert "key shop" in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize(("priority", "status"), [("batch", 200), ("interactive", 200), ("low", 422)])
def test_priority_is_interactive_or_batch(scorer, priority, status):
    with client_of(scorer) as client:
        answer = client.post("/v1/similarity", json=BODY, headers={"x-simile-priority": priority})
    assert answer.status_code == status


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


async def _hello(scope, receive, send):
    await PlainTextResponse("hello")(scope, receive, send)


@pytest.mark.parametrize(
    ("address", "hosts", "named", "status"),
    [
        ("127.0.0.1", (), "localhost:8080", 200),
        ("127.0.0.1", (), "LOCALHOST", 200),
        ("127.0.0.1", (), "[::1]:8080", 200),
        ("127.0.0.1", (), "10.0.0.1:80", 200),
        ("127.0.0.1", (), "simile", 200),
        ("127.0.0.1", (), "page.localhost:8080", 200),
        ("127.0.0.1", (), "rebound.example:8080", 421),
        ("127.0.0.1", (), "localhost.rebound.example", 421),
        ("127.0.0.1", ("*",), "rebound.example", 200),
        ("127.0.0.1", ("simile.example",), "simile.example:443", 200),
        ("127.0.0.1", ("simile.example",), "localhost", 421),
        ("0.0.0.0", (), "simile.example", 200),
        ("0.0.0.0", ("simile.example",), "10.0.0.1:8080", 421),
    ],
)
def test_requests_to_another_host_are_refused(address, hosts, named, status):
    settings = Settings(host=address, hosts=hosts)
    answer = TestClient(CheckHost(_hello, settings)).get("/", headers={"host": named})
    assert answer.status_code == status
    if status == 421:
        assert answer.json()["error"]["type"] == "wrong_host"


def test_the_service_checks_the_host_of_all_but_probes_and_counts_what_it_refuses(scorer):
    with client_of(scorer, hosts=("simile.example",)) as client:
        statuses = [client.get(path, headers={"host": "10.1.2.3:8080"}).status_code for path in ("/readyz", "/docs")]
        refused = client.post("/v1/similarity", json=BODY, headers={"host": "other.example"})
        assert client.post("/v1/similarity", json=BODY, headers={"host": "simile.example"}).status_code == 200
        metrics = generate_latest(client.app.state.service.metrics.registry).decode()
    assert statuses == [200, 421]
    assert refused.headers["x-request-id"] == refused.json()["error"]["request_id"]
    assert 'simile_requests_total{code="421",route="/v1/similarity"} 1.0' in metrics
