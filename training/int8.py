"""Row-wise int8: an fp32 graph -> one whose products with weights are of 8-bit integers, for processors without bf16.

Each row of activations, a token, is scaled by its own largest value, so that a text's embedding does not depend on the
other texts of its batch. Weights have one scale per output channel, word embeddings one per word. SmoothQuant (Xiao et
al. 2022, arXiv:2211.10438) moves what is hard to quantize from activations to weights. All operators are standard ones.

Shape suffixes: B = texts of a batch, T = tokens, I = inputs of a product, O = its outputs, V = words, D = dimensions.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from simile.hardware import usable_cores

Batch = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Token ids and mask, each of shape ``(B, T)``."""

_LARGEST, _ZERO = np.float32(127), np.uint8(128)
"""The largest quantized value, and the unsigned number that stands for 0: activations are unsigned and weights signed,
because processors have an instruction for such products."""
_TINY = np.float32(1e-9)
_EXPONENT = 0.5
"""SmoothQuant's alpha: how much of what is hard to quantize moves to the weights."""


def to_int8(model: bytes, batches: Iterable[Batch]) -> bytes:
    """Return the graph with products in int8, and word embeddings of 8 bits per number.

    The ``batches`` are of general text: their activations decide how much is moved to the weights of each product.
    """
    graph = _Graph(onnx.load_from_string(model))
    by_input: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.model.graph.node:
        if node.op_type in ("MatMul", "Gemm") and graph.has_matrix(node.input[1]):
            by_input[node.input[0]].append(node)
    largest = _largest_activations(graph.model, list(by_input), batches)
    replaced: dict[str, list[NodeProto]] = {}
    for name, products in by_input.items():
        matrices = [graph.matrix_of(node) for node in products]
        factor_I = _factors(largest[name], matrices)
        quantize, quantized, scale = _quantize(graph, name, factor_I)
        for node, matrix_IO in zip(products, matrices, strict=True):
            replaced[node.output[0]] = _multiply(graph, node, quantized, scale, factor_I[:, None] * matrix_IO)
        first = products[0].output[0]
        replaced[first] = quantize + replaced[first]
    lookups = [node for node in graph.model.graph.node if node.op_type == "Gather" and graph.has_matrix(node.input[0])]
    if lookups:
        # The word embeddings are the largest table; the others are small.
        words = max((node.input[0] for node in lookups), key=lambda name: graph.array(name).size)
        for node in lookups:
            if node.input[0] == words:
                replaced[node.output[0]] = _look_up(graph, node)
    return graph.replacing(replaced)


class _Graph:
    """A graph that is being changed: its weights by name, and constants that are added."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._num_names = 0

    def has_matrix(self, name: str) -> bool:
        """Return whether this is the name of a constant matrix of floating-point numbers."""
        tensor = self._weights.get(name)
        return tensor is not None and len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT

    def array(self, name: str) -> NDArray[Any]:
        """Return the weights of this name."""
        return np.asarray(numpy_helper.to_array(self._weights[name]))

    def matrix_of(self, product: NodeProto) -> NDArray[np.float32]:
        """Return the matrix that a product multiplies with, shape ``(I, O)``."""
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in product.attribute}
        matrix = self.array(product.input[1])
        return matrix.T if attributes.get("transB") else matrix

    def new_name(self) -> str:
        """Return a name that no other value has."""
        self._num_names += 1
        return f"int8_{self._num_names}"

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Add a constant and return its name."""
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), self.new_name())
        self.model.graph.initializer.append(tensor)
        return str(tensor.name)

    def replacing(self, replaced: dict[str, list[NodeProto]]) -> bytes:
        """Return the file with other nodes in place of those with these outputs, and without unused weights."""
        graph = self.model.graph
        nodes = [new for node in graph.node for new in replaced.get(node.output[0], [node])]
        used = {name for node in nodes for name in node.input}
        weights = [tensor for tensor in graph.initializer if tensor.name in used]
        for field, values in ((graph.node, nodes), (graph.initializer, weights)):
            del field[:]
            field.extend(values)
        # Shapes of values that no longer exist.
        del graph.value_info[:]
        return bytes(self.model.SerializeToString())


def _largest_activations(
    model: ModelProto, names: Sequence[str], batches: Iterable[Batch]
) -> dict[str, NDArray[np.float32]]:
    """Return the largest absolute value of each channel of these activations over the batches, shape ``(I,)``."""
    watched = ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    # ONNX Runtime would start a thread per core of the machine, and fail to pin those that this process may not use.
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    largest = dict.fromkeys(names, np.zeros(1, dtype=np.float32))
    for ids_BT, mask_BT in batches:
        values = session.run([*names], {"input_ids": ids_BT, "attention_mask": mask_BT})
        for name, value in zip(names, values, strict=True):
            largest[name] = np.maximum(largest[name], np.abs(value).reshape(-1, value.shape[-1]).max(0))
    return largest


def _factors(largest_I: NDArray[np.float32], matrices: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return by how much each channel of the activations is divided, and its weights are multiplied."""
    weight_I = np.max([np.abs(matrix_IO).max(1) for matrix_IO in matrices], axis=0)
    factor_I = np.maximum(largest_I, _TINY) ** _EXPONENT / np.maximum(weight_I, _TINY) ** (1 - _EXPONENT)
    return np.where((largest_I > _TINY) & (weight_I > _TINY), factor_I, 1).astype(np.float32)


def _quantize(graph: _Graph, name: str, factor_I: NDArray[np.float32]) -> tuple[list[NodeProto], str, str]:
    """Return nodes that quantize the activations of this name, and the names of the result and its scale per row."""
    smooth, absolute, largest, positive, scale, scaled, quantized = (graph.new_name() for _ in range(7))
    nodes = [
        helper.make_node("Mul", [name, graph.constant(1 / factor_I)], [smooth]),
        helper.make_node("Abs", [smooth], [absolute]),
        helper.make_node("ReduceMax", [absolute], [largest], axes=[-1], keepdims=1),
        # Rows of zeros stay zeros.
        helper.make_node("Max", [largest, graph.constant(_TINY)], [positive]),
        helper.make_node("Div", [positive, graph.constant(_LARGEST)], [scale]),
        helper.make_node("Div", [smooth, scale], [scaled]),
        helper.make_node("QuantizeLinear", [scaled, graph.constant(np.float32(1)), graph.constant(_ZERO)], [quantized]),
    ]
    return nodes, quantized, scale


def _multiply(
    graph: _Graph, product: NodeProto, quantized: str, scale: str, matrix_IO: NDArray[np.float32]
) -> list[NodeProto]:
    """Return nodes that multiply the quantized activations with the matrix, in place of the product."""
    scale_O = _scale(matrix_IO, axis=0)
    integer, number, by_row = (graph.new_name() for _ in range(3))
    has_bias = len(product.input) > 2
    result = graph.new_name() if has_bias else product.output[0]
    weight = graph.constant(np.rint(matrix_IO / scale_O).astype(np.int8))
    nodes = [
        helper.make_node("MatMulInteger", [quantized, weight, graph.constant(_ZERO)], [integer]),
        helper.make_node("Cast", [integer], [number], to=TensorProto.FLOAT),
        helper.make_node("Mul", [number, scale], [by_row]),
        helper.make_node("Mul", [by_row, graph.constant(scale_O[0])], [result]),
    ]
    return [*nodes, helper.make_node("Add", [result, product.input[2]], product.output)] if has_bias else nodes


def _look_up(graph: _Graph, lookup: NodeProto) -> list[NodeProto]:
    """Return nodes that look words up in a table of int8, in place of the lookup."""
    table_VD = graph.array(lookup.input[0])
    scale_V1 = _scale(table_VD, axis=1)
    table, scales = graph.constant(np.rint(table_VD / scale_V1).astype(np.int8)), graph.constant(scale_V1)
    integer, number, scale = (graph.new_name() for _ in range(3))
    return [
        helper.make_node("Gather", [table, lookup.input[1]], [integer]),
        helper.make_node("Cast", [integer], [number], to=TensorProto.FLOAT),
        helper.make_node("Gather", [scales, lookup.input[1]], [scale]),
        helper.make_node("Mul", [number, scale], lookup.output),
    ]


def _scale(matrix: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Return the scale by which the largest value along the axis becomes `_LARGEST`, with the axis kept."""
    largest = np.abs(matrix).max(axis, keepdims=True)
    return np.asarray(np.maximum(largest, _TINY) / _LARGEST, dtype=np.float32)
