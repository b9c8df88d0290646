"""The products of an int8 graph; `test_export` has whole encoders."""

import os

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from simile.scoring import Runtime
from simile.scoring.provider import open_session
from training.int8 import to_int8

FP32 = Runtime("CPUExecutionProvider", "fp32")
"""Opens int8 graphs as well: their operators are standard ones."""


def run(session, ids_BT, mask_BT):
    return session.run(None, {"input_ids": ids_BT, "attention_mask": mask_BT})[0]


def product(matrix_IO, bias_O=None):
    """Return a file that multiplies ``x`` with the matrix; the inputs of encoders are ignored."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "t"]) for name in ("input_ids", "attention_mask")
    ]
    weights = [numpy_helper.from_array(matrix_IO, "w")] + (
        [] if bias_O is None else [numpy_helper.from_array(bias_O, "b")]
    )
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"])
        if bias_O is None
        else helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "product", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize("is_gemm", [False, True])
def test_a_product_has_the_error_of_eight_bits(is_gemm):
    rng = np.random.default_rng(0)
    matrix_IO, bias_O = rng.normal(size=(64, 32)).astype(np.float32), rng.normal(size=32).astype(np.float32)
    x_BI = rng.integers(-1000, 1000, (50, 64))
    model = product(matrix_IO.T.copy(), bias_O) if is_gemm else product(matrix_IO)
    session = open_session(to_int8(model, [(x_BI, x_BI)]), FP32)
    expected_BO = x_BI @ matrix_IO + (bias_O if is_gemm else 0)
    error_BO = run(session, x_BI, x_BI) - expected_BO
    assert np.abs(error_BO).std() < 0.02 * expected_BO.std()


def test_channels_of_large_activations_are_smoothed():
    rng = np.random.default_rng(0)
    matrix_IO = rng.normal(size=(64, 32)).astype(np.float32)
    # One channel is 200 times as large as the others: without smoothing, these would have no bits left.
    x_BI = rng.integers(-100, 100, (50, 64)) * np.where(np.arange(64) == 7, 200, 1)
    session = open_session(to_int8(product(matrix_IO), [(x_BI, x_BI)]), FP32)
    others_BI = x_BI * (np.arange(64) != 7)
    error_BO = run(session, x_BI, x_BI) - x_BI @ matrix_IO
    assert error_BO.std() < 0.2 * (others_BI @ matrix_IO).std()


def test_rows_of_zeros_stay_zeros():
    matrix_IO = np.ones((4, 4), dtype=np.float32)
    x_BI = np.array([[0, 0, 0, 0], [1, 2, 3, 4]])
    session = open_session(to_int8(product(matrix_IO), [(x_BI, x_BI)]), FP32)
    assert run(session, x_BI, x_BI)[0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("threads", [1, 2])
def test_calibration_starts_no_more_threads_than_it_may(monkeypatch, threads):
    monkeypatch.setenv("SIMILE_THREADS", str(threads))
    x_BI = np.ones((2, 64), dtype=np.int64)
    before, started = set(os.listdir("/proc/self/task")), set()

    def batches():
        started.update(set(os.listdir("/proc/self/task")) - before)
        yield x_BI, x_BI

    to_int8(product(np.ones((64, 32), dtype=np.float32)), batches())
    assert len(started) == min(threads, len(os.sched_getaffinity(0))) - 1
