"""Reranking, with the clients of Cohere and LiteLLM and with the bodies of vLLM and text-embeddings-inference."""

import json

import cohere
import httpx
import pytest
from fastapi.testclient import TestClient

from serving.app import create_app
from serving.settings import Settings
from tests.live_servers import served
from tests.serving.clients import run_client

QUERY, TEXTS = "no signal", ["The water was cold.", "no bars", "no signal", "late"]
PATHS = ["/rerank", "/v1/rerank", "/v2/rerank"]


@pytest.fixture(scope="module")
def url(alone):
    with served(create_app(Settings(max_pairs=8, max_characters=200), alone)) as address:
        yield address


@pytest.fixture
def client(alone):
    with TestClient(create_app(Settings(max_pairs=8, max_characters=200), alone)) as client:
        yield client


@pytest.fixture
def expected(alone):
    """The index and the score of each text, the best first."""
    scores = alone.score([(QUERY, text) for text in TEXTS]).tolist()
    return sorted(enumerate(scores), key=lambda item: -item[1])


@pytest.mark.parametrize("make", [cohere.Client, cohere.ClientV2])
def test_coheres_client_gets_the_best_documents_first(url, expected, make):
    with httpx.Client() as connections:
        client = make(api_key="any", base_url=url, httpx_client=connections)
        answer = client.rerank(model="any", query=QUERY, documents=TEXTS, top_n=3)
    assert [one.index for one in answer.results] == [index for index, _ in expected[:3]]
    scores = [one.relevance_score for one in answer.results]
    assert scores == pytest.approx([score for _, score in expected[:3]], abs=1e-6)


_LITELLM_PROGRAM = """
import json, sys
import litellm

litellm.telemetry = False
url, query, documents, answers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), []
for model in ("cohere/any", "hosted_vllm/any", "huggingface/any", "jina_ai/any"):
    answer = litellm.rerank(model=model, query=query, documents=documents, api_base=url, api_key="any", top_n=3)
    answers.append([[one["index"], one["relevance_score"]] for one in answer.results])
print(json.dumps(answers))
"""


def test_litellm_gets_the_best_documents_first(url, expected):
    # With its own list of prices, it asks no other server.
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    answers = run_client(_LITELLM_PROGRAM, url, QUERY, json.dumps(TEXTS), **offline)
    assert len(answers) == 4
    for ranked in answers:
        assert [index for index, _ in ranked] == [index for index, _ in expected[:3]]
        assert [score for _, score in ranked] == pytest.approx([score for _, score in expected[:3]], abs=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_documents_come_back_only_if_they_are_requested(client, expected, path):
    documents = [{"text": text} for text in TEXTS]
    bare = client.post(path, json={"query": QUERY, "documents": documents}).json()
    assert [one["index"] for one in bare["results"]] == [index for index, _ in expected]
    assert "document" not in bare["results"][0]
    assert bare["usage"]["total_tokens"] > 0
    whole = client.post(path, json={"query": QUERY, "documents": TEXTS, "return_documents": True}).json()
    assert [one["document"]["text"] for one in whole["results"]] == [TEXTS[index] for index, _ in expected]


@pytest.mark.parametrize("path", PATHS)
def test_text_embeddings_inferences_answer_is_a_bare_list(client, expected, path):
    body = {"query": QUERY, "texts": TEXTS, "raw_scores": True, "return_text": True, "truncate": True}
    answer = client.post(path, json=body).json()
    assert [(one["index"], one["text"]) for one in answer] == [(index, TEXTS[index]) for index, _ in expected]
    assert [one["score"] for one in answer] == pytest.approx([score for _, score in expected], abs=1e-6)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"query": QUERY, "documents": []}, "documents"),
        ({"query": QUERY, "documents": ["a"] * 9}, "documents"),
        ({"query": QUERY, "documents": ["a", {"text": "b" * 201}]}, "documents[1]"),
        ({"query": QUERY, "documents": ["a", {"text": " "}]}, "documents[1].text"),
        ({"query": QUERY, "documents": ["a", {"title": "b"}]}, "documents[1].text"),
        ({"query": QUERY, "documents": ["a", 3]}, "documents[1]"),
        ({"query": QUERY, "documents": ["a"], "top_n": 0}, "top_n"),
        ({"query": QUERY, "documents": ["a"], "max_tokens_per_doc": 10}, "max_tokens_per_doc"),
        ({"query": QUERY, "documents": ["a"], "truncate_prompt_tokens": 10}, "truncate_prompt_tokens"),
        ({"query": QUERY, "texts": ["a", ""]}, "texts[1]"),
        ({"query": QUERY, "texts": ["a"], "prompt_name": "query"}, "prompt_name"),
        ({"query": QUERY, "texts": ["a"], "truncation_direction": "left"}, "truncation_direction"),
        ({"query": "q " * 101, "texts": ["a"]}, "query"),
        ({"query": QUERY, "texts": ["a " * 60], "truncate": False}, "truncate"),
        ({"query": QUERY}, "documents"),
        ({"documents": ["a"]}, "query"),
    ],
)
def test_refused_requests_name_the_place(client, body, param):
    answer = client.post("/rerank", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param), answer.text
