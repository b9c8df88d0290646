"""Both clients over real sockets: against the application, and against a server that misbehaves."""

import asyncio
import json
import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

import simile
from serving.app import create_app
from serving.settings import Settings
from simile.client.clients import API_KEY_VARIABLE
from simile.errors import InputError, ServerError, ServerRefusedError, ServerUnavailableError
from tests.live_servers import BUNDLE, SIMILARITY, Reply, described, error, in_turn, measured, scripted, served

KEY = "sk-0123-secret"
ONE = [("cold water", "warm water")]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


# Against the application.


def test_scores_are_the_local_scorers_in_order_however_the_list_is_split(ask, server, scorer, pairs):
    url, app = server
    score_P = ask(url, "score", pairs)
    assert (score_P.dtype, score_P.shape) == (np.float32, (len(pairs),))
    np.testing.assert_allclose(score_P, scorer.score(pairs), rtol=0, atol=1e-6)
    sent = sorted(tuple(pair) for body in app.bodies for pair in json.loads(body)["pairs"])
    assert sent == sorted(pairs)
    assert len(app.bodies) >= 7
    assert max(len(json.loads(body)["pairs"]) for body in app.bodies) == 8
    assert max(map(len, app.bodies)) <= 1500


def test_parts_are_within_the_published_bytes(ask, scorer, pairs):
    with served(create_app(Settings(max_body_bytes=300), scorer)) as url:
        np.testing.assert_allclose(ask(url, "score", pairs), scorer.score(pairs), rtol=0, atol=1e-6)


def test_similarity_has_members_probabilities_usage_and_bundle(ask, server, scorer, bundle, pairs):
    result = ask(server[0], "similarity", pairs, members=True)
    expected = scorer.score_members(pairs)
    assert set(result.members) == {"small", "words"}
    for name, score_P in expected.members.items():
        assert result.members[name].dtype == np.float32
        np.testing.assert_allclose(result.members[name], score_P, rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.probabilities, 1 / (1 + np.exp(4 - 8 * result.scores)), rtol=0, atol=1e-6)
    assert result.usage.pairs == len(pairs)
    assert result.usage.texts >= expected.num_texts
    assert result.usage.tokens >= expected.num_tokens
    assert ask(server[0], "similarity", [("cold \U0001f600", "no signal")]).usage.unknown_tokens == 1
    assert result.bundle == bundle.identity
    assert ask(server[0], "similarity", pairs).members is None


def test_no_pairs_have_no_scores_and_a_bundle(ask, server, bundle):
    assert ask(server[0], "score", []).shape == (0,)
    result = ask(server[0], "similarity", [], members=True)
    assert result.bundle == bundle.identity
    assert result.probabilities.shape == (0,)
    assert {name: score_P.shape for name, score_P in result.members.items()} == {"small": (0,), "words": (0,)}
    assert server[1].bodies == []


def test_bundle_is_what_the_server_says(ask, server, bundle):
    told = ask(server[0], "bundle")
    assert (told["name"], told["digest"]) == ("tiny", bundle.manifest.digest)
    assert told["limits"]["max_pairs"] == 8


def test_refused_pair_is_named_by_its_place_in_the_whole_list(ask, server, pairs):
    pairs[29] = ("fine", "far too long " * 20)
    with pytest.raises(ServerRefusedError, match=r"422 invalid_request: got 260 characters") as caught:
        ask(server[0], "score", pairs)
    assert (caught.value.status, caught.value.type) == (422, "invalid_request")
    assert caught.value.param == "pairs[29].text_b"
    assert "pairs[29].text_b" in str(caught.value)
    assert "far too long" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_pair_beyond_the_servers_bytes_is_refused_before_anything_is_sent(ask, server, pairs):
    pairs[30] = ("a" * 2000, "b")
    with pytest.raises(InputError, match=r"pairs\[30\]: got 2008 bytes as JSON, need at most"):
        ask(server[0], "score", pairs)
    assert server[1].bodies == []


def test_sync_client_keeps_one_connection_from_call_to_call(server, pairs):
    url, app = server
    with simile.Client(url) as client:
        client.score(pairs)
        client.score(pairs)
    assert len(app.bodies) >= 14
    assert list(app.ports.values()) == [len(app.bodies) + 1]


def test_threads_share_a_client(server, scorer, pairs):
    with simile.Client(server[0]) as client, ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(lambda i: client.score(pairs[i:]), range(16)))
    for i, score_P in enumerate(scores):
        np.testing.assert_allclose(score_P, scorer.score(pairs[i:]), rtol=0, atol=1e-6)


def test_progress_counts_every_pair(ask, server, pairs):
    done: list[int] = []
    ask(server[0], "similarity", pairs, on_progress=done.append)
    assert sum(done) == len(pairs)
    assert len(done) == len(server[1].bodies)


# Concurrent requests.


def test_async_client_sends_four_parts_at_once_and_never_more():
    four = threading.Barrier(4, timeout=10)
    lock, under_way, most = threading.Lock(), 0, 0

    def reply(request):
        nonlocal under_way, most
        if request.path == BUNDLE:
            return described(max_pairs=1)
        with lock:
            under_way += 1
            most = max(most, under_way)
        four.wait()
        with lock:
            under_way -= 1
        return measured(request)

    async def scenario(url):
        async with simile.AsyncClient(url) as client:
            return await client.score([("a" * n, "b") for n in range(1, 13)])

    with scripted(reply) as server:
        score_P = asyncio.run(scenario(server.url))
    np.testing.assert_allclose(score_P, np.arange(1, 13) / 1000, atol=1e-6)
    assert most == 4


def test_after_an_error_no_more_parts_are_sent(ask):
    gate = threading.Event()

    def reply(request):
        if request.path == BUNDLE:
            return described(max_pairs=1)
        if request.pairs == [["wrong", "b"]]:
            return error(422, param="pairs[0].text_a")
        gate.wait(5)
        return measured(request)

    with scripted(reply) as server:
        with pytest.raises(ServerRefusedError):
            ask(server.url, "score", [("wrong", "b"), *ONE * 40])
        gate.set()
        assert 1 <= server.paths.count(SIMILARITY) <= 4


# Retries.


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("path", [BUNDLE, SIMILARITY])
def test_request_that_the_server_cannot_take_now_is_sent_again(ask, status, path):
    refused = iter([error(status, retry_after="0")] * 2)

    def reply(request):
        if request.path == path and (refusal := next(refused, None)):
            return refusal
        return described() if request.path == BUNDLE else measured(request)

    with scripted(reply) as server:
        assert ask(server.url, "score", ONE) == pytest.approx([0.01])
        assert server.paths.count(path) == 3


@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
def test_request_whose_connection_broke_is_sent_again(ask, is_reset):
    with scripted(in_turn(Reply(status=0, is_reset=is_reset))) as server:
        assert ask(server.url, "score", ONE) == pytest.approx([0.01])
        assert server.paths.count(SIMILARITY) == 2


@pytest.mark.parametrize(
    ("status", "kind", "exit_code"),
    [
        (400, ServerRefusedError, 2),
        (401, ServerRefusedError, 2),
        (404, ServerRefusedError, 2),
        (413, ServerRefusedError, 2),
        (422, ServerRefusedError, 2),
        (500, ServerError, 1),
        (502, ServerUnavailableError, 75),
        (504, ServerUnavailableError, 75),
    ],
)
def test_other_errors_are_final(ask, status, kind, exit_code):
    with scripted(in_turn(error(status, "some_kind", "what was got", "members", retry_after="0"))) as server:
        with pytest.raises(ServerError) as caught:
            ask(server.url, "score", ONE)
        assert server.paths.count(SIMILARITY) == 1
        assert str(caught.value) == f"{server.url}/v1/similarity: {status} some_kind: what was got (members)"
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.type, caught.value.param) == (status, "some_kind", "members")
    assert caught.value.exit_code == exit_code


def test_server_that_stays_busy_is_unavailable_after_the_retries(ask):
    with scripted(in_turn(*[error(429, "overloaded", "9 pairs wait", retry_after="0")] * 9)) as server:
        with pytest.raises(ServerUnavailableError, match="429 overloaded: 9 pairs wait, tried 3 times") as caught:
            ask(server.url, "score", ONE, options={"retries": 2})
        assert server.paths.count(SIMILARITY) == 3
    assert caught.value.exit_code == 75


def test_server_that_is_not_there_is_unavailable(ask):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ServerUnavailableError, match=r"unreachable: .*, tried 2 times$") as caught:
        ask(f"http://127.0.0.1:{port}", "score", ONE, options={"retries": 1})
    assert (caught.value.status, caught.value.type) == (None, "unreachable")


def test_server_that_does_not_answer_in_time_is_unavailable(ask):
    gate = threading.Event()

    def reply(request):
        if request.path == BUNDLE:
            return described()
        assert gate.wait(10)
        return Reply(status=0)

    with scripted(reply) as server:
        with pytest.raises(ServerUnavailableError, match=r"timeout: no response within 0\.2 s$"):
            ask(server.url, "score", ONE, options={"timeout": 0.2})
        gate.set()
        assert server.paths.count(SIMILARITY) == 1


def test_server_whose_answer_trickles_in_is_unavailable(ask):
    def trickle(listener):
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with suppress(OSError), connection:
                    connection.recv(10_000)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
                    for _ in range(100):
                        connection.sendall(b"x")
                        time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=trickle, args=[listener], daemon=True).start()
        start = time.monotonic()
        with pytest.raises(ServerUnavailableError, match=r"timeout: no response within 0\.3 s$"):
            ask(f"http://127.0.0.1:{listener.getsockname()[1]}", "bundle", options={"timeout": 0.3})
        assert time.monotonic() - start < 3
        listener.shutdown(socket.SHUT_RDWR)


# Responses from something else.


@pytest.mark.parametrize(
    "body",
    [
        b"<html>cold water</html>",
        b"",
        b"\xff\xfe",
        b"[" * 5000,
        [],
        {"scores": [0.5]},
        {"scores": [0.5, 0.5], "usage": {"pairs": 1, "texts": 1, "tokens": 1, "truncated": 0}, "bundle": "b"},
        {"scores": [float("nan")], "usage": {"pairs": 1, "texts": 1, "tokens": 1, "truncated": 0}, "bundle": "b"},
        {"scores": ["cold water"], "usage": {"pairs": 1, "texts": 1, "tokens": 1, "truncated": 0}, "bundle": "b"},
    ],
    ids=["html", "nothing", "bytes", "deep", "list", "half", "too many", "nan", "words"],
)
def test_success_without_scores_is_not_from_a_simile_server(ask, body):
    with scripted(in_turn(Reply(body=body))) as server:
        with pytest.raises(ServerError, match="the response is not from a Simile server") as caught:
            ask(server.url, "score", ONE)
        assert server.paths.count(SIMILARITY) == 1
    assert caught.value.status == 200
    assert "cold water" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_members_that_do_not_come_are_an_error(ask):
    with scripted(in_turn()) as server, pytest.raises(ServerError, match="no scores of the members"):
        ask(server.url, "similarity", ONE, members=True)


@pytest.mark.parametrize("body", [b"<html>cold water</html>", b"", [], {"error": "cold water"}, {"detail": "x"}])
def test_errors_that_no_simile_server_wrote_are_told_by_their_status(ask, body):
    with scripted(lambda _: Reply(404, body)) as server:
        with pytest.raises(ServerRefusedError) as caught:
            ask(server.url, "score", ONE)
        line = f"{server.url}/v1/bundle: 404 not_found: the response is not from a Simile server"
        assert str(caught.value) == line


def test_long_messages_are_cut_and_stay_one_line(ask):
    long = error(422, message="many\nlines " * 1000)
    with scripted(in_turn(long)) as server, pytest.raises(ServerRefusedError) as caught:
        ask(server.url, "score", ONE)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


# One bundle per call.


def swapping(*names):
    """Answer with these bundles in turn, then with the last one; the scores show which it was."""
    waiting = iter(names)
    lock = threading.Lock()

    def reply(request):
        if request.path == BUNDLE:
            return described()
        with lock:
            name = next(waiting, names[-1])
        return measured(request, name, 0.001 if name == "old" else 0.01)

    return reply


def test_bundle_that_changes_between_two_parts_scores_them_all(ask):
    pairs = [("a" * n, "b") for n in range(1, 13)]
    done: list[int] = []
    with scripted(swapping("old", "new")) as server:
        result = ask(server.url, "similarity", pairs, on_progress=done.append)
        assert server.paths.count(BUNDLE) == 2
    assert result.bundle.startswith("new@")
    np.testing.assert_allclose(result.scores, np.arange(1, 13) / 100, atol=1e-6)
    assert sum(done) == len(pairs)
    assert min(done) < 0


def test_bundles_that_keep_changing_are_an_error_and_no_mixture(ask):
    changed = pytest.raises(ServerUnavailableError, match="the bundle changed twice within one call")
    with scripted(swapping(*["old", "new"] * 20)) as server, changed as caught:
        ask(server.url, "score", ONE * 12)
    assert caught.value.exit_code == 75


def test_other_bundle_in_the_next_call_is_no_error(server):
    with scripted(swapping("old", "new")) as server, simile.Client(server.url) as client:
        assert [client.similarity(ONE).bundle[:3] for _ in range(2)] == ["old", "new"]


# Keys and addresses.


def test_key_is_sent_with_every_request_from_the_argument_or_the_environment(ask, monkeypatch):
    def keys(**options):
        with scripted(in_turn()) as server:
            ask(server.url, "score", ONE, options=options)
            return [request.headers.get("authorization") for request in server.requests]

    assert keys() == [None, None]
    assert keys(api_key=KEY) == [f"Bearer {KEY}"] * 2
    monkeypatch.setenv(API_KEY_VARIABLE, "of-the-environment")
    assert keys() == ["Bearer of-the-environment"] * 2
    assert keys(api_key=KEY) == [f"Bearer {KEY}"] * 2


def test_key_and_texts_are_in_no_log_representation_or_error(ask, caplog):
    caplog.set_level(logging.DEBUG)
    refusal = error(401, "unauthorized", f"{KEY} is no key", KEY)
    refused = pytest.raises(ServerRefusedError, match=r"401 unauthorized: \[api key\] is no key")
    with scripted(in_turn(Reply(status=0), refusal)) as server, refused as caught:
        ask(server.url, "score", ONE, options={"api_key": KEY})
    shown = [caplog.text, str(caught.value), repr(caught.value), repr(caught.value.param)]
    # Where a message is cut, a part of the key must not be left.
    cut = error(401, "unauthorized", f"{'x' * 195}{KEY}")
    with scripted(in_turn(cut)) as server, pytest.raises(ServerRefusedError) as caught:
        ask(server.url, "score", ONE, options={"api_key": KEY})
    assert KEY[:3] not in str(caught.value)
    shown += [repr(simile.Client(server.url, api_key=KEY)), repr(simile.AsyncClient(server.url, api_key=KEY))]
    assert "127.0.0.1" in caplog.text
    assert not [text for text in shown if KEY in text or "cold water" in text]


@pytest.mark.parametrize("key", ["line\nbreak-secret", "söcret-secret", "two secret", "\x00secret"])
@pytest.mark.parametrize("kind", [simile.Client, simile.AsyncClient])
def test_key_that_no_header_takes_is_refused_and_not_repeated(kind, key):
    with pytest.raises(InputError, match="need printable ASCII") as caught:
        kind("http://localhost", api_key=key)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "ftp://localhost",
        "http://",
        "http://user:secret@localhost",
        "http://secret@localhost",
        "http://localhost:secret",
        "http://localhost/?key=secret",
        "http://localhost/#secret",
    ],
)
@pytest.mark.parametrize("kind", [simile.Client, simile.AsyncClient])
def test_invalid_address_or_one_with_a_secret_is_refused(kind, url):
    with pytest.raises(InputError, match=r"^url: got .* need http:// or https://") as caught:
        kind(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("inf")}, {"retries": -1}])
@pytest.mark.parametrize("kind", [simile.Client, simile.AsyncClient])
def test_invalid_timeout_or_retries_are_refused(kind, options):
    (name,) = options
    with pytest.raises(InputError, match=f"^{name}: got .*need"):
        kind("http://localhost", **options)


def test_path_before_the_api_and_a_slash_at_the_end_are_kept_and_dropped(ask):
    with scripted(lambda _: described()) as server:
        ask(f"{server.url}/simile/", "bundle")
        assert server.paths == [f"/simile{BUNDLE}"]


def test_async_client_lets_go_when_it_is_cancelled():
    gate = threading.Event()

    def reply(request):
        if request.path == BUNDLE:
            return described(max_pairs=1)
        gate.wait(10)
        return Reply(status=0)

    async def scenario(server):
        async with simile.AsyncClient(server.url) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.score(ONE * 20)
            return len(asyncio.all_tasks())

    with scripted(reply) as server:
        assert asyncio.run(scenario(server)) == 1
        gate.set()
        assert server.paths.count(SIMILARITY) == 4
