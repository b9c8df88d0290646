"""Neither texts nor keys appear where they do not belong."""

import json
import socket
from itertools import product

import httpx2
import pytest

from tests.live_servers import started

KEY, WRONG, TEXT = "planted-key-1234", "wrong-planted-5678", "zymurgy"
BEARERS = [{"authorization": f"Bearer {key}"} for key in (KEY, WRONG)]
POSTED = ("/v1/similarity", "/similarity", "/", "/score", "/v1/score", "/v1/embeddings", "/nope")

PAIR = [TEXT, f"{TEXT} {TEXT}"]
BODIES = [
    {"pairs": [PAIR]},
    {"pairs": [[*PAIR, TEXT]]},
    {"pairs": [{"text_a": TEXT, "text_b": [TEXT]}]},
    {"pairs": TEXT},
    {"pairs": [PAIR] * 9},
    {"pairs": [PAIR], "members": TEXT},
    {"text": TEXT, "texts": [TEXT, ""]},
    {"text": TEXT * 100, "texts": [TEXT]},
    {"inputs": {"source_sentence": TEXT, "sentences": [TEXT]}},
    {"inputs": {"source_sentence": [TEXT], "sentences": TEXT}},
    {"text_1": PAIR, "text_2": [TEXT] * 3},
    {"text_1": {TEXT: TEXT}, "text_2": TEXT},
    {"input": TEXT, "encoding_format": TEXT},
    {"input": [TEXT, f"{TEXT}\ud800"], "dimensions": TEXT},
    TEXT,
    [TEXT],
]
CONTENTS = [
    *(json.dumps(body).encode() for body in BODIES),
    json.dumps({"pairs": [PAIR]}).encode()[:-3],
    TEXT.encode() + b"\xff",
    TEXT.encode() * 1000,
    f'"{TEXT}",'.encode() * 400,
]


@pytest.fixture(scope="module")
def seen(bundle, tmp_path_factory):
    """Everything that a service reveals after all kinds of requests: its log by level, its metrics, its responses."""
    folder = tmp_path_factory.mktemp("secrets")
    limits = {"SIMILE_MAX_PAIRS": "8", "SIMILE_MAX_CHARACTERS": "200", "SIMILE_MAX_BODY_BYTES": "4096"}
    seen, answers = {}, []
    with started(bundle.path, folder / "log", LEVEL="DEBUG", SIMILE_API_KEYS=KEY, **limits) as process:
        with httpx2.Client(base_url=process.url) as client:
            for path, bearer, content in product(POSTED, BEARERS, CONTENTS):
                answers.append(client.post(path, content=content, headers=bearer))
            for path in ("/", "/docs", "/page.js", "/docs.js", "/openapi.json", "/v1/bundle", "/healthz", f"/{TEXT}"):
                answers.append(client.get(path, params={"q": TEXT}, headers=BEARERS[0] | {"x-text": TEXT}))
        for broken in (f"GET /{TEXT}\r\n\r\n", f"{TEXT}\r\n\r\n", f"GET / HTTP/1.1\r\n{TEXT}\r\n{KEY}\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", process.port)) as connection:
                connection.sendall(broken.encode())
                seen[broken] = connection.recv(10_000).decode()
        seen["metrics"] = httpx2.get(f"{process.metrics_url}/metrics").text
    seen["log"] = process.log.read_text()
    seen["answers"] = "\n".join(answer.text + json.dumps(dict(answer.headers)) for answer in answers)
    assert {answer.status_code for answer in answers} == {200, 400, 401, 404, 413, 422}
    return seen


@pytest.mark.parametrize("secret", [KEY, WRONG, TEXT])
def test_secret_appears_nowhere(seen, secret):
    assert [where for where, text in seen.items() if secret in text] == []


def test_log_was_written_and_a_secret_in_it_would_be_detected(seen):
    assert "/v1/similarity 200" in seen["log"]
    assert "Invalid HTTP request" in seen["log"]
    assert 'simile_requests_total{code="422",route="/score"}' in seen["metrics"]
