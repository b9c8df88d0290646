import base64
import json
from itertools import cycle

import numpy as np
import pytest
from fastapi.testclient import TestClient
from huggingface_hub import InferenceClient
from openai import OpenAI, UnprocessableEntityError
from sentence_transformers.util import quantize_embeddings

from serving.app import create_app
from serving.service import Service
from serving.settings import Settings
from simile.artifacts import Bundle, Combine
from simile.scoring import GOLDEN_PAIRS, Scorer
from tests.live_servers import served
from tests.serving.clients import run_client

TEXTS = [text for pair in GOLDEN_PAIRS[:4] for text in pair]


@pytest.fixture(scope="module")
def url(alone):
    """The address of a running server."""
    with served(create_app(Settings(max_pairs=8, max_characters=200), alone)) as address:
        yield address


@pytest.fixture
def client(alone):
    with TestClient(create_app(Settings(max_pairs=8, max_characters=200), alone)) as client:
        yield client


def error_of(answer):
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["param"]


def test_hugging_face_client_scores_one_sentence_against_many(url, alone):
    scores = InferenceClient(model=url).sentence_similarity(TEXTS[0], other_sentences=TEXTS[1:])
    np.testing.assert_allclose(scores, alone.score([(TEXTS[0], text) for text in TEXTS[1:]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_openai_client_gets_embeddings_whose_cosine_is_the_score(url, alone, encoding):
    extra = {"encoding_format": encoding} if encoding else {}
    client = OpenAI(base_url=f"{url}/v1", api_key="any")
    embedded = client.embeddings.create(model="any", input=TEXTS, user="somebody", **extra)
    # If the caller requests base64, the client returns it undecoded; by default it requests base64 and decodes it.
    rows = [
        np.frombuffer(base64.b64decode(e), "<f4") if encoding == "base64" else e
        for e in (i.embedding for i in embedded.data)
    ]
    embedding_ND = np.array(rows)
    pairs = list(zip(TEXTS[::2], TEXTS[1::2], strict=True))
    np.testing.assert_allclose((embedding_ND[::2] * embedding_ND[1::2]).sum(1), alone.score(pairs), rtol=0, atol=1e-6)
    assert [item.index for item in embedded.data] == list(range(len(TEXTS)))
    assert embedded.model == alone.bundle.identity
    assert embedded.usage.prompt_tokens == embedded.usage.total_tokens > len(TEXTS)


def test_openai_client_embeds_one_text_and_may_request_only_the_bundles_dimensions(url, alone):
    client = OpenAI(base_url=f"{url}/v1", api_key="any")
    embedded = client.embeddings.create(model="any", input="no signal", dimensions=16)
    np.testing.assert_allclose(embedded.data[0].embedding, alone.embed(["no signal"])[0], rtol=0, atol=1e-6)
    with pytest.raises(UnprocessableEntityError, match="got 8 dimensions, need 16"):
        client.embeddings.create(model="any", input="no signal", dimensions=8)


_LITELLM_PROGRAM = """
import json, sys
import litellm

litellm.telemetry = False
texts, api_base, answers = json.loads(sys.argv[1]), sys.argv[2], []
for model in ("openai/any", "hosted_vllm/any"):
    embedded = litellm.embedding(model=model, input=texts, api_base=api_base, api_key="any")
    rows = [item["embedding"] for item in embedded.data]
    answers.append([embedded.model, rows, embedded.usage.prompt_tokens])
print(json.dumps(answers))
"""


def test_litellm_gets_embeddings(url, alone):
    # With its own list of prices, it asks no other server.
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    answers = run_client(_LITELLM_PROGRAM, json.dumps(TEXTS), f"{url}/v1", **offline)
    assert len(answers) == 2
    for identity, embedding_ND, num_tokens in answers:
        np.testing.assert_allclose(embedding_ND, alone.embed(TEXTS), rtol=0, atol=1e-6)
        assert identity == alone.bundle.identity
        assert num_tokens > len(TEXTS)


@pytest.fixture
def twofold(encoder_alone, scorer) -> Scorer:
    """A bundle of the encoder twice, with twice the dimensions."""
    bundle = encoder_alone
    (encoder,) = bundle.manifest.members
    members = (encoder, encoder.model_copy(update={"name": "other"}))
    update = {"members": members, "combine": Combine(weights={"small": 0.5, "other": 0.5})}
    return Scorer(Bundle(bundle.path, bundle.manifest.model_copy(update=update), bundle.data), scorer.runtime)


def test_dimensions_are_checked_against_the_bundle_that_answers_even_during_a_reload(client, twofold, monkeypatch):
    def ask(dimensions: int):
        return client.post("/v1/embeddings", json={"input": "no signal", "dimensions": dimensions})

    with TestClient(create_app(Settings(), twofold)) as other:
        # The bundle seems to change between any two reads.
        engines = cycle([client.app.state.service.engine, other.app.state.service.engine])
        monkeypatch.setattr(Service, "engine", property(lambda _: next(engines)))
        for dimensions in (16, 32, 16, 32):
            answer = ask(dimensions)
            assert answer.status_code == 200
            assert len(answer.json()["data"][0]["embedding"]) == dimensions
        assert error_of(ask(32)) == error_of(ask(16)) == (422, "invalid_request", "dimensions")


@pytest.fixture
def matryoshka(encoder_alone, scorer) -> Scorer:
    """A bundle of the encoder whose embeddings may be cut."""
    (encoder,) = encoder_alone.manifest.members
    manifest = encoder_alone.manifest.model_copy(
        update={"members": (encoder.model_copy(update={"matryoshka": (8, 4)}),)}
    )
    return Scorer(Bundle(encoder_alone.path, manifest, encoder_alone.data), scorer.runtime)


@pytest.mark.parametrize("dimensions", [16, 8, 4])
def test_embedding_is_cut_to_the_dimensions_that_the_encoder_was_trained_for(matryoshka, dimensions):
    with TestClient(create_app(Settings(), matryoshka)) as client:
        answer = client.post("/v1/embeddings", json={"input": ["no signal", "late"], "dimensions": dimensions})
        first_ND = matryoshka.embed(["no signal", "late"])[:, :dimensions]
        expected_ND = first_ND / np.linalg.norm(first_ND, axis=1, keepdims=True)
        found_ND = [entry["embedding"] for entry in answer.json()["data"]]
        np.testing.assert_allclose(found_ND, expected_ND, rtol=0, atol=1e-6)
        refused = client.post("/v1/embeddings", json={"input": "no signal", "dimensions": 5})
        assert refused.status_code == 422
        assert "got 5 dimensions, need 16 or 8 or 4" in refused.text
        assert client.get("/v1/bundle").json()["members"][0]["matryoshka"] == [8, 4]


@pytest.fixture
def sided(encoder_alone, scorer) -> Scorer:
    """A bundle of the encoder with a prompt for each side."""
    (encoder,) = encoder_alone.manifest.members
    member = encoder.model_copy(update={"prompt_a": "My card ", "prompt_b": "The "})
    manifest = encoder_alone.manifest.model_copy(update={"members": (member,)})
    return Scorer(Bundle(encoder_alone.path, manifest, encoder_alone.data), scorer.runtime)


def test_the_sides_of_a_pair_are_embedded_with_their_own_prompts(sided):
    pairs = [("no signal", "no bars"), ("no bars", "no signal"), ("late", "late")]
    with TestClient(create_app(Settings(), sided)) as client:
        expected = sided.score(pairs)
        # The second time, all embeddings are cached.
        for _ in range(2):
            answer = client.post("/v1/similarity", json={"pairs": pairs}).json()
            np.testing.assert_allclose(answer["scores"], expected, rtol=0, atol=1e-6)
        assert answer["usage"]["texts"] == 6
        one = client.post("/score", json={"text_1": "no signal", "text_2": ["no bars", "late"]}).json()
        expected = sided.score([("no signal", "no bars"), ("no signal", "late")])
        np.testing.assert_allclose([item["score"] for item in one["data"]], expected, rtol=0, atol=1e-6)


def test_embeddings_of_two_sides_need_the_input_type(sided, client, alone):
    with TestClient(create_app(Settings(), sided)) as other:

        def embed(kind):
            answer = other.post("/v1/embeddings", json={"input": "no signal", "input_type": kind}).json()
            return np.array(answer["data"][0]["embedding"])

        score = sided.score([("no signal", "no signal")])[0]
        assert embed("query") @ embed("document") == pytest.approx(float(score), abs=1e-6)
        refused = other.post("/v1/embeddings", json={"input": "no signal"})
        assert error_of(refused) == (422, "invalid_request", "input_type")
        assert "need query or document: this bundle has a prompt for each" in refused.text
    # Without sides, the type has no effect.
    answer = client.post("/v1/embeddings", json={"input": "no signal", "input_type": "document"}).json()
    np.testing.assert_allclose(answer["data"][0]["embedding"], alone.embed(["no signal"])[0], rtol=0, atol=1e-6)


def test_base64_is_float32_little_endian(client, alone):
    answer = client.post("/v1/embeddings", json={"input": ["no signal"], "encoding_format": "base64"}).json()
    vector_D = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(vector_D, alone.embed(["no signal"])[0], rtol=0, atol=1e-6)


def embedded(client, **fields):
    answer = client.post("/v1/embeddings", json={"input": TEXTS[:4], **fields})
    assert answer.status_code == 200, answer.text
    return np.array([one["embedding"] for one in answer.json()["data"]])


def test_no_encoding_format_means_floats(client, alone):
    np.testing.assert_allclose(embedded(client, encoding_format=None), alone.embed(TEXTS[:4]), rtol=0, atol=1e-6)


def test_int8_embeddings_keep_the_cosines(client, alone):
    embedding_ND = embedded(client, encoding_format="int8")
    assert (embedding_ND.dtype, np.abs(embedding_ND).max(axis=1).tolist()) == (np.int64, [127] * 4)
    unit_ND = embedding_ND / np.linalg.norm(embedding_ND, axis=1, keepdims=True)
    expected_ND = alone.embed(TEXTS[:4])
    np.testing.assert_allclose(unit_ND @ unit_ND.T, expected_ND @ expected_ND.T, rtol=0, atol=0.02)


def test_binary_embeddings_are_those_of_sentence_transformers(client, alone):
    embedding_ND = alone.embed(TEXTS[:4])
    for name in ("binary", "ubinary"):
        expected_NB = quantize_embeddings(embedding_ND, precision=name)
        np.testing.assert_array_equal(embedded(client, encoding_format=name), expected_NB)


def test_twice_as_many_texts_as_pairs_are_embedded(client):
    assert client.post("/v1/embeddings", json={"input": ["a"] * 16}).status_code == 200
    refused = client.post("/v1/embeddings", json={"input": ["a"] * 17})
    assert error_of(refused) == (422, "invalid_request", "input")
    assert "got 17 input, need 1 to 16" in refused.text


@pytest.mark.parametrize("ids", [[1, 2, 3], [[1, 2], [3]]])
def test_token_ids_are_refused_with_what_to_set_in_the_client(client, ids):
    refused = client.post("/v1/embeddings", json={"input": ids})
    assert error_of(refused) == (422, "invalid_request", "input")
    assert "got token ids, need texts: in LangChain's OpenAIEmbeddings set" in refused.text


@pytest.mark.parametrize(("first", "second"), [("data_1", "data_2"), ("queries", "documents")])
def test_vllms_other_names_of_the_two_sides(client, alone, first, second):
    answer = client.post("/score", json={first: "no", second: ["signal", "bars"]}).json()
    expected = alone.score([("no", "signal"), ("no", "bars")])
    np.testing.assert_allclose([item["score"] for item in answer["data"]], expected, rtol=0, atol=1e-6)


def test_models_info_and_health_describe_the_bundle(client, url, alone):
    (model,) = OpenAI(base_url=f"{url}/v1", api_key="any").models.list().data
    assert model.id == alone.bundle.identity
    told = client.get("/info").json()
    assert (told["model_id"], told["model_sha"]) == (alone.bundle.manifest.name, alone.bundle.manifest.digest)
    assert (told["model_dtype"], told["max_input_length"], told["max_client_batch_size"]) == ("fp32", 40, 8)
    assert client.get("/health").status_code == 200


def test_long_texts_are_refused_where_truncation_is_forbidden(client):
    inputs = {"source_sentence": "no", "sentences": ["water " * 33]}
    refused = client.post("/similarity", json={"inputs": inputs, "parameters": {"truncate": False}})
    # The text fits: it has 34 tokens.
    assert refused.status_code == 200
    inputs["sentences"] = ["a " * 60]
    refused = client.post("/similarity", json={"inputs": inputs, "parameters": {"truncate": False}})
    assert error_of(refused) == (422, "invalid_request", "truncate")
    assert client.post("/similarity", json={"inputs": inputs}).status_code == 200


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
@pytest.mark.parametrize(
    ("first", "second", "pairs"),
    [
        ("no", "signal", [("no", "signal")]),
        ("no", ["signal", "bars"], [("no", "signal"), ("no", "bars")]),
        (["no"], ["signal", "bars"], [("no", "signal"), ("no", "bars")]),
        (["no", "cold"], ["signal", "bars"], [("no", "signal"), ("cold", "bars")]),
    ],
)
def test_vllm_scores_pair_by_pair_or_one_against_many(client, alone, path, first, second, pairs):
    answer = client.post(path, json={"model": "any", "text_1": first, "text_2": second, "truncate_prompt_tokens": -1})
    body = answer.json()
    assert answer.status_code == 200
    np.testing.assert_allclose([item["score"] for item in body["data"]], alone.score(pairs), rtol=0, atol=1e-6)
    assert [item["index"] for item in body["data"]] == list(range(len(pairs)))
    assert (body["object"], body["data"][0]["object"], body["model"]) == ("list", "score", alone.bundle.identity)
    assert body["usage"]["total_tokens"] > 0


@pytest.mark.parametrize("path", ["/", "/similarity"])
def test_sentence_similarity_answers_a_bare_list(client, alone, path):
    body = {"inputs": {"source_sentence": "no", "sentences": ["signal", "no"]}, "parameters": {"truncate": True}}
    answer = client.post(path, json=body)
    np.testing.assert_allclose(answer.json(), alone.score([("no", "signal"), ("no", "no")]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, "inputs.sentences"),
        ("/similarity", {"inputs": {"source_sentence": "a" * 201, "sentences": ["b"]}}, "inputs.source_sentence"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", "c" * 201]}}, "inputs.sentences[1]"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b", " "]}}, "inputs.sentences[1]"),
        ("/similarity", {"inputs": "a"}, "inputs"),
        ("/score", {"text_1": ["a", "b"], "text_2": ["c"]}, "text_1"),
        ("/score", {"text_1": [], "text_2": ["c"]}, "text_1"),
        ("/score", {"text_1": "a", "text_2": []}, "text_2"),
        ("/score", {"text_1": "a", "text_2": ["b"] * 9}, "text_2"),
        ("/score", {"text_1": "a", "text_2": ["b", "c" * 201]}, "text_2[1]"),
        ("/score", {"text_1": "a", "text_2": 3}, "text_2"),
        ("/score", {"text_1": "a", "text_2": ["b", 3]}, "text_2[1]"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": [[1, 2]]}, "input"),
        ("/v1/embeddings", {"input": "a", "encoding_format": "int4"}, "encoding_format"),
        ("/v1/embeddings", {"input": "a" * 201}, "input[0]"),
    ],
)
def test_bad_request_is_refused_with_its_place(client, path, body, param):
    assert error_of(client.post(path, json=body)) == (422, "invalid_request", param)


def test_bundle_with_a_lexical_member_scores_but_has_no_embeddings(scorer):
    with TestClient(create_app(Settings(), scorer)) as client:
        answer = client.post("/v1/embeddings", json={"input": "no signal"})
        assert error_of(answer) == (422, "invalid_request", None)
        assert "lexical" in answer.json()["error"]["message"]
        score = client.post("/score", json={"text_1": "no signal", "text_2": "no bars"}).json()["data"][0]["score"]
        assert score == pytest.approx(float(scorer.score([("no signal", "no bars")])[0]), abs=1e-6)
