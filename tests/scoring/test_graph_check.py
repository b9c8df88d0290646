import time

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from simile.errors import BundleError, InputError
from simile.scoring import Scorer, load
from simile.scoring.graph_check import require_plain_graph
from simile.scoring.provider import open_session
from tests.tiny_ensembles import CPU, WORDS, graph, table

GRAPH = graph(table())
"""A graph that holds nothing but operators and its own weights."""


def changed(change) -> bytes:
    model = onnx.load_from_string(GRAPH)
    change(model)
    return model.SerializeToString()


def keep_outside(tensor: TensorProto, location: str = "secret.txt") -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(4 * np.prod(tensor.dims)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["unused"], value=tensor)


def outside() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), "outside")
    keep_outside(tensor)
    return tensor


def entry_without_location(model) -> None:
    model.graph.initializer[0].external_data.add().key = "location"


BODY = helper.make_graph(
    [helper.make_node("Identity", ["go_on"], ["goes_on"])],
    "body",
    [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
    ],
    [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, [])],
)
EMPTY = helper.make_graph([], "empty", [], [])
FUNCTION = helper.make_function("own", "F", [], [], [], [helper.make_opsetid("", 17)])
SPARSE = helper.make_sparse_tensor(
    numpy_helper.from_array(np.ones(1, dtype=np.float32), "s"), numpy_helper.from_array(np.zeros(1, np.int64)), [4]
)

REFUSED = {
    "external weights": (lambda model: keep_outside(model.graph.initializer[0]), "weights in other files"),
    "external weights by an absolute path": (
        lambda model: keep_outside(model.graph.initializer[0], "/etc/passwd"),
        "weights in other files",
    ),
    "external constant": (lambda model: model.graph.node.append(constant(outside())), "weights in other files"),
    "external constants in a list": (
        lambda model: model.graph.node.append(helper.make_node("If", ["x"], ["y"], many=[outside()])),
        "weights in other files",
    ),
    "an entry of external data alone": (entry_without_location, "weights in other files"),
    "a loop": (
        lambda model: model.graph.node.append(helper.make_node("Loop", ["n", "go"], ["x"], body=BODY)),
        "a subgraph",
    ),
    "branches": (
        lambda model: model.graph.node.append(
            helper.make_node("If", ["x"], ["y"], then_branch=EMPTY, else_branch=EMPTY)
        ),
        "a subgraph",
    ),
    "a list of subgraphs": (
        lambda model: model.graph.node.append(helper.make_node("Own", ["x"], ["y"], bodies=[EMPTY, EMPTY])),
        "subgraphs",
    ),
    "a custom operator": (
        lambda model: model.graph.node.append(helper.make_node("Evil", ["x"], ["y"], domain="evil.ops")),
        "domain 'evil.ops'",
    ),
    "an operator of ONNX Runtime": (
        lambda model: model.graph.node.append(helper.make_node("EPContext", [], ["y"], domain="com.microsoft")),
        "domain 'com.microsoft'",
    ),
    "a function": (lambda model: model.functions.append(FUNCTION), "functions"),
    "training": (lambda model: model.training_info.add(), "a graph for training"),
    "sparse weights": (lambda model: model.graph.sparse_initializer.append(SPARSE), "sparse initializers"),
    "a sparse constant": (
        lambda model: model.graph.node.append(helper.make_node("Constant", [], ["y"], sparse_value=SPARSE)),
        "sparse data",
    ),
}


def field(number: int, wire: int, content: bytes = b"") -> bytes:
    key, packed = number << 3 | wire, bytearray()
    while key > 0x7F:
        packed.append(key & 0x7F | 0x80)
        key >>= 7
    return bytes([*packed, key]) + content


DAMAGED = {
    "text": b"not a graph",
    "an unknown field": GRAPH + field(99, 0, b"\1"),
    "a group": GRAPH + field(7, 3),
    "a graph that is a number": GRAPH + field(7, 0, b"\1"),
    "a number without end": GRAPH + field(1, 0, b"\x80" * 20),
    "a length beyond the end": GRAPH + field(7, 2, b"\x7f"),
    "a length of ten bytes": GRAPH + field(7, 2, b"\xff" * 9 + b"\1"),
    "half": GRAPH[: len(GRAPH) // 2],
    "a second graph, which is merged with the first": GRAPH + field(7, 2, b"\4" + field(1, 2, b"\2\xf8\6")),
}


def test_graph_of_onnxs_own_operators_and_weights_is_accepted():
    require_plain_graph(GRAPH)


def test_attention_of_onnx_runtime_is_accepted_because_exports_use_it():
    node = helper.make_node("MultiHeadAttention", ["q", "k", "v"], ["y"], domain="com.microsoft", num_heads=2)
    require_plain_graph(changed(lambda model: model.graph.node.append(node)))


@pytest.mark.parametrize("name", REFUSED)
def test_graph_that_could_do_more_than_compute_is_refused(name):
    change, fault = REFUSED[name]
    with pytest.raises(InputError, match=fault) as caught:
        require_plain_graph(changed(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_graph_is_refused(name):
    with pytest.raises(InputError, match=r"the graph (is no ONNX file|has an unknown field)"):
        require_plain_graph(DAMAGED[name])


@given(st.data())
def test_any_bytes_are_accepted_or_refused(data):
    content = bytearray(GRAPH)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        require_plain_graph(bytes(content))
    except InputError:
        return


def test_weights_are_skipped():
    large = graph(np.zeros((len(WORDS), 90 * 2**20 // 4 // len(WORDS)), dtype=np.float32))
    start = time.perf_counter()
    require_plain_graph(large)
    assert time.perf_counter() - start < 0.1


def test_number_of_fields_is_bounded():
    start = time.perf_counter()
    with pytest.raises(InputError, match="more than 1,000,000 fields"):
        require_plain_graph(b"\x08\x01" * 20_000_000)
    assert time.perf_counter() - start < 10


def test_content_of_an_outside_file_does_not_become_a_weight(ensemble, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_bytes(bytes(4 * table().size))
    hostile = changed(lambda model: keep_outside(model.graph.initializer[0]))
    bundle = ensemble.write(replace={"members/small/model.onnx": hostile}, with_golden=False)
    with pytest.raises(BundleError, match=r"members/small/model\.onnx: the graph has weights in other files"):
        load(bundle.path, device="cpu", precision="fp32")


def test_file_that_begins_like_onnx_runtimes_own_format_is_read_as_onnx():
    # ONNX Runtime takes "ORTM" at this place for a file in its own format, which nothing has checked.
    disguised = field(2, 2, b"\x06xxORTM") + GRAPH
    require_plain_graph(disguised)
    assert disguised[4:8] == b"ORTM"
    inputs = {name: np.ones((1, 2), dtype=np.int64) for name in ("input_ids", "attention_mask")}
    np.testing.assert_array_equal(
        open_session(disguised, CPU).run(None, inputs)[0], open_session(GRAPH, CPU).run(None, inputs)[0]
    )


def two_outputs(model) -> None:
    model.graph.node.append(helper.make_node("Identity", ["embedding"], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, None))


def third_input(model) -> None:
    model.graph.input.append(helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["B", "T"]))


@pytest.mark.parametrize("change", [two_outputs, third_input])
def test_graph_with_other_inputs_or_outputs_is_refused(change):
    with pytest.raises(InputError, match="need one from attention_mask, input_ids to one output"):
        open_session(changed(change), CPU)


def scaled(factor: float) -> bytes:
    def change(model) -> None:
        model.graph.node[-1].output[0] = "unit"
        model.graph.initializer.append(numpy_helper.from_array(np.array(factor, dtype=np.float32), "factor"))
        model.graph.node.append(helper.make_node("Mul", ["unit", "factor"], ["embedding"]))

    return changed(change)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param(graph(table()[:, :8]), r"gives vectors of shape \(8,\), need \(16,\)", id="dimension"),
        pytest.param(graph(table()[:5]), "cannot be computed on CPU fp32", id="fewer words than the tokenizer"),
        pytest.param(scaled(2), "gives vectors of length 2, need 1", id="length 2"),
        pytest.param(scaled(1e30), r"gives vectors of length \S+, need 1", id="length 1e30"),
        pytest.param(scaled(np.nan), "gives vectors of length nan, need 1", id="NaN"),
    ],
)
def test_graph_that_does_not_fit_its_member_is_refused(ensemble, content, fault):
    bundle = ensemble.write(replace={"members/small/model.onnx": content}, with_golden=False)
    with pytest.raises(BundleError, match=fault) as caught:
        Scorer(bundle, CPU).check_golden()
    assert "\n" not in str(caught.value)
