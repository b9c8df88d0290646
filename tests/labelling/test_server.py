"""The labelling server answers its own page and nothing else."""

import json

import pytest
from fastapi.testclient import TestClient

from labelling.annotation import Annotation
from labelling.answers import read_journal
from labelling.guard import MAX_BODY_BYTES
from labelling.order import labelling_order
from labelling.server import About, create_app
from simile.artifacts.sampled_pairs import SampledPair

HTML = "<img src=x onerror=alert(1)></script>"
PAIRS = [SampledPair(HTML, "plain"), SampledPair("c", "d"), SampledPair("e", "f")]
ORIGIN = "http://127.0.0.1:8090"
WRITES = ("/api/answer", "/api/undo")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "labelled.jsonl"


@pytest.fixture
def client(out):
    app = create_app(
        Annotation(labelling_order(PAIRS), out, annotator="ada"), About("ada", out.name, "# Guide"), port=8090
    )
    return TestClient(app, base_url=ORIGIN, raise_server_exceptions=False)


def click(client, **values):
    state = client.get("/api/state").json()
    body = {"sequence": state["sequence"], "pair": state["pair"]["key"], "answer": "same", "seconds": 1.5}
    return body | values


def test_answer_is_acknowledged_with_the_next_pair(client, out):
    response = client.post("/api/answer", json=click(client, note="n"), headers={"origin": ORIGIN})
    assert response.status_code == 200
    assert response.json()["progress"]["done"] == 1
    assert [one.note for one in read_journal(out)] == ["n"]


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/guidelines.js", "/api/state", "/api/about"])
def test_everything_has_the_security_headers(client, path):
    response = client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8090", "127.0.0.1", "127.0.0.1:80", "localhost:8090.evil.example", ""]
)
@pytest.mark.parametrize("path", ["/", "/api/state", *WRITES])
def test_other_host_is_refused(client, out, host, path):
    body = click(client)
    send = client.post if path in WRITES else client.get
    response = send(path, headers={"host": host}, **({"json": body} if path in WRITES else {}))
    assert response.status_code == 421
    assert not out.exists()


def test_two_hosts_are_refused(client):
    assert client.get("/", headers=[("host", "127.0.0.1:8090"), ("host", "evil.example")]).status_code == 421


def test_own_names_are_answered(client):
    for host in ("127.0.0.1:8090", "localhost:8090", "LOCALHOST:8090"):
        assert client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8090"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": ORIGIN},
    ],
)
@pytest.mark.parametrize("path", WRITES)
def test_page_of_another_origin_cannot_write(client, out, headers, path):
    assert client.post(path, json=click(client), headers=headers).status_code == 403
    assert not out.exists()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_body_that_a_form_could_send_is_refused(client, out, kind):
    response = client.post("/api/answer", content=json.dumps(click(client)), headers={"content-type": kind})
    assert response.status_code == 415
    assert not out.exists()


def pieces():
    for _ in range(MAX_BODY_BYTES // 1000 + 1):
        yield b" " * 1000


@pytest.mark.parametrize("content", [b" " * (MAX_BODY_BYTES + 1), pieces()], ids=["declared", "in chunks"])
def test_large_body_is_refused(client, content):
    response = client.post("/api/answer", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 413


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 30_000,
        b'{"a":' * 5_000,
        b"\xff\xfe{}",
        b"1" * 5_000,
        '{"sequence": 0}'.encode("utf-16"),
    ],
)
def test_malformed_body_is_refused_without_an_echo(client, out, content):
    response = client.post("/api/answer", content=content, headers={"content-type": "application/json"})
    assert response.status_code in (400, 422)
    assert len(response.content) < 100
    assert not out.exists()


@pytest.mark.parametrize(
    "values",
    [
        {"answer": "undone"},
        {"answer": "maybe"},
        {"sequence": -1},
        {"sequence": "x"},
        {"sequence": 10**400},
        {"pair": "../../etc/passwd"},
        {"pair": 1},
        {"note": "x" * 2001},
        {"note": None},
        {"seconds": -1},
        {"seconds": 1e7},
        {"annotator": "eve"},
        {"out": "/tmp/other"},
    ],
)
def test_values_that_the_page_never_sends_are_refused(client, out, values):
    response = client.post("/api/answer", json=click(client, **values))
    assert response.status_code in (409, 422)
    assert not out.exists()


@pytest.mark.parametrize("text", ['"\\ud800"', "NaN", "Infinity"])
def test_values_that_no_file_can_hold_are_refused(client, out, text):
    field = "note" if text.startswith('"') else "seconds"
    content = json.dumps(click(client, **{field: 0})).replace(f'"{field}": 0', f'"{field}": {text}')
    response = client.post("/api/answer", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert not out.exists()


@pytest.mark.parametrize(
    "path",
    [
        "/labelled.jsonl",
        "/page/index.html",
        "/index.html",
        "/../labelled.jsonl",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/page.js/../../answers.py",
        "/page.js%00.css",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_path_leads_to_a_file(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_do_nothing(client, out, method):
    assert client.request(method, "/api/answer").status_code == 405
    assert not out.exists()


def test_texts_reach_the_browser_as_json_only(client):
    for path in ("/", "/page.js"):
        assert HTML not in client.get(path).text
    response = client.get("/api/state")
    assert response.headers["content-type"] == "application/json"


def test_answer_of_a_second_window_is_refused(client):
    first, second = click(client), click(client, answer="different")
    assert client.post("/api/answer", json=first).status_code == 200
    assert client.post("/api/answer", json=second).status_code == 409


def test_unwritable_answer_says_why(client, out):
    body = click(client)
    out.mkdir()
    response = client.post("/api/answer", json=body)
    assert response.status_code == 503
    assert response.json() == {"error": "the answer could not be written: Is a directory"}
