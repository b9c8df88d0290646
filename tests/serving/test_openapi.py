"""The service responds to any request as its OpenAPI document says."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.errors import ClientGoneError, ServingError, UnauthorizedError, UnknownModelError, WrongHostError
from serving.middleware import PROBES
from serving.schemas import ErrorBody, OpenInferenceErrorBody
from serving.settings import Settings
from simile.scoring import Scorer
from tests.live_servers import served
from tests.serving.clients import fill

OPERATIONS = {
    ("POST", "/v1/similarity"),
    ("POST", "/similarity"),
    ("POST", "/"),
    ("POST", "/score"),
    ("POST", "/v1/score"),
    ("POST", "/v1/embeddings"),
    ("POST", "/rerank"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("POST", "/v2/models/{name}/infer"),
    ("POST", "/v2/models/{name}/versions/{version}/infer"),
    ("GET", "/v1/models"),
    ("GET", "/info"),
    ("GET", "/health"),
    ("GET", "/v1/bundle"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/{name}"),
    ("GET", "/v2/models/{name}/ready"),
    ("GET", "/v2/models/{name}/versions/{version}"),
    ("GET", "/v2/models/{name}/versions/{version}/ready"),
}
POSTED = sorted(path for method, path in OPERATIONS if method == "POST")
KEY = "planted-key-1234"
ALWAYS_ANSWERED = ("/healthz", "/v2", "/v2/health/live")
"""Paths that need no bundle."""
LEFT_OUT = "positive_data_acceptance,unsupported_method"
"""Excluded checks: no schema can express that two lists have one length or how many tokens fit; GET / is the page."""


@pytest.fixture(scope="module")
def report(alone, tmp_path_factory):
    """The report of schemathesis on thousands of requests, valid and invalid ones."""
    folder = tmp_path_factory.mktemp("schemathesis")
    limits = Settings(max_pairs=8, max_characters=200, max_body_bytes=65536, api_keys=(KEY,))
    parameters = fill('"path.name" = "{name}"\n"path.version" = "{version}"\n', alone)
    (folder / "schemathesis.toml").write_text(f"[parameters]\n{parameters}")
    command = [sys.executable, "-m", "schemathesis.cli", "run", "--header", f"Authorization: Bearer {KEY}"]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--generation-deterministic"]
    command += ["--exclude-checks", LEFT_OUT, "--continue-on-failure"]
    with served(create_app(limits, alone)) as url:
        command += ["--report-json-path", str(folder / "report.json"), f"{url}/openapi.json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done, json.loads((folder / "report.json").read_text())


def test_responses_match_the_documentation(report):
    done, _ = report
    assert done.returncode == 0, done.stdout


def test_every_operation_received_valid_requests(report):
    _, summary = report
    accepted = {
        operation: sum(phase["accepted"] for phase in phases.values())
        for operation, phases in summary["valid_rates"].items()
    }
    assert set(accepted) == {f"{method} {path}" for method, path in OPERATIONS}
    assert all(num >= 20 for operation, num in accepted.items() if operation.startswith("POST")), accepted
    assert summary["test_cases"]["generated"] > 500


def test_every_operation_is_documented(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {(method.upper(), path) for path, methods in paths.items() for method in methods} == OPERATIONS


@pytest.mark.parametrize("path", sorted({path for _, path in OPERATIONS}))
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_refused(client, scorer, method, path):
    answer = client.request(method, fill(path, scorer))
    if (method, path) in OPERATIONS | {("GET", "/")}:
        assert answer.status_code != 405
    else:
        assert answer.status_code == 405
        error_body(path).model_validate(answer.json(), extra="forbid")
        assert method not in answer.headers["allow"]


def error_body(path: str):
    """Return the model of the errors of a path."""
    return OpenInferenceErrorBody if path.startswith("/v2") and path != "/v2/rerank" else ErrorBody


def body_of(path: str, text: str = "no signal"):
    """Return a request that contains the text."""
    if path == "/v1/similarity":
        return {"pairs": [[text, "no bars"]]}
    if path in ("/", "/similarity"):
        return {"inputs": {"source_sentence": text, "sentences": ["no bars"]}}
    if path.endswith("/rerank"):
        return {"query": text, "documents": ["no bars"]}
    if path.endswith("/infer"):
        sides = {"text_a": text, "text_b": "no bars"}
        tensors = [{"name": name, "shape": [1], "datatype": "BYTES", "data": [one]} for name, one in sides.items()]
        return {"inputs": tensors}
    return {"input": text} if path == "/v1/embeddings" else {"text_1": text, "text_2": "no bars"}


def check_documented(client, path, answer, status, *, method="POST"):
    """Assert that the response has this status, that OpenAPI documents it, and that it has the shape of an error."""
    assert answer.status_code == status, answer.text
    documented = client.get("/openapi.json").json()["paths"][path][method.lower()]["responses"][str(status)]
    model = error_body(path)
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    assert documented["content"] == {"application/json": {"schema": reference}}
    assert set(documented.get("headers", ())) <= set(answer.headers)
    model.model_validate(answer.json(), extra="forbid")


@pytest.mark.parametrize("path", POSTED)
@pytest.mark.parametrize(("content", "status"), [(b"{", 400), (b" " * 5000, 413), (b"{}", 422)])
def test_refusal_of_a_body_is_documented(client, scorer, path, content, status):
    check_documented(client, path, client.post(fill(path, scorer), content=content), status)


@pytest.mark.parametrize(("method", "path"), sorted(one for one in OPERATIONS if "{name}" in one[1]))
def test_unknown_model_is_documented(client, scorer, method, path):
    body = body_of(path) if method == "POST" else None
    wrong = path.replace("{version}", "1") if "{version}" in path else path.replace("{name}", "other")
    check_documented(client, path, client.request(method, fill(wrong, scorer), json=body), 404, method=method)


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_answer_before_the_bundle_is_loaded_is_documented(scorer, method, path):
    gate = threading.Event()
    with TestClient(create_app(Settings(), lambda: gate.wait(10) and scorer)) as client:
        answer = client.request(method, fill(path, scorer), json=body_of(path) if method == "POST" else None)
        if path in ALWAYS_ANSWERED:
            assert answer.status_code == 200
        else:
            check_documented(client, path, answer, 503, method=method)
        gate.set()


@pytest.mark.parametrize(("method", "path"), sorted(OPERATIONS))
def test_missing_key_is_documented_if_one_is_needed(scorer, method, path):
    with TestClient(create_app(Settings(api_keys=("planted-key",)), scorer)) as client:
        answer = client.request(method, fill(path, scorer))
        if path not in PROBES:
            check_documented(client, path, answer, 401, method=method)
        operation = client.get("/openapi.json").json()["paths"][path][method.lower()]
        assert (answer.status_code == 401, "401" in operation["responses"], "security" in operation) == (
            (False, False, False) if path in PROBES else (True, True, True)
        )


def test_no_key_is_documented_if_none_is_needed(client):
    assert "HTTPBearer" not in client.get("/openapi.json").text


@pytest.mark.parametrize("path", POSTED)
def test_overload_and_deadline_are_documented(watched_alone, path):
    app = create_app(Settings(max_waiting_tokens=1, deadline_s=0.5), watched_alone)
    watched_alone.gate.clear()
    with served(app) as url, httpx2.Client(base_url=url) as client, ThreadPoolExecutor(1) as pool:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.01)
        begun = pool.submit(client.post, fill(path, watched_alone), json=body_of(path, "begun"))
        wait_for(lambda: watched_alone.batches)
        check_documented(client, path, client.post(fill(path, watched_alone), json=body_of(path, "more")), 429)
        check_documented(client, path, begun.result(), 504)
        watched_alone.gate.set()


def wait_for(condition):
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError


@pytest.mark.parametrize("path", POSTED)
def test_defect_is_documented(encoder_alone, scorer, path):
    broken = Scorer(encoder_alone, scorer.runtime)
    broken.members[0].embed_batch = lambda _: 1 / 0
    with TestClient(create_app(Settings(), broken)) as client:
        check_documented(client, path, client.post(fill(path, broken), json=body_of(path)), 500)


@pytest.mark.parametrize("path", POSTED)
def test_body_that_does_not_arrive_is_documented(alone, path):
    def slowly():
        yield b"{"
        time.sleep(0.5)
        yield b"}"

    with served(create_app(Settings(transfer_s=0.1), alone)) as url, httpx2.Client(base_url=url) as client:
        answer = client.post(fill(path, alone), content=slowly())
        check_documented(client, path, answer, 408)
        assert answer.headers["connection"] == "close"


def test_every_error_that_a_client_can_see_is_documented(client):
    documented = client.get("/openapi.json").json()["paths"]["/v1/similarity"]["post"]["responses"]
    elsewhere = {ClientGoneError.status, UnauthorizedError.status, UnknownModelError.status, WrongHostError.status}
    seen = {error.status for error in ServingError.__subclasses__()} - elsewhere
    assert set(documented) == {"200", *map(str, seen)}
