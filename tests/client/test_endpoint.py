"""Endpoints of the three APIs on real sockets: the application's own, and servers that misbehave."""

import json
import logging
from collections import Counter

import numpy as np
import pytest

from serving.app import create_app
from serving.settings import Settings
from simile.client.endpoint import connect
from simile.errors import InputError, ServerError, ServerRefusedError, ServerUnavailableError
from simile.scoring import GOLDEN_PAIRS, load
from tests.live_servers import Reply, Watched, described, error, measured, scripted, served

KEY = "sk-0123-secret"
PAIRS = [("cold water", "warm water"), ("cold water", "a drink"), ("no signal", "cold water"), ("x", "x")]
APIS = ["simile", "tei", "openai"]
ROUTES = {"simile": "/v1/similarity", "tei": "/similarity", "openai": "/v1/embeddings"}


def address(url: str, api: str, name: str = "own") -> str:
    """Return the endpoint of a server by one of its APIs."""
    return f"{name}={url}{ROUTES[api]}" + ("#small" if api == "openai" else "")


def vector(text: str) -> list[float]:
    return [float(len(text)), float(text.count("a")), 2.0]


def answer(request) -> Reply:
    """Return the response of a server that speaks all three APIs, with limits of a few texts."""
    match request.path:
        case "/v1/bundle":
            return described()
        case "/v1/similarity":
            return measured(request)
        case "/info":
            return Reply(body={"model_id": "org/model", "model_sha": None, "max_client_batch_size": 3})
        case "/similarity":
            return Reply(body=[0.01 * len(text) for text in request.body["inputs"]["sentences"]])
        case "/v1/embeddings":
            rows = [{"index": i, "embedding": vector(text)} for i, text in enumerate(request.body["input"])]
            # The order of the rows is not promised.
            return Reply(body={"object": "list", "data": rows[::-1], "model": "small-2"})
    return error(404)


def instead(path: str, *replies: Reply, after: int = 0):
    """Return a script that gives these replies, in turn, to requests of the path after the first ones."""
    waiting, num_before = iter(replies), after

    def reply(request) -> Reply:
        nonlocal num_before
        if request.path != path:
            return answer(request)
        num_before -= 1
        return answer(request) if num_before >= 0 else next(waiting, None) or answer(request)

    return reply


def score(endpoint: str, pairs=PAIRS, **environ: str) -> np.ndarray:
    return connect(endpoint, environ).score(pairs)


# Against the application.


@pytest.mark.parametrize("api", APIS)
def test_scores_are_those_of_the_bundle(api, tiny):
    scorer = load(tiny.path, device="cpu", precision="fp32")
    pairs = [*GOLDEN_PAIRS, *((a, b) for a, _ in GOLDEN_PAIRS[:3] for _, b in GOLDEN_PAIRS)]
    done: list[int] = []
    with served(create_app(Settings(max_pairs=8), scorer)) as url:
        endpoint = connect(address(url, api), {})
        score_P = endpoint.score(pairs, done.append)
        assert (endpoint.name, endpoint.api, endpoint.url) == ("own", api, f"{url}{ROUTES[api]}")
    assert (score_P.dtype, score_P.shape) == (np.float32, (len(pairs),))
    np.testing.assert_allclose(score_P, scorer.score(pairs), rtol=0, atol=1e-4)
    assert endpoint.model == (f"tiny@{tiny.manifest.digest}" if api == "tei" else tiny.identity)
    assert sum(done) == len({text for pair in pairs for text in pair})


def test_address_without_a_route_is_asked_what_it_is(tiny):
    app = Watched(create_app(Settings(), load(tiny.path, device="cpu", precision="fp32")))
    with served(app) as url:
        assert connect(f"own={url}/", {}).api == "simile"
    with scripted(lambda request: error(404) if request.path == "/v1/bundle" else answer(request)) as server:
        endpoint = connect(f"tei={server.url}", {})
        assert (endpoint.api, endpoint.url, endpoint.model) == ("tei", f"{server.url}/similarity", "org/model")
    # A site that answers every path with a page of its own speaks neither API.
    with scripted(lambda _: Reply(body=b"<html></html>")) as server:
        with pytest.raises(InputError, match=r"got a server without /v1/bundle .* and /info .*, need one of these, or"):
            connect(f"own={server.url}", {})
        assert server.paths == ["/v1/bundle", "/info"]


def test_server_that_refuses_or_fails_is_not_taken_for_one_of_another_api():
    for status in (401, 403, 500):
        with scripted(lambda _, status=status: error(status)) as server, pytest.raises(ServerError, match=f"{status} "):
            connect(f"own={server.url}", {})
        assert server.paths == ["/v1/bundle"]


# Requests.


def test_openai_embeds_each_distinct_text_once_within_its_limit():
    pairs = [(f"text {i % 40}", f"other {i}") for i in range(70)]
    with scripted(answer) as server:
        endpoint = connect(f"own={server.url}/v1#small", {})
        endpoint.score(pairs[:50])
        endpoint.score(pairs)
        inputs = [request.body["input"] for request in server.requests]
    assert {request.body["model"] for request in server.requests} == {"small"}
    assert max(map(len, inputs)) == 32
    counts = Counter(text for texts in inputs[1:] for text in texts)
    assert (set(counts), max(counts.values())) == ({text for pair in pairs for text in pair}, 1)
    assert endpoint.model == "small-2"


def test_cosines_are_of_the_embeddings_whatever_their_lengths_and_order():
    with scripted(answer) as server:
        score_P = score(address(server.url, "openai"))
    rows = [[np.array(vector(text)) for text in pair] for pair in PAIRS]
    expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in rows]
    np.testing.assert_allclose(score_P, expected, rtol=0, atol=1e-6)


def test_tei_gets_requests_of_one_first_text_within_its_batch_size():
    pairs = [("first", f"second {i}") for i in range(5)] + [("second 0", "first")]
    with scripted(answer) as server:
        score_P = score(address(server.url, "tei"), pairs)
        sent = [request.body for request in server.requests if request.path == "/similarity"]
    np.testing.assert_allclose(score_P, [0.01 * len(b) for _, b in pairs], rtol=0, atol=1e-6)
    # The batch size of 3 counts the first text as well.
    assert sorted(len(body["inputs"]["sentences"]) for body in sent) == [1, 1, 2, 2]
    assert [body["parameters"] for body in sent] == [{"truncate": True}] * 4


@pytest.mark.parametrize("api", APIS)
def test_busy_server_is_asked_again_after_the_time_that_it_names(api):
    refusals = [error(429, retry_after="0"), error(503, retry_after="1"), error(429, retry_after="0")]
    with scripted(instead(ROUTES[api], *refusals)) as server:
        score_P = score(address(server.url, api))
    with scripted(answer) as server:
        np.testing.assert_array_equal(score_P, score(address(server.url, api)))


@pytest.mark.parametrize("api", APIS)
def test_wait_beyond_the_bound_is_not_begun(api):
    refused = pytest.raises(ServerUnavailableError, match=rf"{ROUTES[api]}: 429 ")
    with scripted(instead(ROUTES[api], *[error(429, retry_after="100000")] * 9)) as server, refused as caught:
        score(address(server.url, api))
    assert caught.value.exit_code == 75


# Responses that are no scores.


BAD = {
    "simile": [
        ([], "Input should be an object"),
        ({"scores": [1, 2, 3]}, "usage: Field required"),
        (b'{"scores": [NaN, 1, 1, 1], "usage": {}, "bundle": "b"}', "scores.0: Input should be a finite number"),
    ],
    "tei": [
        ({"scores": [0.5]}, "Input should be a valid array"),
        (b"<html>", "Invalid JSON"),
        ([], "0 scores, need those of 2 pairs"),
        ([0.5, 0.5, 0.5], "3 scores, need those of 2 pairs"),
        (b"[NaN, 0.5]", "0: Input should be a finite number"),
        (b"[0.5, 1e999]", "1: Input should be a finite number"),
        ([0.5, None], "1: Input should be a valid number"),
        ([0.5, "0.5"], "1: Input should be a valid number"),
        ([0.5, True], "1: Input should be a valid number"),
    ],
    "openai": [
        ({"data": []}, "0 embeddings, need those of 5 texts"),
        ({"data": [{"index": 0, "embedding": [1, 2, 3]}]}, "1 embeddings, need those of 5 texts"),
        ({"data": [{"index": 0, "embedding": [1, 2, 3]}] * 5}, "5 embeddings, need those of 5 texts"),
        ({"data": [{"embedding": [1, 2, 3]}]}, "data.0.index: Field required"),
        ({"data": [{"index": 0, "embedding": "AAAA"}]}, "data.0.embedding: Input should be a valid array"),
        (b'{"data": [{"index": 0, "embedding": [NaN, 1]}]}', "data.0.embedding.0: Input should be a finite number"),
        ({"data": [{"index": i, "embedding": [1, 2]} for i in range(5)]}, "data.0: 2 dimensions and a length of 2.2"),
        ({"data": [{"index": i, "embedding": [0, 0, 0]} for i in range(5)]}, "3 dimensions and a length of 0, need"),
        ({"scores": [1]}, "data: Field required"),
    ],
}


@pytest.mark.parametrize(("api", "body", "reason"), [(api, *case) for api in APIS for case in BAD[api]])
def test_response_without_all_scores_is_refused_in_one_line(api, body, reason):
    refused = pytest.raises(ServerError, match="the response is not from a")
    # The first request by OpenAI's API is for one text.
    script = instead(ROUTES[api], *[Reply(body=body)] * 9, after=api == "openai")
    with scripted(script) as server, refused as caught:
        # Two pairs take one request to TEI.
        score(address(server.url, api), PAIRS[:2] if api == "tei" else PAIRS)
    line = str(caught.value)
    assert line.startswith(f"{server.url}{ROUTES[api]}: ")
    assert reason in line
    assert "\n" not in line
    assert "cold water" not in line


@pytest.mark.parametrize("api", APIS)
def test_scores_of_two_models_are_not_mixed(api):
    def reply(request) -> Reply:
        response = answer(request)
        is_later = sum(path == ROUTES[api] for path in server.paths) > 1
        if is_later and isinstance(response.body, dict):
            names = {"bundle": f"b@sha256:{'1' * 64}", "digest": "1" * 64, "model": "large", "model_id": "org/large"}
            response.body.update({name: value for name, value in names.items() if name in response.body})
            response.body.update({"name": "b"} if "name" in response.body else {})
        return response

    with scripted(reply) as server:
        endpoint = connect(address(server.url, api), {})
        with pytest.raises(ServerUnavailableError, match=r"got scores of .*, need those of .* only"):
            endpoint.score(PAIRS * 2)


# Errors.


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"error": {"message": "no\nmodel", "type": "x", "code": "model_not_found"}}, "model_not_found: no model"),
        ({"error": {"message": "too long", "type": None, "code": 400}}, "bad_request: too long"),
        ({"error": "Input validation error", "error_type": "Validation"}, "Validation: Input validation error"),
        ({"error": "no input"}, "bad_request: no input"),
        ({"object": "error", "message": "no input", "code": 400}, "bad_request: no input"),
        ({"detail": "no input"}, "bad_request: no input"),
        ({"detail": [{"loc": []}]}, "bad_request: the response has no message"),
        (b"<html>", "bad_request: the response has no message"),
        (b"[" * 100_000, "bad_request: the response has no message"),
    ],
)
@pytest.mark.parametrize("api", ["tei", "openai"])
def test_refusal_is_one_line_with_the_servers_message(api, body, line):
    script, refused = instead(ROUTES[api], *[Reply(400, body)] * 9), pytest.raises(ServerRefusedError)
    with scripted(script) as server, refused as caught:
        score(address(server.url, api))
    assert str(caught.value) == f"{server.url}{ROUTES[api]}: 400 {line}"
    assert caught.value.exit_code == 2


def test_redirect_is_an_error_and_the_key_goes_nowhere_else():
    with scripted(answer) as other:
        moved = Reply(307, {}, {"location": f"{other.url}/v1/embeddings"})
        with scripted(lambda _: moved) as server, pytest.raises(ServerRefusedError, match="307 temporary_redirect"):
            score(address(server.url, "openai"), OWN_API_KEY=KEY)
    assert other.requests == []


# Keys and addresses.


@pytest.mark.parametrize(("name", "variable"), [("openai", "OPENAI_API_KEY"), ("my-tei.2", "MY_TEI_2_API_KEY")])
@pytest.mark.parametrize("api", APIS)
def test_key_is_that_of_the_name_and_of_no_other(api, name, variable):
    environ = {variable: KEY, "SIMILE_API_KEY": "of-simile", "OTHER_API_KEY": "of-another"}
    with scripted(answer) as server:
        connect(address(server.url, api, name), environ).score(PAIRS)
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    with scripted(answer) as server:
        connect(address(server.url, api, name), {"SIMILE_API_KEY": KEY, variable: ""}).score(PAIRS)
        assert {request.headers.get("authorization") for request in server.requests} == {None}


@pytest.mark.parametrize("api", APIS)
def test_wrong_key_is_told_with_its_variable_and_no_part_of_it_is_shown(api, caplog):
    caplog.set_level(logging.DEBUG)
    # OpenAI's own message repeats both ends of the key.
    body = {"error": {"message": f"Incorrect API key provided: {KEY[:6]}***{KEY[-6:]} ({KEY})", "type": "x"}}
    with scripted(lambda _: Reply(401, body)) as server, pytest.raises(ServerRefusedError) as caught:
        score(address(server.url, api), OWN_API_KEY=KEY)
    assert str(caught.value).endswith(": 401 unauthorized: need a valid key in OWN_API_KEY")
    for part in (KEY[:6], KEY[-6:]):
        assert part not in caplog.text + str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize("api", APIS)
def test_key_that_another_error_repeats_is_not_shown(api, caplog):
    caplog.set_level(logging.DEBUG)
    refusal = error(403, "denied", f"{KEY} may not use small")
    with scripted(instead(ROUTES[api], *[refusal] * 9)) as server:
        with pytest.raises(ServerRefusedError, match=r"403 .*\[api key\] may not use small") as caught:
            score(address(server.url, api), OWN_API_KEY=KEY)
        assert json.dumps(server.requests[-1].headers).count(KEY) == 1
    assert KEY not in caplog.text + str(caught.value)


def test_representation_and_model_have_no_key():
    repeating = Reply(body={"model_id": f"org/{KEY}", "max_client_batch_size": 8})
    with scripted(instead("/info", *[repeating] * 9)) as server:
        endpoint = connect(address(server.url, "tei"), {"OWN_API_KEY": KEY})
        assert endpoint.score(PAIRS).shape == (4,)
        assert repr(endpoint) == f"Endpoint('own', '{server.url}/similarity')"
    assert endpoint.model == "org/[api key]"
    assert KEY not in repr(vars(endpoint))


def test_key_that_no_header_takes_is_refused_with_its_variable():
    with pytest.raises(InputError, match=r"^OWN_API_KEY: got a space or special character") as caught:
        connect("own=http://localhost", {"OWN_API_KEY": "two secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("http://user:secret@localhost", "endpoint: got an address without a name"),
        ("=http://user:secret@localhost", "endpoint: got an address without a name"),
        ("a/b=http://user:secret@localhost", "endpoint: got an address without a name"),
        ("own=http://user:secret@localhost", "url: got more than an address"),
        ("own=http://localhost?key=secret", r"url: got more than an address.*\(a key goes into OWN_API_KEY\)"),
        ("own=ftp://localhost", "url: got 'ftp://localhost', need http:// or https://"),
        ("own=http://", "url: got 'http://', need http:// or https://, a host"),
        ("own=http://localhost/v1", r"own: got no model, need one for OpenAI's API: own=http://localhost/v1#MODEL"),
        ("own=http://localhost/similarity#small", "own: got the model 'small', which only OpenAI's API takes, need"),
        ("own=http://localhost#small", "own: got the model 'small', which only OpenAI's API takes, need"),
    ],
)
def test_invalid_endpoint_is_refused_without_a_secret(endpoint, message):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        connect(endpoint, {})
    assert "secret" not in str(caught.value)


@pytest.mark.slow
def test_wrong_address_is_reported_soon():
    with scripted(answer) as server:
        url = server.url
    with pytest.raises(ServerUnavailableError, match=r"unreachable: .*, tried 6 times$"):
        connect(f"own={url}", {})
