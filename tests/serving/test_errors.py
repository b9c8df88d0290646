import asyncio
import gc
import json
import logging
import tracemalloc
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi.testclient import TestClient

from serving import errors
from serving.app import create_app
from serving.settings import Settings
from simile.scoring import Scorer
from simile.text_input import text_fault
from tests.live_servers import until

BODY = {"pairs": [["The water was cold.", "A cold drink of water."]]}
OTHER = {"pairs": [["no signal", "no bars"]]}


def error_of(answer):
    body = answer.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["type", "message", "param", "request_id"]
    return answer.status_code, body["error"]["type"], body["error"]["param"]


@pytest.mark.parametrize("text", ["", " \n", None, 5, 0.5, ["a"], {"a": "b"}, "half \ud83d"])
def test_what_is_no_text_is_refused_in_the_words_of_the_library(client, text):
    for body, place in (({"pairs": [["a", text]]}, "pairs[0][1]"), ({"text": "a", "texts": [text]}, "texts[0]")):
        answer = client.post("/v1/similarity", content=json.dumps(body))
        assert error_of(answer) == (422, "invalid_request", place)
        assert answer.json()["error"]["message"] == text_fault(text)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_body_in_another_encoding_is_malformed(client, encoding):
    # In UTF-16 this letter contains the byte of a quote, so the rest would look like a text.
    content = json.dumps({"a": "\u0122"} | BODY, ensure_ascii=False).encode(encoding)
    assert error_of(client.post("/v1/similarity", content=content)) == (400, "malformed", None)


def test_every_error_has_a_status_and_a_type_of_its_own():
    classes = errors.ServingError.__subclasses__()
    assert len({error.status for error in classes}) == len({error.type for error in classes}) == len(classes) == 12


@pytest.mark.parametrize("content", [b"{", b'{"pairs": nope}', b'{"pairs": [["\xff", "a"]]}', b"[" * 1500])
def test_body_that_is_not_json_is_malformed(client, content):
    assert error_of(client.post("/v1/similarity", content=content)) == (400, "malformed", None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        (7, None),
        ({}, "pairs"),
        ({"pairs": []}, "pairs"),
        ({"pairs": "ab"}, "pairs"),
        ({"pairs": ["ab"]}, "pairs[0]"),
        ({"pairs": [["a", "b"], ["a"]]}, "pairs[1]"),
        ({"pairs": [["a", "b"], ["a", " \n"]]}, "pairs[1][1]"),
        ({"pairs": [["a", 1]]}, "pairs[0][1]"),
        ({"pairs": [["a", "\ud800"]]}, "pairs[0][1]"),
        ({"pairs": [{"text_a": "a", "text_b": ""}]}, "pairs[0].text_b"),
        ({"pairs": [{"text_a": "a"}]}, "pairs[0].text_b"),
        ({"pairs": [{"text_a": "a", "text_b": "b", "label": 1}]}, "pairs[0].label"),
        ({"pairs": [{f"field{i}": 1 for i in range(100)}]}, "pairs[0]"),
        ({"pairs": [["a", "b"]] * 9}, "pairs"),
        ({"pairs": [["a", "b"], ["a", "b" * 201]]}, "pairs[1].text_b"),
        ({"pairs": [["a", "b"]], "text": "a"}, "pairs"),
        ({"pairs": [["a", "b"]], "member": True}, "member"),
        ({"pairs": [["a", "b"]], "members": "yes"}, "members"),
        ({"pairs": [["a", "b"]], "x" * 500: 1}, "x" * 200),
        ({"text": "a"}, "texts"),
        ({"texts": ["a"]}, "text"),
        ({"text": "a", "texts": []}, "texts"),
        ({"text": "a", "texts": ["b", ""]}, "texts[1]"),
        ({"text": "a" * 201, "texts": ["b"]}, "text"),
    ],
)
def test_invalid_request_names_the_place(client, body, param):
    answer = client.post("/v1/similarity", content=json.dumps(body))
    assert error_of(answer) == (422, "invalid_request", param)


def test_error_for_another_content_type_names_the_one_needed(client):
    answer = client.post("/v1/similarity", content=json.dumps(BODY), headers={"content-type": "text/plain"})
    assert error_of(answer) == (422, "invalid_request", None)
    assert "application/json" in answer.json()["error"]["message"]


def test_body_beyond_the_limit_is_refused_whether_declared_or_chunked(client):
    def chunks():
        for _ in range(100):
            yield b" " * 100

    for content in (b" " * 4097, chunks()):
        answer = client.post("/v1/similarity", content=content)
        assert error_of(answer) == (413, "body_too_large", None)
        assert answer.headers["connection"] == "close"


def test_more_texts_than_any_request_may_have_are_refused_before_they_are_parsed(scorer):
    with TestClient(create_app(Settings(), scorer)) as client:
        answer = client.post("/v1/similarity", content=json.dumps({"pairs": [["a", "b"]] * 300_000}))
        # The body is not JSON at all, and is refused before it is parsed.
        other = client.post("/v1/similarity", content=b'"' * 100_000)
    assert error_of(answer) == error_of(other) == (422, "invalid_request", None)
    assert (
        answer.json()["error"]["message"]
        == "got more texts or other values than 1024 pairs have, the most that a request may have"
    )


@pytest.mark.parametrize("value", ["[]", "{}", "1", "[[[]]]", '"a,b", 1'])
def test_more_values_than_any_request_may_have_are_refused_before_they_are_parsed(scorer, value):
    content = '{"pairs": [' + ",".join([value] * 6200) + "]}"
    with TestClient(create_app(Settings(), scorer)) as client:
        answer = client.post("/v1/similarity", content=content)
    assert error_of(answer) == (422, "invalid_request", None)
    assert answer.json()["error"]["message"].startswith("got more texts or other values than 1024 pairs")


@pytest.mark.parametrize("content", ['"' + '\\"' * 200_000, '"' + "\\" * 200_001, '"' + "[,{" * 100_000, "1" * 10_000])
def test_unterminated_text_or_number_is_invalid_json_and_not_a_defect(scorer, content):
    with TestClient(create_app(Settings(), scorer)) as client:
        answer = client.post("/v1/similarity", content=content)
    assert error_of(answer) == (400, "malformed", None)


@pytest.mark.parametrize("text", ['"', '\\"', "\\", '""""""""', "[{,:}]" * 30, '\\",[{,,' * 15])
def test_largest_number_of_pairs_is_accepted_whatever_their_texts_contain(scorer, text):
    pairs = [{"text_a": text * 20, "text_b": text}] * 1024
    with TestClient(create_app(Settings(), scorer)) as client:
        answer = client.post("/v1/similarity", json={"pairs": pairs})
    assert answer.status_code == 200
    assert answer.json()["usage"]["pairs"] == 1024


def test_body_at_the_limit_is_read(client):
    content = json.dumps(BODY).encode().ljust(4096)
    assert client.post("/v1/similarity", content=content).status_code == 200


def test_unknown_paths_and_wrong_methods_have_the_same_shape(client):
    assert error_of(client.get("/nope")) == (404, "not_found", None)
    assert error_of(client.get("/v1/similarity/")) == (404, "not_found", None)
    answer = client.get("/v1/similarity")
    assert error_of(answer) == (405, "method_not_allowed", None)
    assert answer.headers["allow"] == "POST"


def test_defect_is_a_bare_500_with_its_traceback_in_the_log_only(bundle, scorer, caplog):
    class Broken(Scorer):
        def combine(self, scores):
            raise ValueError("the secret inside")

    with TestClient(create_app(Settings(), Broken(bundle, scorer.runtime))) as client:
        answer = client.post("/v1/similarity", json=BODY)
    assert error_of(answer) == (500, "internal", None)
    assert "secret" not in answer.text
    assert "the secret inside" in caplog.text


def test_log_never_holds_texts(client, caplog):
    caplog.set_level(logging.DEBUG)
    client.post("/v1/similarity", json=BODY)
    client.post("/v1/similarity", json=BODY | {"text": "cold water"})
    assert "/v1/similarity 200" in caplog.text
    assert "pairs 1" in caplog.text
    assert "/v1/similarity 422" in caplog.text
    assert "water" not in caplog.text


@asynccontextmanager
async def running(settings, scorer):
    """Yield the application, started, and a client in the same event loop."""
    app = create_app(settings, scorer)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield app, client


def test_overloaded_server_says_when_to_retry(watched):
    async def scenario():
        async with running(Settings(max_waiting_tokens=1), watched) as (_, client):
            watched.gate.clear()
            first = asyncio.create_task(client.post("/v1/similarity", json=BODY))
            await until(lambda: watched.sizes == [2])
            refused = await client.post("/v1/similarity", json=OTHER)
            watched.gate.set()
            return refused, await first

    refused, first = asyncio.run(scenario())
    assert error_of(refused) == (429, "overloaded", None)
    assert refused.headers["retry-after"] == "1"
    assert first.status_code == 200


def test_request_past_its_deadline_is_a_504(watched):
    async def scenario():
        async with running(Settings(deadline_s=0.05), watched) as (_, client):
            watched.gate.clear()
            answer = await client.post("/v1/similarity", json=BODY)
            watched.gate.set()
            return answer

    assert error_of(asyncio.run(scenario())) == (504, "deadline", None)


def test_request_of_a_disconnected_client_is_dropped_before_it_is_computed(watched):
    async def scenario():
        async with running(Settings(), watched) as (app, client):
            engine = app.state.service.engine
            watched.gate.clear()
            first = asyncio.create_task(client.post("/v1/similarity", json=BODY))
            await until(lambda: watched.sizes == [2])
            gone, sent = asyncio.Event(), []
            waiting = asyncio.create_task(app(http_scope(), receiver(gone, OTHER), send_into(sent)))
            await until(lambda: engine.queue.num_tokens)
            gone.set()
            await waiting
            assert engine.queue.num_tokens == 0
            watched.gate.set()
            await first
            counted = app.state.service.metrics.registry.get_sample_value(
                "simile_requests_total", {"route": "/v1/similarity", "code": "499"}
            )
            assert counted == 1

    asyncio.run(scenario())
    assert watched.sizes == [2]


def test_client_that_disconnects_within_its_body_is_not_answered(scorer):
    async def scenario():
        async with running(Settings(), scorer) as (app, _):
            messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

            async def receive():
                return next(messages)

            sent: list = []
            await app(http_scope(), receive, send_into(sent))
            return sent

    assert asyncio.run(scenario()) == []


def http_scope():
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/v1/similarity",
        "raw_path": b"/v1/similarity",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
        "server": None,
    }


def receiver(gone, body):
    messages = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])

    async def receive():
        if message := next(messages, None):
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    return receive


def send_into(sent):
    async def send(message):
        sent.append(message)

    return send


@pytest.mark.parametrize(
    "begun", [b'{"pairs": [["a", "b"]] x', b'{"pairs": "\xff', b"[" * 5000, b'{"pairs": ' + b"1" * 5000], ids=range(4)
)
def test_a_large_malformed_body_is_not_kept(scorer, begun):
    with TestClient(create_app(Settings(), scorer)) as client:
        body = begun + b" " * 2**20
        assert client.post("/v1/similarity", content=body).status_code == 400
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(5):
                assert client.post("/v1/similarity", content=body).status_code == 400
            assert tracemalloc.get_traced_memory()[0] < 2**20
        finally:
            tracemalloc.stop()
            gc.enable()
