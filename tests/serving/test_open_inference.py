"""The Open Inference Protocol, with the clients of Triton and KServe and with bodies of our own."""

import importlib.util
import json
import os
import re
import struct
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from fastapi.testclient import TestClient
from tritonclient.utils import InferenceServerException

from serving.app import create_app
from serving.service import Service
from serving.settings import Settings
from simile.errors import InputError
from simile.scoring import probability
from simile.version import __version__
from tests.live_servers import served
from tests.serving.clients import run_client

KSERVE = os.environ.get("KSERVE_PYTHON") or (sys.executable if importlib.util.find_spec("kserve") else None)
FIRST, SECOND = ["no signal", "The water was cold.", "lät€"], ["no bars", "A cold drink of water.", "late"]
PAIRS = list(zip(FIRST, SECOND, strict=True))
DOCUMENTATION = (Path(__file__).parents[2] / "docs/serving.md").read_text()
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def url(scorer):
    with served(create_app(Settings(max_pairs=8, max_characters=200), scorer)) as address:
        yield address


@pytest.fixture
def triton_client(url):
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def version(scorer):
    return scorer.bundle.manifest.digest[:12]


def triton_inputs(first=FIRST, second=SECOND, *, shape=None, binary=True):
    inputs = []
    for name, texts in (("text_a", first), ("text_b", second)):
        text_N = np.array(texts, dtype=object).reshape(shape or (len(texts),))
        inputs.append(triton.InferInput(name, list(text_N.shape), "BYTES"))
        inputs[-1].set_data_from_numpy(text_N, binary_data=binary)
    return inputs


def tensor(name, texts, **fields):
    return {"name": name, "shape": [len(texts)], "datatype": "BYTES", "data": texts} | fields


def body(first=FIRST, second=SECOND, **fields):
    return {"inputs": [tensor("text_a", first), tensor("text_b", second)]} | fields


def binary_tensor(name, texts, **fields):
    """Return the JSON and the bytes of a tensor."""
    content = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    described = {"name": name, "shape": [len(texts)], "datatype": "BYTES"}
    return described | {"parameters": {"binary_data_size": len(content)}} | fields, content


def post_binary(client, inputs, content, path=INFER, **headers):
    json_part = json.dumps({"inputs": inputs}).encode()
    headers = {"inference-header-content-length": str(len(json_part))} | headers
    return client.post(path, content=json_part + content, headers=headers)


def error_of(answer):
    return answer.status_code, answer.json()["type"], answer.json()["param"]


@pytest.mark.parametrize("is_output_binary", [None, True, False])
@pytest.mark.parametrize("is_input_binary", [True, False])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_tritons_client_gets_the_scores(triton_client, scorer, shape, is_input_binary, is_output_binary):
    outputs = None
    if is_output_binary is not None:
        outputs = [triton.InferRequestedOutput("score", binary_data=is_output_binary)]
    inputs = triton_inputs(shape=shape, binary=is_input_binary)
    result = triton_client.infer("tiny", inputs, outputs=outputs, request_id="7")
    score_N = result.as_numpy("score")
    assert (score_N.dtype, score_N.shape, result.get_response()["id"]) == (np.float32, shape, "7")
    expected_N = scorer.score(PAIRS)
    np.testing.assert_allclose(score_N.ravel(), expected_N, rtol=0, atol=1e-6)
    if outputs is None:
        expected_N = probability(scorer.bundle.manifest.calibration, expected_N)
        np.testing.assert_allclose(result.as_numpy("probability").ravel(), expected_N, rtol=0, atol=1e-6)
    else:
        assert result.as_numpy("probability") is None


def test_tritons_client_reads_metadata_and_health(triton_client, version):
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    server = {"name": "simile", "version": __version__, "extensions": ["binary_tensor_data"]}
    assert triton_client.get_server_metadata() == server
    for asked, is_served in (("", True), (version, True), ("1", False)):
        assert triton_client.is_model_ready("tiny", asked) == is_served
    assert not triton_client.is_model_ready("other")
    described = triton_client.get_model_metadata("tiny", version)
    assert described == triton_client.get_model_metadata("tiny")
    assert (described["name"], described["versions"], described["platform"]) == ("tiny", [version], "simile_bundle")
    assert [(one["name"], one["datatype"], one["shape"]) for one in described["inputs"] + described["outputs"]] == [
        ("text_a", "BYTES", [-1]),
        ("text_b", "BYTES", [-1]),
        ("score", "FP32", [-1]),
        ("probability", "FP32", [-1]),
    ]


def test_tritons_client_may_name_the_version(triton_client, version):
    answered = triton_client.infer("tiny", triton_inputs(), model_version=version).get_response()
    assert (answered["model_name"], answered["model_version"]) == ("tiny", version)


def test_model_name_replaces_the_name_of_the_bundle(scorer, version):
    app = create_app(Settings(model_name="cards"), scorer)
    with served(app) as url, triton.InferenceServerClient(url.removeprefix("http://")) as client:
        assert client.is_model_ready("cards", version)
        assert client.get_model_metadata("cards")["name"] == "cards"
        assert client.infer("cards", triton_inputs()).get_response()["model_name"] == "cards"
        with pytest.raises(InferenceServerException, match="got the model 'tiny', need 'cards'"):
            client.infer("tiny", triton_inputs())


@pytest.mark.parametrize("name", ["", "a/b", "a b"])
def test_model_name_that_no_path_can_have_is_refused(name):
    with pytest.raises(InputError, match=f"^SIMILE_MODEL_NAME: got {name!r}, need letters"):
        Settings.resolve({}, {"SIMILE_MODEL_NAME": name})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"model_name": "other"}, "[404] got the model 'other', need 'tiny'"),
        ({"model_name": "tiny", "model_version": "1"}, "[404] got version '1' of tiny, need "),
        (
            {"inputs": triton_inputs(second=["a", "b" * 201, "c"])},
            "[422] inputs[1].data[1]: got 201 characters, need at",
        ),
        ({"inputs": triton_inputs()[:1]}, "[422] inputs: List should have at least 2 items"),
        ({"outputs": [triton.InferRequestedOutput("score", class_count=2)]}, "[422] outputs[0].parameters.classifi"),
    ],
)
def test_exception_of_tritons_client_says_what_is_wrong(triton_client, call, message):
    with pytest.raises(InferenceServerException) as raised:
        triton_client.infer(**{"model_name": "tiny", "inputs": triton_inputs()} | call)
    assert str(raised.value).startswith(message)


def test_exception_of_tritons_client_says_what_is_not_served(triton_client):
    with pytest.raises(InferenceServerException, match=r"^\[404\] Not Found$"):
        triton_client.get_model_repository_index()


def test_exception_of_tritons_client_says_that_a_key_is_missing(scorer):
    app = create_app(Settings(api_keys=("planted-key",)), scorer)
    with served(app) as url, triton.InferenceServerClient(url.removeprefix("http://")) as client:
        with pytest.raises(InferenceServerException, match=r"^\[401\] need one of this service's API keys"):
            client.infer("tiny", triton_inputs())
        assert client.is_server_ready()
        keyed = {"authorization": "Bearer planted-key"}
        assert client.infer("tiny", triton_inputs(), headers=keyed).as_numpy("score").shape == (3,)


_KSERVE_PROGRAM = """
import asyncio, json, sys
import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

url, sides = sys.argv[1], json.loads(sys.argv[2])

def request(is_binary):
    inputs = [InferInput(name, [len(texts)], "BYTES") for name, texts in sides.items()]
    for tensor in inputs:
        tensor.set_data_from_numpy(np.array(sides[tensor.name], dtype=object), binary_data=is_binary)
    outputs = [RequestedOutput("score", {"binary_data": is_binary})]
    return InferRequest("tiny", inputs, request_id="7", request_outputs=outputs)

async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    health = [await client.is_server_live(url), await client.is_server_ready(url)]
    health += [await client.is_model_ready(url, name) for name in ("tiny", "other")]
    answers = [await client.infer(url, request(is_binary), model_name="tiny") for is_binary in (True, False)]
    try:
        await client.infer(url, request(False), model_name="other")
    except httpx.HTTPStatusError as error:
        message = str(error)
    await client.close()
    return [health, [[answer.id, answer.outputs[0].as_numpy().tolist()] for answer in answers], message]

print(json.dumps(asyncio.run(main())))
"""


@pytest.mark.skipif(
    not KSERVE, reason="no kserve, which constraints.txt has no place for; KSERVE_PYTHON may name a Python that has it"
)
def test_kserves_client_gets_the_scores(url, scorer):
    sides = json.dumps({"text_a": FIRST, "text_b": SECOND})
    health, answers, message = run_client(_KSERVE_PROGRAM, url, sides, python=KSERVE)
    assert health == [True, True, True, False]
    expected = pytest.approx(scorer.score(PAIRS).tolist(), abs=1e-6)
    assert answers == [["7", expected]] * 2
    assert message.startswith("got the model 'other', need 'tiny', '404 Not Found'")


def test_call_in_the_documentation_works(url, scorer, capsys):
    (program,) = re.findall(r"```python\n([^`]*tritonclient[^`]*)```", DOCUMENTATION)
    exec(program.replace("127.0.0.1:8080", url.removeprefix("http://")).replace('"bundle"', '"tiny"'), {})
    score = scorer.score([("no signal", "My phone shows no bars.")])[0]
    assert float(capsys.readouterr().out.strip("[] \n")) == pytest.approx(float(score), abs=1e-6)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "application/json", None])
def test_binary_tensors_are_read_whatever_type_the_body_has(client, scorer, content_type):
    (first, one), (second, two) = (
        binary_tensor(name, [text.encode() for text in texts])
        for name, texts in (("text_b", SECOND), ("text_a", FIRST))
    )
    answer = post_binary(client, [first, second], one + two, **({"content-type": content_type} if content_type else {}))
    assert answer.json()["outputs"][0]["data"] == pytest.approx(scorer.score(PAIRS).tolist(), abs=1e-6)


def test_one_tensor_may_be_binary_and_the_other_not(client, scorer):
    described, content = binary_tensor("text_a", [text.encode() for text in FIRST])
    answer = post_binary(client, [tensor("text_b", SECOND), described], content)
    assert answer.json()["outputs"][0]["data"] == pytest.approx(scorer.score(PAIRS).tolist(), abs=1e-6)


def test_nested_data_has_the_shape_of_a_column(client, scorer):
    columns = {"text_a": FIRST, "text_b": SECOND}
    inputs = [tensor(name, [[text] for text in texts], shape=[3, 1]) for name, texts in columns.items()]
    answer = client.post(INFER, json={"inputs": inputs}).json()
    assert answer["outputs"][0]["shape"] == [3, 1]
    assert answer["outputs"][0]["data"] == pytest.approx(scorer.score(PAIRS).tolist(), abs=1e-6)


def test_largest_number_of_nested_texts_is_accepted(scorer):
    column = {"shape": [4096, 1], "datatype": "BYTES", "data": [["a"]] * 4096}
    with TestClient(create_app(Settings(max_pairs=4096), scorer)) as client:
        answer = client.post(INFER, json={"inputs": [column | {"name": "text_a"}, column | {"name": "text_b"}]})
    assert answer.status_code == 200
    assert len(answer.json()["outputs"][0]["data"]) == 4096


def test_outputs_are_those_that_are_requested_in_their_order(client, version):
    answer = client.post(INFER, json=body(outputs=[{"name": "probability"}, {"name": "score"}], id="x")).json()
    assert [output["name"] for output in answer["outputs"]] == ["probability", "score"]
    assert {name: answer[name] for name in ("model_name", "model_version", "id")} == {
        "model_name": "tiny",
        "model_version": version,
        "id": "x",
    }
    assert "id" not in client.post(INFER, json=body()).json()


def test_bundle_without_calibration_has_no_probability(uncalibrated):
    with TestClient(create_app(Settings(), uncalibrated)) as client:
        assert [one["name"] for one in client.get("/v2/models/tiny").json()["outputs"]] == ["score"]
        assert [one["name"] for one in client.post(INFER, json=body()).json()["outputs"]] == ["score"]
        refused = client.post(INFER, json=body(outputs=[{"name": "score"}, {"name": "probability"}]))
    assert error_of(refused) == (422, "invalid_request", "outputs[1].name")
    assert "this bundle has no calibration" in refused.json()["error"]


@pytest.mark.parametrize(
    ("request_body", "param"),
    [
        ({}, "inputs"),
        ({"inputs": [tensor("text_a", ["a"])]}, "inputs"),
        ({"inputs": [tensor("text_a", ["a"])] * 2}, "inputs"),
        ({"inputs": [tensor("text_a", ["a"]), tensor("text_c", ["a"])]}, "inputs[1].name"),
        (body(["a"], ["a", "b"]), "inputs"),
        (body([], []), "inputs[0].data"),
        (body(["a"] * 9, ["a"] * 9), "inputs[0].data"),
        (body(["a", "b"], ["a", "b" * 201]), "inputs[1].data[1]"),
        (body(["a", "b"], ["a", " "]), "inputs[1].data[1]"),
        (body(["a", "b"], ["a", ["b", "c"]]), "inputs[1].data[1]"),
        (body(["a", "b"], ["a", 3]), "inputs[1].data[1]"),
        (body(["a"], ["a"], outputs=[{"name": "embedding"}]), "outputs[0].name"),
        (body(["a"], ["a"], outputs=[{"name": "score"}] * 3), "outputs"),
        (
            body(["a"], ["a"], outputs=[{"name": "score", "parameters": {"shared_memory_region": "a"}}]),
            "outputs[0].parameters.shared_memory_region",
        ),
        ({"inputs": [tensor("text_a", ["a"], shape=[2]), tensor("text_b", ["a"])]}, "inputs[0].shape"),
        ({"inputs": [tensor("text_a", ["a"], shape=[1, 1, 1]), tensor("text_b", ["a"])]}, "inputs[0].shape"),
        ({"inputs": [tensor("text_a", ["a", "b"], shape=[1, 2]), tensor("text_b", ["a", "b"])]}, "inputs[0].shape"),
        ({"inputs": [tensor("text_a", ["a"], datatype="FP32"), tensor("text_b", ["a"])]}, "inputs[0].datatype"),
        ({"inputs": [tensor("text_a", ["a"], data=None), tensor("text_b", ["a"])]}, "inputs[0].data"),
        (
            {"inputs": [tensor("text_a", ["a"], parameters={"binary_data_size": 0}), tensor("text_b", ["a"])]},
            "inputs[0].data",
        ),
        ({"inputs": [tensor("text_a", ["a"], parameters={"binary_data_size": 5}), tensor("text_b", ["a"])]}, "inputs"),
        (
            {"inputs": [tensor("text_a", ["a"], parameters={"shared_memory_region": "a"}), tensor("text_b", ["a"])]},
            "inputs[0].parameters.shared_memory_region",
        ),
    ],
)
def test_refused_requests_name_the_place(client, request_body, param):
    answer = client.post(INFER, json=request_body)
    assert error_of(answer) == (422, "invalid_request", param), answer.text
    assert answer.json()["error"].startswith(f"{param}: ")
    assert set(answer.json()) == {"error", "type", "param", "request_id"}


@pytest.mark.parametrize(
    ("texts", "param"),
    [
        ([b"a", b"\xff"], "inputs[0].data[1]"),
        ([b"a", b"\xed\xa0\x80"], "inputs[0].data[1]"),
        ([b"a", b" "], "inputs[0].data[1]"),
        ([b"a", b""], "inputs[0].data[1]"),
        ([b"a", b"b" * 201], "inputs[0].data[1]"),
        ([b"a"] * 9, "inputs[0].data"),
        ([], "inputs[0].data"),
    ],
)
def test_refused_binary_texts_name_the_place(client, texts, param):
    described, content = binary_tensor("text_a", texts)
    answer = post_binary(client, [described, tensor("text_b", ["a", "b"])], content)
    assert error_of(answer) == (422, "invalid_request", param), answer.text


@pytest.mark.parametrize(
    ("size", "content", "param"),
    [
        (5, b"\1\0\0\0a!", "inputs"),
        (5, b"\1\0\0\0", "inputs"),
        (5, b"\2\0\0\0a", "inputs[0].data[0]"),
        (7, b"\1\0\0\0a\0\0", "inputs[0].data[1]"),
        (5, b"\xff\xff\xff\xffa", "inputs[0].data[0]"),
        (-1, b"", "inputs[0].parameters.binary_data_size"),
        ("5", b"\1\0\0\0a", "inputs[0].parameters.binary_data_size"),
    ],
)
def test_sizes_that_do_not_fit_the_bytes_are_refused(client, size, content, param):
    described, _ = binary_tensor("text_a", [b"a"], parameters={"binary_data_size": size})
    answer = post_binary(client, [described, tensor("text_b", ["a"])], content)
    assert error_of(answer) == (422, "invalid_request", param), answer.text


@pytest.mark.parametrize("json_size", ["10000", "-1", "x", "9" * 5000, "1_0", "\u00b2"])
def test_size_of_the_json_part_that_is_none_is_refused(client, json_size):
    headers = {"inference-header-content-length": json_size.encode("latin-1")}
    answer = client.post(INFER, json=body(), headers=headers)
    assert error_of(answer) == (400, "malformed", None)
    assert "Inference-Header-Content-Length" in answer.json()["error"]


def test_json_part_has_the_limits_of_a_body(scorer):
    with TestClient(create_app(Settings(), scorer)) as client:
        many = post_binary(client, ["a"] * 20_000, b"")
        utf_16 = json.dumps(body()).encode("utf-16")
        other = client.post(INFER, content=utf_16, headers={"inference-header-content-length": str(len(utf_16))})
    assert error_of(many) == (422, "invalid_request", None)
    assert error_of(other) == (400, "malformed", None)


def test_other_routes_have_no_binary_part(client):
    json_part = json.dumps({"pairs": [["a", "b"]]}).encode()
    headers = {"inference-header-content-length": str(len(json_part))}
    answer = client.post("/v1/similarity", content=json_part + b"\1\0\0\0a", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "malformed")


def test_scores_of_another_version_are_not_returned_even_during_a_reload(scorer, alone, monkeypatch, version):
    with TestClient(create_app(Settings(), scorer)) as client, TestClient(create_app(Settings(), alone)) as other:
        # The path is checked against the first bundle, and the second one computes the scores.
        engines = cycle([client.app.state.service.engine, other.app.state.service.engine])
        monkeypatch.setattr(Service, "engine", property(lambda _: next(engines)))
        answer = client.post(f"/v2/models/tiny/versions/{version}/infer", json=body())
    assert error_of(answer) == (404, "unknown_model", None)
